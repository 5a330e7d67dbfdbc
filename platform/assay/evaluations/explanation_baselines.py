"""Checks that a map does not rest on answers at its baseline, where there are no data."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from torch import Tensor

from assay import intervals
from assay.evaluations.base import estimated
from assay.evaluations.explanation_checks import CONCERNED
from assay.explain.base import Explainer, ExplanationError
from assay.explain.measures.base import MeasuredRecords
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.explain.moved_baselines import BASELINES, likeness_from_moved, spread_over
from assay.intervals import Interval
from assay.results import Check, Finding, Measurement, ReasonCode, not_applicable

_RECORDS = 20
"""Records whose maps are counted again."""
_FEWEST_OTHERS = 20
"""Records beside them that are needed to tell how data vary."""
_LEAST_ALIKE = 0.5
"""Least mean cosine of a map and of the same values counted from moved baselines. Of 54 honest networks its upper bound
is 0.73 or more on images with faint signs, and 0.86 or more on tables, digits and signals."""
_METRIC = "baseline_agreement"


def holds_from_moved_baselines(
    explainer: Explainer,
    values: Tensor,
    records: MeasuredRecords,
    clusters: np.ndarray | None,
    about: Mapping[str, object],
) -> list[Finding]:
    """Checks that integrated gradients are much the same from other baselines than the one they are counted from.

    A network can be changed near the baseline alone: no answer to a record changes, and the map becomes any other.

    Args:
        explainer: the method.
        values: (n, ...) its values by entry.
        records: that are explained; their pool says how data vary.
        clusters: (n,) records that count as one.
        about: conditions of the row.

    Returns:
        The likeness of the maps, and the check; a row without a value where there is none.
    """
    if not isinstance(explainer, IntegratedGradients):
        return [_unknown(f"{explainer.title} follows no line from one baseline", "no_method", about)]
    if records.reference.modality == "text":
        return [_unknown("a word without a meaning has no spread", "other_kind_of_records", about)]
    if len(records.pool) < _FEWEST_OTHERS:
        why = f"{len(records.pool)} other records are known, and {_FEWEST_OTHERS} are needed to tell how data vary"
        return [_unknown(why, "too_few_records", about)]
    rows = spread_over(len(records.x), _RECORDS)
    some = replace(records, x=records.x[rows], target=records.target[rows], cache={})
    try:
        alike, among = (found.cpu().numpy() for found in likeness_from_moved(values[rows], some))
    except ExplanationError as error:
        return [_unknown(str(error), error.reason, about)]
    if not np.isfinite(alike).any():
        return [_unknown("no value differs from 0", "inconclusive", about)]
    of_rows = None if clusters is None else clusters[rows]
    likeness, beside = (intervals.mean(values, of_rows).interval for values in (alike, alike - among))
    row = estimated(_METRIC, likeness, n=int(np.isfinite(alike).sum()), unit="cosine", conditions=about)
    return [row, _check(likeness, beside, explainer.name)]


def _check(interval: Interval, beside: Interval, method: str) -> Check:
    """Returns the check, from the likeness of the maps and how far it lies above that of moved baselines to others."""
    wrong = interval.high < _LEAST_ALIKE and beside.high < 0
    told = (
        f"counted from {BASELINES} moved baselines, the values have a mean cosine of {interval.value:.2f} with the "
        f"map, at most {interval.high:.2f} (limit {_LEAST_ALIKE}); beyond that of the values from one of them with those "
        f"from the others: {beside.value:+.2f}, at most {beside.high:+.2f} (limit 0)"
    )
    start = "the map rests on answers near its baseline, where there are no data: " if wrong else ""
    return Check(
        rule="holds_from_moved_baselines",
        concerns=CONCERNED,
        verdict="warn" if wrong else "pass",
        figure=interval.value,
        message=f"{start}{told}",
        conditions={"method": method},
    )


def _unknown(why: str, reason: ReasonCode, about: Mapping[str, object]) -> Measurement:
    return not_applicable(_METRIC, why, reason=reason, **about)
