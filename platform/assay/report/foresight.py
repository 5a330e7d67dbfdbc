"""What a study could show of its requirements, before anything is run: with few folds and many candidates, little."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from scipy import optimize

from assay.data.base import Dataset
from assay.errors import DataError
from assay.paired import differing_share
from assay.report.decisions import ONE_SIDED_LEVEL
from assay.report.scorecard import share_tested
from assay.statistics import Design
from assay.study.plan import TestSize, tested
from assay.study.requirements import Requirement
from assay.study.spec import Cohort, Study

_OF_CLASS = {"sensitivity": 1, "worst_case_sensitivity": 1, "specificity": 0, "worst_case_specificity": 0}
_OF_RECORDS = ("accuracy", "worst_case", "certified", *_OF_CLASS)
"""Shares of test records: how much they differ by chance alone is known beforehand."""


@dataclass(frozen=True, kw_only=True)
class Showable:
    """How far beyond its limit a figure must lie for a requirement to be judged met."""

    cohort: str
    requirement: Requirement
    deviations: float
    """The least excess, in standard deviations over folds or seeds; NaN where one run shows no spread."""
    deviations_holm: float
    """The same for the best of all candidates, which Holm's correction asks most of."""
    figure: float = math.nan
    """The least figure, if runs differ by chance alone; NaN where that is not known beforehand."""
    figure_holm: float = math.nan
    differing: float | None = None
    """Of a loss that is to be ruled out on an official split: the share of records that recipes which are equally good
    may answer differently, at most. NaN where agreement on all would not do; None where pairs by record are no part of
    the test."""
    differing_holm: float | None = None
    records: int = 0
    """Test records of a run that the figure would rest on; 0 where unknown."""
    asked: bool = True
    """Whether the study asks the evaluation that measures it."""

    @property
    def text(self) -> str:
        """From where on the requirement could be shown, in words."""
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
    """How many records recipes may answer differently, in words."""
    return "none, and not even then," if math.isnan(differing) else f"at most {100 * differing:.1f} %"


def showable(study: Study, loaded: Mapping[str, Dataset | DataError]) -> Iterator[Showable]:
    """For each requirement the least figure with which a candidate could be shown to meet it.

    Args:
        loaded: what ``plan.load_unsized`` gave.
    """
    for name, cohort in study.cohorts.items():
        if not cohort.requirements:
            continue
        extent = tested(study, name, loaded)
        folds = 1 if extent.official else study.split.folds
        share = 0.0 if extent.official else share_tested(study)
        design = Design(folds=folds, repeats=study.split.repeats, official=extent.official, test_share=share)
        levels = ONE_SIDED_LEVEL, ONE_SIDED_LEVEL / len(cohort.candidates)
        spared = [evaluation for one in cohort.selected_evaluations for evaluation in one.evaluations]
        asked = {evaluation.name for evaluation in (*cohort.evaluations, *spared)}
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
    """Test records of a run behind a figure; 0 where that is unknown, or where chance is not that of a share."""
    return 0 if requirement.against or requirement.limit <= 0 else _asked(requirement, cohort, extent)


def _pairs(requirement: Requirement, cohort: Cohort, extent: TestSize) -> int:
    """Test records that both recipes answer, where the loss of a share is to be ruled out; else 0."""
    losing = requirement.against is not None and (requirement.limit < 0) == requirement.upward
    return _asked(requirement, cohort, extent) if losing and requirement.limit and extent.official else 0


def _asked(requirement: Requirement, cohort: Cohort, extent: TestSize) -> int:
    """Test records of a run that a share is measured on; 0 where that is unknown, or where it is no share of them."""
    if requirement.metric not in _OF_RECORDS or extent.records is None:
        return 0
    asked = [getattr(e, "records", None) for e in cohort.evaluations if e.name == requirement.about.evaluation]
    records = min([extent.records, *(one for one in asked if isinstance(one, int))])
    if requirement.metric not in _OF_CLASS:
        return records
    place = _OF_CLASS[requirement.metric]
    return round(records * extent.share[place]) if place < len(extent.share) else 0


def _least(limit: float, deviations: float, design: Design, records: int) -> float:
    """The least share that lies significantly above a limit, where runs differ as samples of records do.

    On an official split the runs share their records: seeds that do not differ at all are the best case.
    """

    def lacking(share: float) -> float:
        spread = math.sqrt(share * (1 - share) / records)
        return limit + (1.96 if design.official else deviations) * spread - share

    return float(optimize.brentq(lacking, limit, 1.0)) if limit < 1 else math.inf
