"""Checks that a map does not rest on answers at its baseline, where there are no data."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from torch import Tensor

from assay import intervals
from assay.data.base import Modality
from assay.evaluations.explanation_checks import CONCERNED
from assay.evaluations.shares import estimated
from assay.explain.base import Explainer
from assay.explain.measures.base import MeasuredRecords
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.explain.moved_baselines import LINES, likeness_on_moved_lines
from assay.intervals import Interval
from assay.results import Check, Finding, Measurement, ReasonCode, not_applicable

_RECORDS = 20
"""Records whose maps are counted again."""
_FEWEST_OTHERS = 20
"""Records beside them that are needed to tell how data vary."""
_LEAST_OF_TABLES, _LEAST_ALIKE = 0.75, 0.5
"""Least mean cosine of a map and of those on moved lines. Of 76 honest networks, each with two baselines, the least
upper bound is 0.99 on tables, 0.93 on digits, and 0.77 on images and signals with small signs."""
_METRIC = "baseline_agreement"


def rests_on_data(
    explainer: Explainer,
    values: Tensor,
    records: MeasuredRecords,
    clusters: np.ndarray | None,
    about: Mapping[str, object],
) -> list[Finding]:
    """Checks that integrated gradients are much the same on lines that keep away from the baseline.

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
    # Records in the order of a file often lie class by class.
    n = len(records.x)
    rows = np.unique(np.linspace(0, n - 1, min(n, _RECORDS)).astype(int))
    some = replace(records, x=records.x[rows], target=records.target[rows], cache={})
    alike, among = (cosines.cpu().numpy() for cosines in likeness_on_moved_lines(values[rows], some))
    if not np.isfinite(alike).any():
        return [_unknown("no value differs from 0, or gradients are no numbers", "inconclusive", about)]
    of_rows = None if clusters is None else clusters[rows]
    likeness, beside = (intervals.mean(cosines, of_rows).interval for cosines in (alike, alike - among))
    row = estimated(_METRIC, likeness, n=int(np.isfinite(alike).sum()), unit="cosine", conditions=about)
    return [row, _check(likeness, beside, explainer.name, records.reference.modality)]


def _check(likeness: Interval, beside: Interval, method: str, modality: Modality) -> Check:
    """Returns the check, from the likeness of the maps and how far it lies above that of moved lines to each other.

    Signals vary in few directions, so most lines that keep away from the baseline stay among the records of a class,
    where a network that saturates has other gradients: of signals another map is inconclusive.
    """
    least = _LEAST_OF_TABLES if modality == "tabular" else _LEAST_ALIKE
    other_map = likeness.high < least and beside.high < 0
    told = (
        f"on {LINES} lines to each record that keep away from the baseline, gradients give maps with a mean cosine of "
        f"{likeness.value:.2f} with this one, at most {likeness.high:.2f} (limit {least}); beyond that of these with "
        f"each other: {beside.value:+.2f}, at most {beside.high:+.2f} (limit 0)"
    )
    start = "the map rests on answers near its baseline, where there are no data: " if other_map else ""
    if other_map and modality == "signal":
        start = "inconclusive: the map rests on answers near its baseline, or the network saturates among the records: "
    return Check(
        rule="rests_on_data",
        concerns=CONCERNED,
        verdict="pass" if not other_map else "inconclusive" if modality == "signal" else "warn",
        figure=likeness.value,
        message=f"{start}{told}",
        conditions={"method": method},
    )


def _unknown(why: str, reason: ReasonCode, about: Mapping[str, object]) -> Measurement:
    return not_applicable(_METRIC, why, reason=reason, **about)
