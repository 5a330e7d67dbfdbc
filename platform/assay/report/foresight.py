"""Forecast of what a study could show about its requirements, before anything is run."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from scipy import optimize

from assay.data.base import Dataset
from assay.design import Design
from assay.errors import DataError
from assay.paired import differing_share
from assay.report.decisions import ONE_SIDED_LEVEL
from assay.report.scorecard import share_tested
from assay.study.plan import TestSize, tested
from assay.study.requirements import Requirement
from assay.study.spec import Cohort, Study

_OF_CLASS = {"sensitivity": 1, "worst_case_sensitivity": 1, "specificity": 0, "worst_case_specificity": 0}
_OF_RECORDS = ("accuracy", "worst_case", "certified", *_OF_CLASS)
"""Metrics that are shares of test records, whose variation by chance is known beforehand."""


@dataclass(frozen=True, kw_only=True)
class Showable:
    """The least value with which a requirement would be judged as met."""

    cohort: str
    requirement: Requirement
    deviations: float
    """Least excess over the limit, in standard deviations over folds or seeds; NaN where one run has no spread."""
    deviations_holm: float
    """The same at the strictest level of Holm's correction over the candidates."""
    figure: float = math.nan
    """Least value, if runs differ by chance alone; NaN where that is not known beforehand."""
    figure_holm: float = math.nan
    differing: float | None = None
    """For a loss to be ruled out on an official split: the greatest share of records that two equally good recipes may
    answer differently. NaN where even equal answers would not suffice; None where the test does not pair by record.
    """
    differing_holm: float | None = None
    records: int = 0
    """Test records of a run that the value would use; 0 where unknown."""
    asked: bool = True
    """Whether the study runs the evaluation that measures it."""

    @property
    def text(self) -> str:
        """The value from which the requirement could be shown, in words."""
        if not self.asked:
            return f"nothing: the evaluation {self.requirement.about.evaluation!r} is not asked"
        if not self.requirement.tested:
            return "compared, not tested"
        if math.isnan(self.deviations):
            return "cannot be shown: one run shows no spread; use more folds or repeats"
        if self.differing is not None and self.differing_holm is not None:
            first, last = map(_share, (self.differing, self.differing_holm))
            return f"paired by record: if equal recipes differ on {first} of {self.records} records; Holm: {last}"
        if math.isnan(self.figure):
            beyond = f"{self.deviations:.2f} standard deviations over runs beyond the limit"
            return f"{beyond}; {self.deviations_holm:.2f} after Holm"
        return f"from {self._from(self.figure)}; after Holm from {self._from(self.figure_holm)}"

    def _from(self, figure: float) -> str:
        excess = figure - self.requirement.limit
        if figure > self.requirement.about.most:
            return "more than is possible"
        return f"{100 * figure:.1f} % ({100 * excess:.1f} points above)"


def _share(differing: float) -> str:
    """Describes how many records recipes may answer differently."""
    return "none, and not even then," if math.isnan(differing) else f"at most {100 * differing:.1f} %"


def showable(study: Study, loaded: Mapping[str, Dataset | DataError]) -> Iterator[Showable]:
    """Returns for each requirement the least value with which a candidate could be shown to meet it.

    Args:
        study: with its requirements.
        loaded: result of ``plan.load_unsized``.

    Returns:
        Iterator over forecasts.
    """
    for name, cohort in study.cohorts.items():
        if not cohort.requirements:
            continue
        extent = tested(study, name, loaded)
        folds = 1 if extent.official else study.split.folds
        share = 0.0 if extent.official else share_tested(study)
        design = Design(folds=folds, repeats=study.split.repeats, official=extent.official, test_share=share)
        levels = ONE_SIDED_LEVEL, ONE_SIDED_LEVEL / len(cohort.candidates)
        selected = [evaluation for group in cohort.selected_evaluations for evaluation in group.evaluations]
        asked = {evaluation.name for evaluation in (*cohort.evaluations, *selected)}
        for requirement in cohort.requirements:
            first, last = (_deviations(design, level) for level in levels)
            found = Showable(
                cohort=name,
                requirement=requirement,
                deviations=first,
                deviations_holm=last,
                asked=requirement.about.evaluation in asked,
            )
            records = _records(requirement, cohort, extent)
            if not math.isnan(first) and records:
                figure, figure_holm = (_least(requirement.limit, one, design, records) for one in (first, last))
                found = replace(found, figure=figure, figure_holm=figure_holm, records=records)
            pairs = _pairs(requirement, cohort, extent)
            if not math.isnan(first) and pairs > 1:
                one, holm = (differing_share(abs(requirement.limit), pairs, level) for level in levels)
                found = replace(found, differing=one, differing_holm=holm, records=pairs)
            yield found


def _deviations(design: Design, level: float) -> float:
    return design.reach_of_test(level) if design.runs > 1 else math.nan


def _records(requirement: Requirement, cohort: Cohort, extent: TestSize) -> int:
    """Returns the test records of a run for a value; 0 where unknown, or where the metric is not a share of records."""
    return 0 if requirement.against or requirement.limit <= 0 else _asked(requirement, cohort, extent)


def _pairs(requirement: Requirement, cohort: Cohort, extent: TestSize) -> int:
    """Returns the test records that both recipes answer, where the loss of a share is to be ruled out; else 0."""
    losing = requirement.against is not None and (requirement.limit < 0) == requirement.upward
    return _asked(requirement, cohort, extent) if losing and requirement.limit and extent.official else 0


def _asked(requirement: Requirement, cohort: Cohort, extent: TestSize) -> int:
    """Returns the test records of a run that a share is measured on; 0 where unknown or not a share of records."""
    if requirement.metric not in _OF_RECORDS or extent.records is None:
        return 0
    asked = [getattr(e, "records", None) for e in cohort.evaluations if e.name == requirement.about.evaluation]
    records = min([extent.records, *(one for one in asked if isinstance(one, int))])
    if requirement.metric not in _OF_CLASS:
        return records
    place = _OF_CLASS[requirement.metric]
    return round(records * extent.share[place]) if place < len(extent.share) else 0


def _least(limit: float, deviations: float, design: Design, records: int) -> float:
    """Returns the least share that is significantly above a limit, where runs differ as samples of records do.

    On an official split the runs share their records: seeds that do not differ at all are the best case.
    """

    def lacking(share: float) -> float:
        spread = math.sqrt(share * (1 - share) / records)
        return limit + (1.96 if design.official else deviations) * spread - share

    return float(optimize.brentq(lacking, limit, 1.0)) if limit < 1 else math.inf
