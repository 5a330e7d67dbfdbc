"""Which candidates meet the requirements of a study: the verdicts, each with its test, its figures and its doubts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from assay.report.checks import Said, SummedUp, checks_of, sum_up
from assay.report.rows import (
    Found,
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
from assay.results import NOT_RELEASABLE
from assay.statistics import Design, holm
from assay.study.registration import Registration
from assay.study.requirements import Requirement
from assay.study.spec import Study

ONE_SIDED_LEVEL = 0.025
"""Of each one-sided test, and of the candidates together after Holm."""
RequirementVerdict = Literal["met", "not met", "inconclusive"]


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """One requirement of one candidate."""

    requirement: Requirement
    verdict: RequirementVerdict
    why: str = ""
    """What the verdict rests on, where a test says too little."""
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    """The figure, or the difference, with its 95 % interval; NaN where there is none."""
    p: float = math.nan
    """One-sided p that the requirement is not met; NaN where nothing was tested."""
    runs: int = 0
    """Folds or seeds behind the figure."""
    by_record: bool = False
    """Of a difference: whether it is paired by record; see ``statistics.Comparison``."""
    doubts: tuple[SummedUp, ...] = ()
    """Checks beside the figure that did not pass."""
    notes: tuple[str, ...] = ()
    """Other warnings beside it, in words."""
    releasable: bool = True
    """Whether no flag beside it says that the model may not leave."""
    post_hoc: bool = False
    """Whether the requirement was written or changed after the first measurement of these records."""

    @property
    def says(self) -> str:
        """The verdict in words; attacks can refute a worst case, and never prove it."""
        if self.verdict == "met" and self.requirement.about.evaluation == "robustness":
            return "not refuted by these attacks"
        return self.verdict


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One candidate against all requirements."""

    recipe: str
    judgements: tuple[Judgement, ...]
    p: float
    """The largest p of its requirements: all must be met together. NaN where one could not be tested."""
    p_holm: float
    """After Holm's correction over the candidates."""
    post_hoc: bool
    """Whether the recipe, or one of the requirements, was named after the first measurement of these records."""

    @property
    def verdict(self) -> RequirementVerdict:
        """Whether it is shown to meet all, shown to miss one, or neither."""
        verdicts = {one.verdict for one in self.judgements}
        if "not met" in verdicts:
            return "not met"
        return "met" if verdicts == {"met"} and self.p_holm <= ONE_SIDED_LEVEL else "inconclusive"

    @property
    def why(self) -> str:
        """Why it is inconclusive though each requirement is met; else empty."""
        each = all(one.verdict == "met" for one in self.judgements)
        return f"p = {self.p_holm:.2g} after Holm" if each and self.verdict == "inconclusive" else ""

    @property
    def doubts(self) -> tuple[SummedUp, ...]:
        """The checks that speak against its figures, each rule once, failed ones first."""
        each = sorted((d for one in self.judgements for d in one.doubts), key=lambda doubt: doubt.verdict != "fail")
        return tuple({doubt.rule: doubt for doubt in reversed(each)}.values())[::-1]

    @property
    def notes(self) -> tuple[str, ...]:
        """The other warnings beside its figures, each once."""
        return tuple(dict.fromkeys(note for one in self.judgements for note in one.notes))

    @property
    def releasable(self) -> bool:
        """Whether no flag beside its figures says that the model may not leave."""
        return all(one.releasable for one in self.judgements)


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """What a cohort was to show, and what was shown."""

    cohort: str
    design: Design
    requirements: tuple[Requirement, ...]
    decisions: tuple[Decision, ...]
    registration: Registration
    complete: bool
    """Whether every planned run of every candidate has finished; before that nothing is judged to be met."""

    @property
    def paired(self) -> Literal["by record", "apart", "both", ""]:
        """How the records of both recipes enter differences on an official split; empty where there are none."""
        each = [one for found in self.decisions for one in found.judgements if one.requirement.against and one.runs]
        known = {one.by_record for one in each}
        if not known or not self.design.official:
            return ""
        return "both" if len(known) > 1 else "by record" if True in known else "apart"

    @property
    def meeting(self) -> tuple[str, ...]:
        """Candidates that are shown to meet everything."""
        return tuple(one.recipe for one in self.decisions if one.verdict == "met")

    @property
    def missing(self) -> tuple[str, ...]:
        """Candidates that miss a requirement."""
        return tuple(one.recipe for one in self.decisions if one.verdict == "not met")

    @property
    def satisfied(self) -> bool:
        """Whether a candidate meets everything, and none misses anything."""
        return bool(self.meeting) and not self.missing


def decide(study: Study, name: str, frame: pd.DataFrame, registration: Registration) -> Decisions | None:
    """The verdicts of one cohort; None where its study states no requirements.

    Each requirement is tested one-sidedly at 2.5 %. A candidate is shown to meet all of them if the largest of their p
    passes Holm's correction over the candidates: an intersection-union test, which needs no correction over the
    requirements. It misses them if one is shown not to be met.

    Args:
        frame: rows of the results, as the store gives them.
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
    """The p of all requirements together: the largest; NaN where one cannot be tested, or is compared and not met."""
    compared = [one for one in judgements if not one.requirement.tested]
    if any(one.verdict != "met" for one in compared):
        return math.nan
    ps = [one.p for one in judgements if one.requirement.tested]
    return max(ps, default=0.0) if not any(math.isnan(p) for p in ps) else math.nan


class _Judge:
    """Holds the recipes of a cohort against its requirements.

    Args:
        frame: rows of the cohort.
    """

    def __init__(self, frame: pd.DataFrame, design: Design, registration: Registration) -> None:
        self._frame, self._design, self._registration = frame, design, registration
        self._checks: dict[str, list[Said]] = {}

    def finished(self, recipe: str) -> int:
        """Trials of a recipe that did not fail as a whole."""
        own = of_recipe(self._frame, recipe)
        failed = ((own["name"] == "trial") & (own["status"] == "failed")).to_numpy()
        return len(own[~failed][["repeat", "fold"]].drop_duplicates())

    def judged(self, recipe: str, requirement: Requirement) -> Judgement:
        """One requirement of one recipe."""
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
        """The rows that answer a requirement, in the norm of the scorecard where there are several."""
        name, where = requirement.about.measurement, requirement.conditions
        rows = select(of_recipe(self._frame, recipe), name, **where)
        norms = settings(measured(self._frame, name, **where), "norm")
        if len(norms) > 1:
            rows = select(rows, name, norm="linf" if "linf" in norms else norms[0])
        return largest_sample(rows)

    def _doubts(self, recipe: str, requirement: Requirement) -> tuple[SummedUp, ...]:
        if recipe not in self._checks:
            self._checks[recipe] = checks_of(of_recipe(self._frame, recipe))
        said = sum_up(
            check
            for check in self._checks[recipe]
            if check.judges(requirement.about.measurement, requirement.conditions)
        )
        return tuple(check for check in said if check.verdict != "pass")

    def _own(self, recipe: str, rows: pd.DataFrame) -> dict[str, Any]:
        """What evaluations themselves say beside the figures."""
        known = rows[(rows["status"] == "measured").to_numpy()]
        flags = own_flags(known, (check.rule for check in self._checks[recipe]))
        return {
            "notes": own_words(known, flags),
            "releasable": all(flag.rule != NOT_RELEASABLE for flag in flags),
        }

    def _why_no_evidence(self, recipe: str, requirement: Requirement, rows: pd.DataFrame, found: Judgement) -> str:
        """Why a figure beyond the limit shows nothing; empty if it does."""
        if failed := [doubt for doubt in found.doubts if doubt.verdict == "fail"]:
            return f"a check failed beside it: {failed[0].rule.replace('_', ' ')}"
        sides = [recipe] + ([requirement.against] if requirement.against not in (None, recipe) else [])
        for one in sides:
            if (done := self.finished(str(one))) < self._design.runs:
                return f"{done} of {self._design.runs} {self._design.run}s of {one} have finished"
        absent = rows[(rows["status"] != "measured").to_numpy()]
        return f"not measured in {len(absent)} of {len(rows)} {self._design.run}s" if len(absent) else ""

    def _compared(self, rows: pd.DataFrame, **about: Any) -> Judgement:
        """A budget that was spent: the largest of all runs against the limit."""
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


def _at(found: Found, places: Sequence[tuple[int, int]]) -> Found:
    return replace(found, places=tuple(places), runs=found.at(places), records=())
