"""Checks of maps: their sums, their single values, effects that the data do not show, and the made-up records asked."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from assay import intervals
from assay.evaluations.explanation_metrics import SHARE, SHARE_LEFT, SHARE_OF_GREATEST
from assay.evaluations.shares import estimated
from assay.explain.along_data import share_left, share_needed, slopes_of
from assay.explain.base import Attribution, Explainer
from assay.explain.measures.base import MeasuredRecords
from assay.explain.methods.attention import Attention
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.explain.off_data import effects_on_data, nearest_neighbour, share_off_data
from assay.intervals import Interval
from assay.results import Check, Finding, Measurement, ReasonCode, not_applicable

LARGEST_ERROR = 0.1
"""Greatest error of a sum, as a share of the change, and of a value, as a share of the greatest, without a warning."""
_NEARLY_ALL = 0.99
"""Share of the records whose errors must be below."""
_WATCHED = 5
"""Records whose explanation is watched for what it asks the model."""
_FEWEST_KNOWN = 20
"""Records that are needed to tell what is unlike them."""
_MOST_COLUMNS = 200
"""Columns of a table whose effects are measured one by one."""
_MOSTLY, _LEAST_EFFECT = 0.5, 0.1
"""Share of made-up records off the data, and the least effect of a map's first feature relative to the strongest."""
_LEAST_LEFT = 0.25
"""Least variance of the sum of the effects on the data, by the sum of their variances: 1 for slopes of random signs."""
_LEAST_NEEDED = 0.25
"""Least share of the squared length of the slopes that the same effects on the data need."""
CONCERNED = ("faithfulness", "insertion_gain")
"""Measurements that the checks judge."""


def errors(
    explainer: Explainer, attribution: Attribution, clusters: np.ndarray | None, about: Mapping[str, object]
) -> list[Finding]:
    """Returns the errors of sums and of values, where the method has them, with a check of each.

    Records whose error is no number are counted, and fail the limit.

    Args:
        explainer: the method.
        attribution: of n records.
        clusters: (n,) records that count as one; None where each counts by itself.
        about: conditions of the rows.

    Returns:
        Measurements and checks. Of integrated gradients without a second rule, a row that says so; nothing of methods
        that never have one, and of sums that need not add up.
    """
    found: list[Finding] = []
    name, rule = sum_of(explainer)
    sums = (name, rule, attribution.error, SHARE, "the values miss the change that they explain by")
    what = "two rules of a value differ by"
    single = ("value_error", "values_agree", attribution.value_error, SHARE_OF_GREATEST, what)
    advice = "; raise points" if isinstance(explainer, IntegratedGradients) else ""
    asked = [sums] if explainer.adds_up else []
    asked += [] if attribution.second is None else [single]
    for metric, check, error, unit, told in asked:
        values = error.double().cpu().numpy()
        known = ~np.isnan(values)
        count, unknown = int(known.sum()), int((~known).sum())
        if not count:
            why = f"{explainer.title}: of none of {unknown} records is the error a number"
            found.append(not_applicable(metric, why, reason="no_finite_answers", **about))
            continue
        worst = float(np.quantile(values[known], _NEARLY_ALL))
        interval = intervals.mean(values[known], None if clusters is None else clusters[known]).interval
        found.append(estimated(metric, interval, n=count, unit=unit, conditions=about))
        lost = f"; of {unknown} of {len(values)} records it is no number" if unknown else ""
        limit = f"limit {LARGEST_ERROR:.0%}"
        within = worst <= LARGEST_ERROR and unknown <= (1 - _NEARLY_ALL) * len(values)
        found.append(
            Check(
                rule=check,
                concerns=CONCERNED,
                verdict="pass" if within else "warn",
                figure=worst,
                message=f"{told} at most {worst:.1%} for 99 % of the records ({limit}){lost}{advice}",
                conditions={"method": explainer.name},
            )
        )
    if attribution.second is None and isinstance(explainer, IntegratedGradients):
        found.append(_no_second_rule(explainer, about))
    return found


def _no_second_rule(explainer: IntegratedGradients, about: Mapping[str, object]) -> Measurement:
    """Returns the row about the error of single values where one number of points alone was used."""
    needed = 2 * explainer.points + 1
    why = (
        f"the error of single values is unknown: {explainer.points} points are followed by {needed}, and at most "
        f"{explainer.most} are allowed; set most (points of the evaluation explanations) to {needed} or more, or begin "
        "with fewer points"
    )
    return not_applicable("value_error", why, reason="not_asked", **about)


def sum_of(explainer: Explainer) -> tuple[str, str]:
    """Returns the metric and the rule about the sum of a method's values.

    Args:
        explainer: the method.

    Returns:
        Both names.
    """
    return ("additivity_error", "additivity") if explainer.from_background else ("completeness_error", "completeness")


def along_the_data(
    explainer: Explainer,
    values: Tensor,
    records: MeasuredRecords,
    clusters: np.ndarray | None,
    about: Mapping[str, object],
) -> list[Finding]:
    """Checks that the effects which a map names do not cancel on records of the data without need.

    A network can be fine-tuned until its map is an arbitrary one, with slopes in directions in which the data do not
    vary: its answers stay (Anders et al. 2020, arXiv:2007.09969; Heo et al. 2019, arXiv:1902.02041). A decision by the
    difference of two columns that vary together has effects that cancel, too, and their small rest is the decision. So
    the check warns only where far shorter slopes have the same effects on the data.

    Args:
        explainer: the method.
        values: (n, ...) its values by entry.
        records: that are explained; their pool says how data vary.
        clusters: (n,) records that count as one.
        about: conditions of the row.

    Returns:
        The share that is left, and the check; a row without a value where there is none.
    """
    slopes = slopes_of(explainer, values, records)
    if slopes is None:
        texts = records.reference.modality == "text"
        why = "words have no slopes" if texts else f"{explainer.title} names no slope of an entry at a record"
        reason: ReasonCode = "other_kind_of_records" if texts else "no_method"
        return [not_applicable("left_on_the_data", why, reason=reason, **about)]
    if len(records.pool) < _FEWEST_KNOWN:
        why = f"{len(records.pool)} other records are known, and {_FEWEST_KNOWN} are needed to tell how data vary"
        return [not_applicable("left_on_the_data", why, reason="too_few_records", **about)]
    shows_slopes = not explainer.multiplies_by_change and records.reference.modality != "tabular"
    left = share_left(slopes, records.pool, one_unit=shows_slopes).cpu().numpy()
    if not np.isfinite(left).any():
        why = "no entry with a slope varies in the data"
        return [not_applicable("left_on_the_data", why, reason="inconclusive", **about)]
    interval = intervals.mean(left, clusters).interval
    n = int(np.isfinite(left).sum())
    row = estimated("left_on_the_data", interval, n=n, unit=SHARE_LEFT, conditions=about)
    needed = None
    if interval.high < _LEAST_LEFT:
        shorter = share_needed(slopes, records.pool, one_unit=shows_slopes).cpu().numpy()
        needed = intervals.mean(shorter, clusters).interval
    return [row, _varies(interval, needed, explainer.name)]


def _varies(left: Interval, needed: Interval | None, method: str) -> Check:
    """Returns the check of effects on the data: whether they cancel, and whether what is left of them is needed."""
    told = (
        f"on records of the data the sum of the effects that it names has {left.value:.0%} of the sum of their "
        f"variances, at most {left.high:.0%} (limit {_LEAST_LEFT:.0%}; slopes of random signs have 100 %)"
    )
    wrong = needed is not None and needed.high < _LEAST_NEEDED
    if needed is not None:
        start = (
            "most of the map does not matter on the data"
            if wrong
            else "its effects cancel for the most part, and what is left of them is needed, as in a contrast"
        )
        told = (
            f"{start}: {told}; slopes with {needed.value:.0%} of their squared length, at most {needed.high:.0%}, have "
            f"the same effects on the data (limit {_LEAST_NEEDED:.0%})"
        )
    return Check(
        rule="varies_with_the_data",
        concerns=CONCERNED,
        verdict="warn" if wrong else "pass",
        figure=left.value,
        message=told,
        conditions={"method": method},
    )


def off_the_data(
    explainer: Explainer, records: MeasuredRecords, values: Tensor, about: Mapping[str, object]
) -> list[Finding]:
    """Measures how many of the records that a method makes up are unlike the data, on a few records.

    Of tables it also checks that the feature that the maps name first matters on records like the data: a model can be
    built that decides by another feature wherever a record is made up (Slack et al. 2020, arXiv:1911.02508).

    Args:
        explainer: the method.
        records: that are explained; their pool says what data are like.
        values: (n, ...) their maps, by feature.
        about: conditions of the row.

    Returns:
        The row, and of tables the check; nothing for methods that ask no made-up records, for text, and for too small
        a pool.
    """
    some, x = slice(0, _WATCHED), records.x
    perturbs = not explainer.needs_gradient and not isinstance(explainer, Attention)
    if not perturbs or records.reference.modality == "text" or len(records.pool) < _FEWEST_KNOWN:
        return []
    detector = nearest_neighbour(records.pool.to(x))
    share = share_off_data(
        explainer, records.model, x[some], records.target[some], records.reference, detector, seed=records.seed
    )
    interval = intervals.mean(share.numpy()).interval
    found: list[Finding] = [estimated("off_the_data", interval, n=len(share), conditions=about)]
    if records.reference.modality == "tabular" and records.x[0].numel() <= _MOST_COLUMNS:
        found.append(_same_rule(explainer, records, values, interval.value))
    return found


def _same_rule(explainer: Explainer, records: MeasuredRecords, values: Tensor, off: float) -> Check:
    """Checks that the feature that a map names first matters on the data, too, not only on made-up records."""
    effects = effects_on_data(records)
    size = values.flatten(1).abs().mean(0)
    # Columns of one group share a value: the group matters if one of them does.
    first = size >= (1 - 1e-5) * size.max()
    ratio = float(effects[first].max() / effects.max()) if bool((effects > 0).any()) else 1.0
    fooled = off > _MOSTLY and ratio < _LEAST_EFFECT
    told = (
        f"{off:.0%} of the records that it asks are unlike the data; on records like the data, the feature that it "
        f"names first has {ratio:.0%} of the effect of the strongest (limit {_LEAST_EFFECT:.0%})"
    )
    return Check(
        rule="holds_on_the_data",
        concerns=CONCERNED,
        verdict="warn" if fooled else "pass",
        figure=ratio,
        message=f"explained off the data: {told}" if fooled else told,
        conditions={"method": explainer.name},
    )
