"""Conformal sets: their size, and how often they contain the true class."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from scipy.stats import betabinom

from assay import intervals, seeds
from assay.data.clusters import copies
from assay.evaluations.base import Evaluation
from assay.evaluations.shares import estimated, share
from assay.evaluations.subject import Subject
from assay.metrics import Chosen, Metric, ScorecardColumn, in_percent
from assay.registry import register
from assay.results import Check, Finding, Measurement, ReasonCode, not_applicable

Level = Annotated[float, Field(gt=0, lt=1)]
SetKind = Literal["LAC", "APS"]
"""Method that forms a set."""
_NAMES = ("conformal_coverage", "conformal_set_size", "conformal_worst_class_coverage")
_LEVEL = 0.05


@register("evaluation")
class Conformal(Evaluation):
    """Split conformal sets: their coverage, over all records and of the worst class, and their size.

    Two methods: LAC, whose score is one minus the probability of a class and whose sets are smallest on average
    (Sadinle et al. 2019, arXiv:1609.00451), and APS, randomised, whose coverage is more even over easy and hard records
    (Romano et al. 2020, arXiv:2006.02544). For any model, a set contains the true class with probability
    ``1 − alpha`` at least, provided that test and calibration records are exchangeable; a check compares the measured
    coverage with it.
    """

    looks_at = "probabilities"
    name: Literal["conformal"] = "conformal"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name=_NAMES[0],
            title="Conformal coverage",
            meaning="Share of records whose true class lies in the set that the model names.",
            columns=(
                ScorecardColumn(
                    key="conformal",
                    group="answers",
                    place=110,
                    title="Conformal coverage (≥ {alpha})",
                    meaning="Share of records whose true class lies in the set that the model names; sets are "
                    "calibrated to hold it for {alpha} of records like those of the calibration.",
                    where={"alpha": Chosen(preferred=0.1), "method": "LAC"},
                    texts={"alpha": lambda alpha: in_percent(1 - alpha)},
                    optional=True,
                ),
            ),
        ),
        Metric(
            name=_NAMES[1],
            title="Size of the conformal set",
            meaning="Classes that the set names, on average.",
            unit="classes",
            better="lower",
        ),
        Metric(
            name=_NAMES[2],
            title="Conformal coverage of the worst class",
            meaning="Conformal coverage of the records of the class that is covered least.",
            better="higher",
        ),
    )

    alphas: tuple[Level, ...] = Field(default=(0.1, 0.05), min_length=1)
    """Shares of records whose set may miss the true class."""
    methods: tuple[SetKind, ...] = Field(default=("LAC", "APS"), min_length=1)
    draws: int = Field(default=200, ge=50)

    @property
    def of_training_records(self) -> bool:
        return False

    def measure(self, subject: Subject) -> Sequence[Finding]:
        split = subject.split
        held, whose = subject.held_out
        held = subject.distinct(held)  # a promise rests on exchangeable records: a copy adds none
        asked = [(method, alpha) for method in self.methods for alpha in sorted(set(self.alphas), reverse=True)]
        if not len(held):
            return _none(asked, subject.why_none_held_out, "no_records")
        known, answers = subject.logits(held), subject.logits(split.test)
        if not (np.isfinite(known).all() and np.isfinite(answers).all()):
            return _none(asked, "the model answers NaN or infinity", "no_finite_answers")
        found: list[Finding] = []
        promises = []
        for method, alpha in asked:
            about = {"alpha": alpha, "method": method, "calibrated_on": f"{whose} split", "calibrated_from": len(held)}
            if len(held) < math.ceil(round(1 / alpha, 9)):
                why = f"miscoverage {alpha:g} needs at least {math.ceil(1 / alpha)} {whose} records, not {len(held)}"
                found += [not_applicable(name, why, reason="too_few_records", **about) for name in _NAMES]
                continue
            scores = _scores(subject, known, method, "calibration")
            threshold = quantile(scores[np.arange(len(held)), subject.dataset.y[held]], alpha)
            same = copies(subject.dataset, split.test)
            sets = _scores(subject, answers, method, "test", same) <= threshold
            found += [row.warn(*_cautions(subject, whose)) for row in self._measured(subject, sets, about)]
            hits = sets[np.arange(len(sets)), subject.dataset.y[split.test]]
            promises.append(
                Promise(method=method, alpha=alpha, hits=int(hits.sum()), n=len(hits), calibrated=len(held))
            )
        return [*found, *coverage_is_kept(promises)]

    def _measured(self, subject: Subject, sets: np.ndarray, about: dict[str, Any]) -> list[Measurement]:
        """Measures coverage, size and the worst class's coverage of the sets, (n, classes) bool."""
        rows = subject.split.test
        y, groups = subject.dataset.y[rows], subject.clusters(rows)
        hits, sizes = sets[np.arange(len(y)), y], sets.sum(1)
        size = intervals.bootstrap(
            lambda i: float(sizes[i].mean()),
            len(sizes),
            generator=seeds.stream(subject.seed, "bootstrap", "conformal_set_size"),
            draws=self.draws,
            groups=groups,
        )
        worst = min(np.unique(y), key=lambda k: hits[y == k].mean())
        own = None if groups is None else groups[y == worst]
        of_class = {"class": subject.dataset.class_names[worst], **about}
        return [
            share("conformal_coverage", hits, groups, nominal=1 - about["alpha"], **about),
            estimated("conformal_set_size", size, unit="classes", n=len(sizes), conditions=about),
            share("conformal_worst_class_coverage", hits[y == worst], own, **of_class),
        ]


def quantile(scores: np.ndarray, alpha: float) -> float:
    """Returns the ``⌈(n + 1)(1 − alpha)⌉``-th smallest calibration score.

    Args:
        scores: (n,) of the true class of each calibration record.
        alpha: share of records whose set may miss the true class.

    Returns:
        The score; infinite where there are too few records.
    """
    place = _place(len(scores), alpha)
    return math.inf if place > len(scores) else float(np.sort(scores)[place - 1])


@dataclass(frozen=True, kw_only=True)
class Promise:
    """Nominal and measured coverage of the sets of one kind."""

    method: str
    alpha: float
    hits: int
    n: int
    calibrated: int
    """Records of the calibration."""

    @property
    def shortfall(self) -> float:
        """Nominal coverage minus measured coverage."""
        return 1 - self.alpha - self.hits / self.n

    @property
    def p(self) -> float:
        """Probability of at most this many hits among exchangeable records.

        Without ties the hits are beta-binomial, since the threshold is an order statistic of the calibration (Vovk
        2012, arXiv:1209.2673); with ties there are more of them.
        """
        place = _place(self.calibrated, self.alpha)
        return float(betabinom.cdf(self.hits, self.n, place, self.calibrated + 1 - place))


def coverage_is_kept(promises: Sequence[Promise]) -> list[Check]:
    """Checks that no set covers significantly less than its nominal coverage (Bonferroni over all sets).

    Args:
        promises: of all kinds of sets.

    Returns:
        One check for each method, of its worst set.
    """
    found = []
    for method in dict.fromkeys(promise.method for promise in promises):
        limit = _LEVEL / len(promises)
        own = [promise for promise in promises if promise.method == method]
        worst = max(own, key=lambda promise: (promise.p < limit, promise.shortfall))
        found.append(
            Check(
                rule="conformal_coverage",
                concerns="conformal_coverage",
                verdict="warn" if worst.p < limit else "pass",
                figure=max(worst.shortfall, 0.0),
                message=f"{method} sets hold the true class of {worst.hits / worst.n:.1%} of the records where "
                f"{1 - worst.alpha:.0%} were promised (p = {worst.p:.2g}, limit {limit:.2g}): test and calibration "
                "records may not be exchangeable, as when they are of other patients or places",
                conditions={"method": method},
            )
        )
    return found


def _place(n: int, alpha: float) -> int:
    # Rounded first: 10 · 0.9 may lie a hair above 9 in floating point.
    return math.ceil(round((n + 1) * (1 - alpha), 9))


def _scores(
    subject: Subject, logits: np.ndarray, method: SetKind, part: str, same: np.ndarray | None = None
) -> np.ndarray:
    return subject.task.conformal_scores(logits, method, seeds.stream(subject.seed, "conformal", part), same)


def _cautions(subject: Subject, whose: str) -> list[str]:
    found = []
    if whose == "validation":
        found.append("calibrated on the validation split, on which operating points are chosen too")
    if subject.dataset.groups is not None:
        found.append("the promise is about records that are exchangeable; those of one group are not")
    return found


def _none(asked: list[tuple[SetKind, float]], why: str, reason: ReasonCode) -> list[Finding]:
    return [
        not_applicable(name, why, reason=reason, alpha=alpha, method=method)
        for method, alpha in asked
        for name in _NAMES
    ]
