"""Selective classification: the risk where the model answers only when it is sure."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from scipy.stats import beta

from assay import intervals, seeds
from assay.evaluations.base import Evaluation
from assay.evaluations.shares import estimated, share
from assay.evaluations.subject import Subject
from assay.metrics import Chosen, Metric, ScorecardColumn, in_percent
from assay.registry import register
from assay.results import Check, Finding, Measurement, not_applicable

Coverage = Annotated[float, Field(gt=0, le=1)]
_EVERY_TWENTIETH = tuple(round(1 - step / 20, 2) for step in range(20))
_ABSTENTION = ("abstention_rate", "risk_after_abstention")


@register("evaluation")
class Selective(Evaluation):
    """The risk-coverage curve, the area under it, and abstention at a chosen risk.

    Confidence is the greatest softmax probability. Risk is the share of wrong answers among those that are given, the
    most confident first (El-Yaniv & Wiener 2010). The threshold of abstention is chosen on the calibration split, or on
    the validation split where there is none (and early stopping has not used it), with guaranteed risk (Geifman &
    El-Yaniv 2017, arXiv:1705.08500): the highest of the coverages at which the exact binomial bound of the risk is at
    most ``risk``. Where their search halves a range, this one tries every coverage: the bound is worst at both ends,
    and halving may miss coverages between. Without such a coverage every record is left to the clinician, and the
    abstention rate is 1.
    """

    looks_at = "decisions"
    name: Literal["selective"] = "selective"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name="selective_risk",
            title="Selective risk",
            meaning="Share of wrong answers among the most confident share of the records.",
            better="lower",
        ),
        Metric(
            name="aurc", title="AURC", meaning="Mean selective risk over all shares that are answered.", better="lower"
        ),
        Metric(
            name=_ABSTENTION[0],
            title="Abstention rate",
            meaning="Share of records left to the clinician so that the other answers keep to a stated risk.",
            better="lower",
            columns=(
                ScorecardColumn(
                    key="abstains",
                    group="answers",
                    place=100,
                    title="Abstains (risk ≤ {risk})",
                    meaning="Share of records left to the clinician so that at most {risk} of the other answers are "
                    "wrong; the threshold was chosen on records held out from training and test.",
                    where={"risk": Chosen(preferred=0.05)},
                    texts={"risk": in_percent},
                    optional=True,
                ),
            ),
        ),
        Metric(
            name=_ABSTENTION[1],
            title="Risk after abstention",
            meaning="Share of wrong answers among those that are given.",
            better="lower",
        ),
    )

    coverages: tuple[Coverage, ...] = Field(default=_EVERY_TWENTIETH, min_length=1)
    """Shares of the records that are answered: points of the curve, and candidates for the threshold."""
    risk: float = Field(default=0.05, gt=0, lt=1)
    """Share of wrong answers that may remain after abstention."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    """Confidence of the bound by which the threshold is chosen."""
    draws: int = Field(default=200, ge=50)

    @property
    def of_training_records(self) -> bool:
        return False

    def measure(self, subject: Subject) -> Sequence[Finding]:
        rows = subject.split.test
        logits = subject.logits(rows)
        finite = np.isfinite(logits).all(1)
        if not finite.all():
            why = f"the model answers NaN or infinity to {int((~finite).sum())} of {len(rows)} records"
            return [
                not_applicable(name, why, reason="no_finite_answers")
                for name in ("selective_risk", "aurc", *_ABSTENTION)
            ]
        sure, wrong = subject.task.certainty(logits), subject.wrong(logits, subject.dataset.y[rows])
        return [*self._curve(subject, sure, wrong), *self._abstention(subject, sure, wrong)]

    def _curve(self, subject: Subject, sure: np.ndarray, wrong: np.ndarray) -> list[Measurement]:
        coverages = np.array(self.coverages)
        found = intervals.bootstrap_curve(
            lambda i: risks(sure[i], wrong[i], coverages),
            len(sure),
            generator=seeds.stream(subject.seed, "bootstrap", self.name),
            draws=self.draws,
            groups=subject.clusters(subject.split.test),
        )
        about = {"confidence": "max softmax"}
        return [
            *(
                estimated(
                    "selective_risk",
                    interval,
                    n=answered(coverage, len(sure)),
                    conditions={"coverage": coverage, **about},
                )
                for coverage, interval in zip(self.coverages, found[:-1], strict=True)
            ),
            estimated("aurc", found[-1], n=len(sure), conditions=about),
        ]

    def _abstention(self, subject: Subject, sure: np.ndarray, wrong: np.ndarray) -> list[Finding]:
        about: dict[str, Any] = {"risk": self.risk, "confidence_level": self.confidence}
        held, whose = subject.held_out
        held = subject.distinct(held)  # the bound counts records as independent, which copies are not
        if not len(held):
            why = f"no threshold can be chosen: {subject.why_none_held_out}"
            return [not_applicable(name, why, reason="no_records", **about) for name in _ABSTENTION]
        logits = subject.logits(held)
        about |= {"chosen_on": f"{whose} split", "chosen_from": len(held)}
        if not np.isfinite(logits).all():
            why = f"the model answers NaN or infinity to {whose} records"
            return [not_applicable(name, why, reason="no_finite_answers", **about) for name in _ABSTENTION]
        mistaken = subject.wrong(logits, subject.dataset.y[held])
        threshold = guaranteed_threshold(
            subject.task.certainty(logits), mistaken, self.coverages, risk=self.risk, confidence=self.confidence
        )
        if threshold is None:
            why = self._why_none(len(held), whose, float(mistaken.mean()))
            everything = Measurement(name=_ABSTENTION[0], value=1.0, low=1.0, high=1.0, n=len(sure), conditions=about)
            return [everything.warn(why), _unknown(_ABSTENTION[1], why, len(sure), about)]
        about["threshold"] = float(1 / (1 + np.exp(-threshold)))
        return self._after_abstention(subject, sure >= threshold, wrong, about)

    def _why_none(self, m: int, whose: str, wrong: float) -> str:
        needed = int(np.ceil(np.log(1 - self.confidence) / np.log(1 - self.risk)))
        short = f"; even without an error that takes {needed} records" if m < needed else ""
        return (
            f"no threshold keeps the risk at or below {self.risk:.1%} with {self.confidence:.0%} confidence on the {m} "
            f"{whose} records ({wrong:.1%} of the answers to them are wrong{short}): all are left to the clinician"
        )

    def _after_abstention(
        self, subject: Subject, given: np.ndarray, wrong: np.ndarray, about: dict[str, Any]
    ) -> list[Finding]:
        """Measures which test records are left to the clinician, and how often the other answers are wrong."""
        groups = subject.clusters(subject.split.test)
        grouped = (
            ()
            if subject.dataset.groups is None
            else ("the bound counts records as independent; those of one group are not",)
        )
        rate = share("abstention_rate", ~given, groups, **about).warn(*grouped)
        if not given.any():
            why = "every test record lies below the threshold, so no answer is given"
            return [rate, _unknown("risk_after_abstention", why, len(given), about)]
        own = None if groups is None else groups[given]
        left = share("risk_after_abstention", wrong[given], own, **about).warn(*grouped)
        return [rate, left, _kept(left, self.risk)]


def answered(coverage: float, n: int) -> int:
    """Returns how many records are answered at a coverage; at least one.

    Args:
        coverage: share of the records, in (0, 1].
        n: number of records.

    Returns:
        The number.
    """
    return max(1, int(np.ceil(round(coverage * n, 9))))


def risks(sure: np.ndarray, wrong: np.ndarray, coverages: np.ndarray) -> np.ndarray:
    """Returns the risk at each coverage, and the area under the whole curve.

    Records of equal confidence are answered in random order: the risk is its mean over these orders. The area is the
    mean risk over the coverages 1/n, 2/n, …, 1.

    Args:
        sure: (n,) confidence of each answer.
        wrong: (n,) bool, whether it is wrong.
        coverages: (k,) shares of the records.

    Returns:
        (k + 1,) risks, and last the area.
    """
    _, place = np.unique(-sure, return_inverse=True)
    seen = np.append(0, np.cumsum(np.bincount(place)))
    missed = np.append(0, np.cumsum(np.bincount(place, wrong)))
    n = len(sure)
    every = np.arange(1, n + 1)
    curve = np.interp(every, seen, missed) / every
    return np.append(curve[[answered(coverage, n) - 1 for coverage in coverages]], curve.mean())


def tried(coverages: Sequence[float], m: int, *, risk: float, confidence: float) -> list[float]:
    """Returns the greatest coverages that could pass with their share of the significance if no answer were wrong.

    It uses the number of records only, so the guarantee is not affected.

    Args:
        coverages: candidates.
        m: number of held-out records.
        risk: that may remain.
        confidence: of the guarantee.

    Returns:
        Coverages, descending.
    """
    order = sorted(coverages, reverse=True)
    for count in range(len(order), 0, -1):
        if upper_bound(0, answered(order[count - 1], m), (1 - confidence) / count) <= risk:
            return order[:count]
    return []


def guaranteed_threshold(
    sure: np.ndarray, wrong: np.ndarray, coverages: Sequence[float], *, risk: float, confidence: float
) -> float | None:
    """Returns the lowest confidence at which answers are given.

    With probability ``confidence`` over the held-out records, answers at or above it are wrong no more often than
    ``risk`` on similar records: every coverage that is tried has its share of the significance (Bonferroni).

    Args:
        sure: (m,) confidences of held-out records.
        wrong: (m,) bool, whether the answers to them are wrong.
        coverages: shares of these records that may be answered.
        risk: share of wrong answers that may remain.
        confidence: of the guarantee.

    Returns:
        The threshold; None where none achieves the risk.
    """
    order = np.sort(sure)[::-1]
    candidates = tried(coverages, len(order), risk=risk, confidence=confidence)
    for coverage in candidates:
        threshold = order[answered(coverage, len(order)) - 1]
        kept = sure >= threshold
        if upper_bound(int(wrong[kept].sum()), int(kept.sum()), (1 - confidence) / len(candidates)) <= risk:
            return float(threshold)
    return None


def upper_bound(errors: int, n: int, level: float) -> float:
    """Returns the upper bound of a share by Clopper and Pearson (1934).

    Args:
        errors: wrong answers.
        n: answers.
        level: probability with which the true share exceeds the bound, at most.

    Returns:
        The bound, as a fraction.
    """
    return 1.0 if errors == n else float(beta.ppf(1 - level, errors + 1, n - errors))


def _unknown(name: str, why: str, n: int, about: dict[str, Any]) -> Measurement:
    return Measurement(name=name, status="abstained", reason="no_threshold", n=n, conditions=about, warnings=(why,))


def _kept(left: Measurement, risk: float) -> Check:
    """Checks that the guaranteed risk holds on the test records."""
    return Check(
        rule="selective_risk",
        concerns=left.name,
        verdict="warn" if left.low > risk else "pass",
        figure=left.value,
        message=f"{left.value:.1%} of the given answers are wrong ({left.low:.1%} to {left.high:.1%}), more than the "
        f"{risk:.1%} that was promised: the test records are harder than those on which the threshold was chosen",
    )
