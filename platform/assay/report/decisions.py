"""Verdicts on the candidates of a study: which of them meet its requirements."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from assay.design import Design
from assay.report.checks import CheckResult, CheckSummary, checks_of, sum_up
from assay.report.rows import (
    RunValues,
    largest_sample,
    measured,
    of_cohort,
    of_recipe,
    own_flags,
    own_words,
    runs_of,
    select,
    settings,
    shared,
)
from assay.report.scorecard import design_of
from assay.results import NOT_RELEASABLE, RAISED
from assay.statistics import holm
from assay.study.registration import Registration
from assay.study.requirements import Requirement
from assay.study.spec import Study

ONE_SIDED_LEVEL = 0.025
"""Level of each one-sided test, and of all candidates together after Holm's correction."""
RequirementVerdict = Literal["met", "not met", "inconclusive"]


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The verdict on one requirement for one candidate."""

    requirement: Requirement
    verdict: RequirementVerdict
    why: str = ""
    """Reason of an inconclusive verdict."""
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    """The value, or the difference, with its 95 % interval; NaN where there is none."""
    p: float = math.nan
    """One-sided p-value of the hypothesis that the requirement is not met; NaN where nothing was tested."""
    runs: int = 0
    """Folds or seeds of the value."""
    by_record: bool = False
    """For a difference, whether it is paired by record; see ``statistics.Comparison``."""
    doubts: tuple[CheckSummary, ...] = ()
    """Checks of the value that did not pass."""
    notes: tuple[str, ...] = ()
    """Other warnings about the value, in words."""
    releasable: bool = True
    """Whether no flag of the value forbids the release of the model."""
    post_hoc: bool = False
    """Whether the requirement was written or changed after the first measurement of these records."""

    @property
    def says(self) -> str:
        """The verdict in words; attacks can refute a worst case, but never prove it."""
        if self.verdict == "met" and self.requirement.about.evaluation == "robustness":
            return "not refuted by these attacks"
        return self.verdict


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The verdict on one candidate over all requirements."""

    recipe: str
    judgements: tuple[Judgement, ...]
    p: float
    """The largest p-value of its requirements, because all must be met. NaN where one could not be tested."""
    p_holm: float
    """The same after Holm's correction over the candidates."""
    post_hoc: bool
    """Whether the candidate, or one of the requirements, was stated after the first measurement of these records."""

    @property
    def verdict(self) -> RequirementVerdict:
        """``met`` if all requirements are shown to be met, ``not met`` if one is not, else ``inconclusive``."""
        verdicts = {one.verdict for one in self.judgements}
        if "not met" in verdicts:
            return "not met"
        return "met" if verdicts == {"met"} and self.p_holm <= ONE_SIDED_LEVEL else "inconclusive"

    @property
    def why(self) -> str:
        """Why it is inconclusive although each requirement is met; else empty."""
        each = all(one.verdict == "met" for one in self.judgements)
        return f"p = {self.p_holm:.2g} after Holm" if each and self.verdict == "inconclusive" else ""

    @property
    def doubts(self) -> tuple[CheckSummary, ...]:
        """Checks of its values that did not pass, each rule once, failed ones first."""
        each = sorted((d for one in self.judgements for d in one.doubts), key=lambda doubt: doubt.verdict != "fail")
        return tuple({doubt.rule: doubt for doubt in reversed(each)}.values())[::-1]

    @property
    def notes(self) -> tuple[str, ...]:
        """Other warnings about its values, each once."""
        return tuple(dict.fromkeys(note for one in self.judgements for note in one.notes))

    @property
    def releasable(self) -> bool:
        """Whether no flag of its values forbids the release of the model."""
        return all(one.releasable for one in self.judgements)


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """The requirements and verdicts of a cohort."""

    cohort: str
    design: Design
    requirements: tuple[Requirement, ...]
    decisions: tuple[Decision, ...]
    registration: Registration
    complete: bool
    """Whether every planned run of every candidate has finished; before that no requirement is judged as met."""

    @property
    def paired(self) -> Literal["by record", "apart", "both", ""]:
        """How differences on an official split use the records of both recipes; empty without differences."""
        each = [one for found in self.decisions for one in found.judgements if one.requirement.against and one.runs]
        known = {one.by_record for one in each}
        if not known or not self.design.official:
            return ""
        return "both" if len(known) > 1 else "by record" if True in known else "apart"

    @property
    def meeting(self) -> tuple[str, ...]:
        """Candidates that are shown to meet all requirements."""
        return tuple(one.recipe for one in self.decisions if one.verdict == "met")

    @property
    def missing(self) -> tuple[str, ...]:
        """Candidates that are shown to miss a requirement."""
        return tuple(one.recipe for one in self.decisions if one.verdict == "not met")

    @property
    def satisfied(self) -> bool:
        """Whether a candidate meets all requirements, and none is shown to miss one."""
        return bool(self.meeting) and not self.missing


def decide(study: Study, name: str, frame: pd.DataFrame, registration: Registration) -> Decisions | None:
    """Judges the candidates of one cohort.

    Each requirement is tested one-sidedly at 2.5 %. A candidate is shown to meet all of them if the largest of their
    p-values passes Holm's correction over the candidates: an intersection-union test, which needs no correction over
    the requirements. It misses them if one is shown not to be met.

    Args:
        study: with the cohort.
        name: of the cohort.
        frame: rows of the results, as the store returns them.
        registration: when its requirements were stated.

    Returns:
        The verdicts; None for a cohort without requirements.
    """
    cohort = study.cohorts[name]
    if not cohort.requirements:
        return None
    frame = of_cohort(frame, name)
    design = design_of(study, name, frame)
    design = replace(design, done=None)
    judge = _Judge(frame, design, registration)
    each = {
        recipe: tuple(judge.judged(recipe, requirement) for requirement in cohort.requirements)
        for recipe in cohort.candidates
    }
    ps = [_together(judgements) for judgements in each.values()]
    # A candidate that could not be tested counts as one that was, with p = 1: nobody gains by failing.
    corrected = holm([1.0 if math.isnan(p) else p for p in ps])
    decisions = tuple(
        Decision(
            recipe=recipe,
            judgements=judgements,
            p=p,
            p_holm=p_holm,
            post_hoc=recipe in registration.post_hoc_candidates or any(one.post_hoc for one in judgements),
        )
        for (recipe, judgements), p, p_holm in zip(each.items(), ps, corrected, strict=True)
    )
    return Decisions(
        cohort=name,
        design=design,
        requirements=cohort.requirements,
        decisions=decisions,
        registration=registration,
        complete=all(judge.finished(recipe) == design.runs for recipe in cohort.candidates),
    )


def _together(judgements: Sequence[Judgement]) -> float:
    """Returns the p-value of all requirements together: the largest one."""
    compared = [one for one in judgements if not one.requirement.tested]
    if any(one.verdict != "met" for one in compared):
        return math.nan
    ps = [one.p for one in judgements if one.requirement.tested]
    return max(ps, default=0.0) if not any(math.isnan(p) for p in ps) else math.nan


class _Judge:
    """Judges the recipes of a cohort by its requirements.

    Args:
        frame: rows of the cohort.
    """

    def __init__(self, frame: pd.DataFrame, design: Design, registration: Registration) -> None:
        self._frame, self._design, self._registration = frame, design, registration
        self._checks: dict[str, list[CheckResult]] = {}

    def finished(self, recipe: str) -> int:
        """Counts the trials of a recipe that did not fail as a whole."""
        own = of_recipe(self._frame, recipe)
        failed = ((own["name"] == "trial") & (own["status"] == "failed")).to_numpy()
        return len(own[~failed][["repeat", "fold"]].drop_duplicates())

    def judged(self, recipe: str, requirement: Requirement) -> Judgement:
        """Judges one requirement for one recipe."""
        rows = self._rows(recipe, requirement)
        about: dict[str, Any] = {
            "requirement": requirement,
            "post_hoc": requirement.text in self._registration.post_hoc,
            "doubts": self._doubts(recipe, requirement),
            **self._own(recipe, rows),
        }
        found = self._compared(rows, **about) if not requirement.tested else self._tested(recipe, rows, **about)
        why = self._why_no_evidence(recipe, requirement, rows, found)
        # What is lacking, or what a check has refuted, supports nothing; it does not make a miss uncertain.
        return replace(found, verdict="inconclusive", why=why) if why and found.verdict == "met" else found

    def _rows(self, recipe: str, requirement: Requirement) -> pd.DataFrame:
        """Returns the rows that a requirement is judged by, in the norm of the scorecard where there are several."""
        name, where = requirement.about.measurement, requirement.conditions
        rows = select(of_recipe(self._frame, recipe), name, **where)
        norms = settings(measured(self._frame, name, **where), "norm")
        if len(norms) > 1:
            rows = select(rows, name, norm="linf" if "linf" in norms else norms[0])
        return largest_sample(rows)

    def _doubts(self, recipe: str, requirement: Requirement) -> tuple[CheckSummary, ...]:
        if recipe not in self._checks:
            self._checks[recipe] = checks_of(of_recipe(self._frame, recipe))
        said = sum_up(
            check
            for check in self._checks[recipe]
            if check.judges(requirement.about.measurement, requirement.conditions)
        )
        return tuple(check for check in said if check.verdict in RAISED)

    def _own(self, recipe: str, rows: pd.DataFrame) -> dict[str, Any]:
        """Returns the warnings that evaluations themselves gave to the values."""
        known = rows[(rows["status"] == "measured").to_numpy()]
        flags = own_flags(known, (check.rule for check in self._checks[recipe]))
        return {
            "notes": own_words(known, flags),
            "releasable": all(flag.rule != NOT_RELEASABLE for flag in flags),
        }

    def _why_no_evidence(self, recipe: str, requirement: Requirement, rows: pd.DataFrame, found: Judgement) -> str:
        """Returns why a value beyond the limit is no evidence; empty if it is."""
        if failed := [doubt for doubt in found.doubts if doubt.verdict == "fail"]:
            return f"a check failed beside it: {failed[0].rule.replace('_', ' ')}"
        sides = [recipe] + ([requirement.against] if requirement.against not in (None, recipe) else [])
        for one in sides:
            if (done := self.finished(str(one))) < self._design.runs:
                return f"{done} of {self._design.runs} {self._design.run}s of {one} have finished"
        absent = rows[(rows["status"] != "measured").to_numpy()]
        return f"not measured in {len(absent)} of {len(rows)} {self._design.run}s" if len(absent) else ""

    def _compared(self, rows: pd.DataFrame, **about: Any) -> Judgement:
        """Compares spent ε with the limit, using the largest of all runs."""
        requirement: Requirement = about["requirement"]
        if not len(rows):
            return Judgement(verdict="inconclusive", why="it was not measured", **about)
        statuses = set(rows["status"])
        if "measured" not in statuses:
            said = "; ".join(rows.iloc[0]["warnings"])
            return Judgement(verdict="not met" if statuses == {"not_applicable"} else "inconclusive", why=said, **about)
        value = float(rows["value"].max())
        below = value <= requirement.limit if requirement.direction == "at_most" else value < requirement.limit
        count = int((rows["status"] == "measured").sum())
        return Judgement(verdict="met" if below else "not met", value=value, runs=count, **about)

    def _tested(self, recipe: str, rows: pd.DataFrame, **about: Any) -> Judgement:
        requirement: Requirement = about["requirement"]
        if requirement.against == recipe:
            holds = requirement.limit <= 0 if requirement.upward else requirement.limit >= 0
            why = "it is the recipe that it would be compared with"
            return Judgement(verdict="met" if holds else "not met", why=why, value=0.0, p=float(not holds), **about)
        found = runs_of(rows)
        if not len(found):
            why = "; ".join(rows.iloc[0]["warnings"]) if len(rows) else "it was not measured"
            return Judgement(verdict="inconclusive", why=why, **about)
        other = None
        if requirement.against is not None:
            baseline = runs_of(self._rows(requirement.against, requirement))
            pairs = shared((found, baseline), same_records=True)
            found, other = _at(found, pairs), _at(baseline, pairs)
        test = self._design.against_limit(found.runs, requirement.limit, less=None if other is None else other.runs)
        p, opposite = (test.p_above, test.p_below)[:: 1 if requirement.upward else -1]
        verdict: RequirementVerdict = (
            "met" if p <= ONE_SIDED_LEVEL else "not met" if opposite <= ONE_SIDED_LEVEL else "inconclusive"
        )
        why = f"one {self._design.run} shows no spread" if math.isnan(p) and test.count == 1 else ""
        why = "no run has both figures on the same records" if test.count == 0 else why
        # NaN, where there is no interval, stays as it is.
        low, high = np.clip((test.low, test.high), requirement.least, requirement.most).tolist()
        about |= {"runs": test.count, "by_record": test.by_record}
        return Judgement(verdict=verdict, why=why, value=test.value, low=low, high=high, p=p, **about)


def _at(found: RunValues, places: Sequence[tuple[int, int]]) -> RunValues:
    return replace(found, places=tuple(places), runs=found.at(places), records=())
