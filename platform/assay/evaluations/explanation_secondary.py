"""Further measures of maps, each beside the map of another record where a control has a score."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from assay import intervals
from assay.evaluations.base import estimated
from assay.evaluations.explanation_gains import ExplainedMap
from assay.evaluations.explanation_metrics import P_VALUE
from assay.explain.base import ExplanationError
from assay.explain.measures.base import ExplanationMeasure, MeasuredMap, MeasuredRecords
from assay.explain.measures.controls.same_values import OtherRecord
from assay.metrics import Metric
from assay.results import Finding, Measurement, ReasonCode, not_applicable
from assay.statistics import holm

OF_CONTROL = "other_record"


@dataclass(frozen=True, kw_only=True)
class ScorePair:
    """Scores of a map and of its control by a measure that decides."""

    own: np.ndarray
    """(n,) of the map."""
    control: np.ndarray
    """(n,) of the control."""
    better: str
    """``higher`` or ``lower``."""


def secondary(
    measures: Sequence[ExplanationMeasure],
    maps: Sequence[ExplainedMap],
    records: MeasuredRecords,
    clusters: np.ndarray | None,
    *,
    draws: int,
) -> list[Finding]:
    """Scores maps by several measures.

    The one-sided p of a map against another record's map is corrected by Holm over all methods and measures together.

    Args:
        measures: that are asked.
        maps: of the same records.
        records: with the model.
        clusters: (n,) records that count as one.
        draws: of the control.

    Returns:
        A row for each measure and map, one for its control, and p where the measure decides.
    """
    control = OtherRecord()
    rows: list[Finding] = []
    tests: list[ScorePair] = []
    about_tests: list[tuple[int, dict[str, object]]] = []
    for measure in measures:
        why, reason = _why_not(measure, records)
        if why:
            rows += [not_applicable(measure.name, why, reason=reason, **one.about) for one in maps]
            continue
        for given in maps:
            one = given
            if records.reference.modality == "text":  # maps of other lengths have values by word alone
                one = replace(given, map=replace(given.map, entries=None))
            try:
                own = measure.score(records, one.map).double().cpu().numpy()
            except ExplanationError as error:  # of other records or networks than those that were explained
                rows.append(not_applicable(measure.name, str(error), reason=error.reason, **one.about))
                continue
            rows.append(_row(measure, own, clusters, {**one.about}))
            if measure.needs_method or len(records.x) < 2:
                continue
            other = _of_control(measure, records, one, control, draws)
            rows.append(_row(measure, other, clusters, {**one.about, "control": OF_CONTROL}))
            if measure.decides and rows[-2].status == "measured":  # type: ignore[union-attr]
                tests.append(ScorePair(own=own, control=other, better=measure.better))
                about_tests.append((len(own), {**one.about, "endpoint": measure.name, "control": OF_CONTROL}))
    rows += [
        Measurement(name="measure_p", value=p, n=n, unit=P_VALUE, conditions=where)
        for (n, where), p in zip(about_tests, corrected(tests, clusters), strict=True)
    ]
    return rows


def corrected(tests: Sequence[ScorePair], clusters: np.ndarray | None) -> list[float]:
    """Returns the one-sided p of each map against its control, by Holm over all of them.

    Args:
        tests: scores of maps and of their controls.
        clusters: (n,) records that count as one.

    Returns:
        The p-values, 1 where there is none.
    """
    signs = (1 if one.better == "higher" else -1 for one in tests)
    ps = [
        intervals.mean(sign * (one.own - one.control), clusters).p_above for sign, one in zip(signs, tests, strict=True)
    ]
    return holm([1.0 if np.isnan(p) else p for p in ps])


def _why_not(measure: ExplanationMeasure, records: MeasuredRecords) -> tuple[str, ReasonCode]:
    """Returns why a measure has no score for these records, with the code of the reason; empty where it has one."""
    if records.reference.modality not in measure.modalities:
        return f"{measure.title} measures no maps of records of this kind", "other_kind_of_records"
    if measure.trains and records.learnt is None:
        return f"{measure.title} trains a network on training records: of a private recipe no ε pays for it", "unpaid"
    if measure.most_entries is not None and records.x[0].numel() > measure.most_entries:
        many, most = records.x[0].numel(), measure.most_entries
        return f"{measure.title} trains networks, and is asked of records of up to {most} numbers; these have {many}", (
            "other_kind_of_records"
        )
    return "", "unspecified"


def metrics_of(measures: Sequence[type[ExplanationMeasure]]) -> tuple[Metric, ...]:
    """Returns the metrics that the cards of measures declare.

    Args:
        measures: classes of measures.

    Returns:
        A metric for each, with what it catches and misses.
    """
    return tuple(
        Metric(
            name=str(measure.model_fields["name"].default),
            title=measure.title,
            meaning=f"{measure.meaning} Catches: {measure.catches} Misses: {measure.misses}",
            unit="",
            better=measure.better,
        )
        for measure in measures
    )


def _of_control(
    measure: ExplanationMeasure, records: MeasuredRecords, one: ExplainedMap, control: OtherRecord, draws: int
) -> np.ndarray:
    """Returns the mean score of other records' maps, read as the map itself is: as slopes, or as contributions."""
    found = []
    for number in range(draws):
        others = control.others(records, number)
        own = one.map
        if own.entries is None or records.reference.modality == "text":
            drawn = MeasuredMap(values=control.draw(records, own.values, number))
        else:
            drawn = replace(own, values=own.values[others], entries=own.entries[others], again=None, of_others=None)
        found.append(measure.score(records, drawn).double().cpu().numpy())
    return np.mean(found, axis=0)


def _row(
    measure: ExplanationMeasure, values: np.ndarray, clusters: np.ndarray | None, conditions: dict[str, object]
) -> Measurement:
    known = int(np.isfinite(values).sum())
    if not known:
        why = f"{measure.title} has no value for any record"
        return not_applicable(measure.name, why, reason="no_records", **conditions)
    interval = intervals.mean(values, clusters).interval
    return estimated(measure.name, interval, n=known, unit="", conditions=conditions)
