"""Claims of the reproduced study and its field, compared with the results."""

import math
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml
from pydantic import Field, model_validator

from assay.design import Design, Runs, weighed
from assay.metrics import rests_on_a_sample
from assay.registry import Settings
from assay.report.rows import largest_sample, measured, of_recipe, runs_of, shared
from assay.results import NOT_RELEASABLE, RAISED
from assay.statistics import Summary

ClaimVerdict = Literal["holds", "stronger", "weaker", "inconclusive", "not tested here"]
_TERMS = {"value": 1, "difference": 2, "excess": 4, "ratio": 2}


class Term(Settings):
    """One measurement of one recipe."""

    recipe: str | tuple[str, ...]
    """Its name, or several names, of which the first that the cohort has is used."""
    name: str
    where: dict[str, Any] = Field(default_factory=dict)
    """Conditions; ``epsilon: reference`` is the reference radius of the cohort."""


class Claim(Settings):
    """A claim of the literature, and the quantity to compare it with."""

    id: str
    says: str
    source: str = "the reproduced study"
    """The publication that makes the claim."""
    quantity: Literal["value", "difference", "excess", "ratio"] = "value"
    unit: Literal["percent", "times"] = "percent"
    terms: tuple[Term, ...] = ()
    claimed: tuple[float | None, float | None] = (None, None)
    """The range that the source gives; None for an open end."""
    stronger: Literal["higher", "lower"] = "higher"
    """The side of the range on which the effect is stronger than claimed."""
    provided: tuple[Term, ...] = ()
    """Checks, by the names of their rows, that must not warn of these recipes; else the terms cannot be compared."""
    not_tested: str = ""
    """Why it cannot be tested here."""
    dataset: str = ""
    """Name of the only data set that it concerns; empty for a claim about any."""
    same_records: bool = False
    """Whether the source measured the test records of the data set's own split: then records are no source of
    difference, and the interval is that over seeds alone."""
    note: str = ""
    """What a reader must know of the source's figure."""

    @model_validator(mode="after")
    def _is_whole(self) -> "Claim":
        if not self.not_tested and len(self.terms) != _TERMS[self.quantity]:
            raise ValueError(f"{self.id}: a {self.quantity} takes {_TERMS[self.quantity]} terms, not {len(self.terms)}")
        if not self.not_tested and self.claimed == (None, None):
            raise ValueError(f"{self.id}: claimed says nothing")
        return self


@dataclass(frozen=True, kw_only=True)
class JudgedClaim:
    """A claim with its measured quantity and verdict."""

    claim: Claim
    measured: Summary | None
    """Mean of the claim's quantity over folds or seeds, with its 95 % interval; None where it was not tested."""
    verdict: ClaimVerdict
    why: str = ""
    """Reason of the verdict, or why there is none."""
    warnings: tuple[str, ...] = ()
    """Messages of the checks that concern the measured quantity."""
    by_record: bool = False
    """Whether a difference is paired by record; see ``statistics.Comparison``."""


@lru_cache(maxsize=1)
def read_claims() -> tuple[Claim, ...]:
    """Reads every claim of ``claims.yaml``, in its order.

    Returns:
        The claims.
    """
    text = resources.files("assay.report").joinpath("claims.yaml").read_text(encoding="utf-8")
    return tuple(Claim.model_validate(raw) for raw in yaml.safe_load(text))


def judge_claim(claim: Claim, frame: pd.DataFrame, *, reference_epsilon: float, design: Design) -> JudgedClaim:
    """Compares one claim with the results of one cohort.

    ``holds`` where the whole interval lies in the claimed range, ``stronger`` or ``weaker`` where all of it lies
    outside on one side, ``inconclusive`` where it contains an end of the range.

    Args:
        claim: to judge.
        frame: rows of the cohort.
        reference_epsilon: radius that ``epsilon: reference`` stands for.
        design: of the cohort: determines the interval.

    Returns:
        The claim with its verdict.
    """
    if why := _why_not_tested(claim, frame, reference_epsilon):
        return JudgedClaim(claim=claim, measured=None, verdict="not tested here", why=why)
    rows = [_rows(frame, term, reference_epsilon) for term in claim.terms]
    values = [runs_of(own) for own in rows]
    sampled = all(rests_on_a_sample(term.name) for term in claim.terms)
    places = shared(values, same_records=sampled)
    if not places and shared(values):
        counts = sorted({count for each in values for count in each.records})
        why = f"its figures are of different records ({' and '.join(map(str, counts))} in a {design.run})"
        return JudgedClaim(claim=claim, measured=None, verdict="not tested here", why=why)
    if not places:
        why = f"its recipes share no finished {design.run}"
        return JudgedClaim(claim=claim, measured=None, verdict="not tested here", why=why)
    runs = [each.at(places) for each in values]
    if claim.same_records and design.official:
        runs = [replace(each, low=each.values, high=each.values, outcomes=()) for each in runs]
    measured, by_record = _summary(claim, runs, design)
    verdict, why = _verdict(claim, measured, design)
    warned = [flag.text for own in rows for flags in own["flags"] for flag in flags if flag.rule != NOT_RELEASABLE]
    about: dict[str, Any] = {"warnings": _once(warned), "by_record": by_record}
    return JudgedClaim(claim=claim, measured=measured, verdict=verdict, why=why, **about)


def claim_figure(value: float, claim: Claim) -> str:
    """Formats a value of a claim in its own unit.

    Args:
        value: of the claim's quantity.
        claim: with the unit.

    Returns:
        Text such as ``1.50×``.
    """
    if claim.unit == "times":
        return f"{value:.2f}×"
    return f"{value:.1%}" if claim.quantity == "value" else f"{100 * value:+.1f} points"


def claimed_text(claim: Claim) -> str:
    """Formats the claimed range.

    Args:
        claim: with its range.

    Returns:
        A text.
    """
    low, high = claim.claimed
    if low is None:
        return "" if high is None else f"at most {claim_figure(high, claim)}"
    return (
        f"at least {claim_figure(low, claim)}"
        if high is None
        else f"{claim_figure(low, claim)} to {claim_figure(high, claim)}"
    )


def _rows(frame: pd.DataFrame, term: Term, reference_epsilon: float) -> pd.DataFrame:
    where = {key: reference_epsilon if wanted == "reference" else wanted for key, wanted in term.where.items()}
    rows = of_recipe(measured(frame, term.name, **where), _recipe(frame, term))
    return largest_sample(rows) if rests_on_a_sample(term.name) else rows


def _why_not_tested(claim: Claim, frame: pd.DataFrame, reference_epsilon: float) -> str:
    """Returns why a cohort does not test a claim; empty where it does."""
    if claim.not_tested:
        return claim.not_tested
    if claim.dataset and claim.dataset not in set(frame["dataset"]):
        return f"it concerns the data set {claim.dataset}"
    for term in (*claim.terms, *claim.provided):
        rows = _rows(frame, term, reference_epsilon)
        recipe, name = _recipe(frame, term), term.name.removeprefix("check.").replace("_", " ")
        if not len(rows):
            return (
                f"no {term.name} of {recipe}"
                if recipe in set(frame["recipe"])
                else f"no recipe {recipe} in this cohort"
            )
        bad = int(rows["verdict"].isin(RAISED).sum()) if term in claim.provided else 0
        if bad:
            about = str(term.where.get("method", "")).replace("_", " ")
            return f"the check {name} of {about or recipe} did not pass in {bad} of {len(rows)} runs"
    return ""


def _recipe(frame: pd.DataFrame, term: Term) -> str:
    """Returns the name of a recipe in this cohort; the first name of all where it has none."""
    names = (term.recipe,) if isinstance(term.recipe, str) else term.recipe
    known = set(frame["recipe"])
    return next((name for name in names if name in known), names[0])


def _summary(claim: Claim, terms: list[Runs], design: Design) -> tuple[Summary, bool]:
    """Returns mean and interval of a claim's quantity, and whether it is paired by record."""
    if claim.quantity == "ratio":
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = [Runs(values=np.log(t.values), low=np.log(t.low), high=np.log(t.high)) for t in terms]
        ratio = design.summarise(weighed(logs, (1, -1)))
        ends = {key: math.exp(getattr(ratio, key)) for key in ("mean", "low", "high")}
        return Summary(deviation=ratio.deviation, count=ratio.count, of=ratio.of, **ends), False
    signs = {"value": [1], "difference": [1, -1], "excess": [1, -1, -1, 1]}[claim.quantity]
    total = weighed(terms, signs)
    return design.summarise(total), total.paired is not None


def _verdict(claim: Claim, measured: Summary, design: Design) -> tuple[ClaimVerdict, str]:
    if measured.count < 2 or math.isnan(measured.low):
        return "inconclusive", f"one {design.run} shows no spread"
    low, high = (math.inf * sign if end is None else end for end, sign in zip(claim.claimed, (-1, 1), strict=True))
    if measured.low > high:
        return ("stronger" if claim.stronger == "higher" else "weaker"), "all of the interval lies above the range"
    if measured.high < low:
        return ("stronger" if claim.stronger == "lower" else "weaker"), "all of the interval lies below the range"
    if measured.low >= low and measured.high <= high:
        return "holds", "all of the interval lies in the range"
    return "inconclusive", "the interval crosses an end of the range"


def _once(warnings: list[str]) -> tuple[str, ...]:
    """Returns the first warning of each rule; warnings that differ only by numbers count as one."""
    return tuple({re.sub(r"[\d.]+", "", warning): warning for warning in reversed(warnings)}.values())
