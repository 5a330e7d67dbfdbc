"""Further measures of maps, each beside the map of another record where a control has a score."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from assay import intervals
from assay.data.base import Modality
from assay.evaluations.explanation_gains import ExplainedMap
from assay.evaluations.explanation_metrics import P_VALUE
from assay.evaluations.shares import estimated
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
    unlearnt: tuple[str, ReasonCode] = ("none are given", "not_trained_here"),
) -> list[Finding]:
    """Scores maps by several measures.

    The one-sided p of a map against another record's map is corrected by Holm over all methods and measures together.

    Args:
        measures: that are asked.
        maps: of the same records.
        records: with the model.
        clusters: (n,) records that count as one.
        draws: of the control.
        unlearnt: why there are no training records, in words and as a code, where there are none.

    Returns:
        A row for each measure and map, one for its control, and p where the measure decides.
    """
    rows: list[Finding] = []
    tests: list[ScorePair] = []
    about_tests: list[tuple[int, dict[str, object]]] = []
    asked = []
    for measure in measures:
        why, reason = _why_not(measure, records, unlearnt)
        rows += [not_applicable(measure.name, why, reason=reason, **one.about) for one in maps] if why else []
        asked += [] if why else [measure]
    for given in maps:
        one = given
        if records.reference.modality == "text":  # maps of other lengths have values by word alone
            one = replace(given, map=replace(given.map, entries=None, cache={}))
        owns: dict[ExplanationMeasure, np.ndarray] = {}
        for measure in asked:
            try:
                owns[measure] = measure.score(records, one.map).double().cpu().numpy()
            except ExplanationError as error:  # of other records or networks than those that were explained
                rows.append(not_applicable(measure.name, str(error), reason=error.reason, **one.about))
        others = _of_control([measure for measure in owns if not measure.needs_method], records, one, draws)
        for measure, own in owns.items():
            row = _row(measure, own, clusters, {**one.about})
            rows.append(row)
            if measure not in others:
                continue
            other, known = others[measure], row.status == "measured"
            rows.append(_row(measure, other, clusters, {**one.about, "control": OF_CONTROL}))
            if measure.decides and known:
                tests.append(ScorePair(own=own, control=other, better=measure.better))
                about_tests.append((len(own), {**one.about, "endpoint": measure.name, "control": OF_CONTROL}))
        one.map.cache.clear()
    return [
        *rows,
        *(
            Measurement(name="measure_p", value=p, n=n, unit=P_VALUE, conditions=where)
            for (n, where), p in zip(about_tests, corrected(tests, clusters), strict=True)
        ),
    ]


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


def _why_not(
    measure: ExplanationMeasure, records: MeasuredRecords, unlearnt: tuple[str, ReasonCode]
) -> tuple[str, ReasonCode]:
    """Returns why a measure has no score for these records, with the code of the reason; empty where it has one."""
    why = why_unfit(measure, records.reference.modality, records.x[0].numel())
    if why:
        return why, "other_kind_of_records"
    if measure.trains and records.learnt is None:
        return f"{measure.title} trains a network on training records: {unlearnt[0]}", unlearnt[1]
    return "", "unspecified"


def why_unfit(measure: ExplanationMeasure, modality: Modality, entries: int) -> str:
    """Returns why a measure is not asked of records of a kind.

    Args:
        measure: in question.
        modality: of the records.
        entries: numbers of a record.

    Returns:
        The reason; empty where it is asked.
    """
    if modality not in measure.modalities:
        return f"{measure.title} measures no maps of records of this kind"
    if measure.most_entries is not None and entries > measure.most_entries:
        most = measure.most_entries
        return f"{measure.title} trains networks, and is asked of records of up to {most} numbers; these have {entries}"
    return ""


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
    measures: Sequence[ExplanationMeasure], records: MeasuredRecords, one: ExplainedMap, draws: int
) -> dict[ExplanationMeasure, np.ndarray]:
    """Returns the mean scores of other records' maps, read as the map itself is: as slopes, or as contributions.

    All measures score a draw before the next one is made, so that they share what is computed of it.
    """
    if len(records.x) < 2:
        return {}
    control, own = OtherRecord(), one.map
    found: dict[ExplanationMeasure, list[np.ndarray]] = {measure: [] for measure in measures}
    for number in range(draws if measures else 0):
        if own.entries is None or records.reference.modality == "text":
            drawn = MeasuredMap(values=control.draw(records, own.values, number))
        else:
            others = control.others(records, number)
            drawn = replace(
                own, values=own.values[others], entries=own.entries[others], again=None, of_others=None, cache={}
            )
        for measure, scores in found.items():
            scores.append(measure.score(records, drawn).double().cpu().numpy())
    return {measure: np.mean(scores, axis=0) for measure, scores in found.items()}


def _row(
    measure: ExplanationMeasure, values: np.ndarray, clusters: np.ndarray | None, conditions: dict[str, object]
) -> Measurement:
    known = int(np.isfinite(values).sum())
    if not known:
        why = f"{measure.title} has no value for any record"
        return not_applicable(measure.name, why, reason="no_records", **conditions)
    interval = intervals.mean(values, clusters).interval
    return estimated(measure.name, interval, n=known, unit="", conditions=conditions)
