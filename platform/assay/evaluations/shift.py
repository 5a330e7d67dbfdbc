"""How does the model stand records that wear, noise and haste have changed, and does it know when it fails?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from assay import seeds, statistics
from assay.data.corruptions.base import SEVERITIES, Corruption, corrupted, corruption, names_for
from assay.evaluations.base import Evaluation, Subject, estimated, share
from assay.metrics import SIGNED, Metric, ScorecardColumn
from assay.registry import choice_of, register
from assay.results import Check, Finding, Flag, Measurement, ReasonCode, not_applicable
from assay.tasks.class_scores import expected_calibration_error

_OF_EACH = ("shifted_accuracy", "shifted_calibration_error")
_OF_ALL = ("mean_corruption_error", "relative_corruption_error")
Severity = Annotated[int, Field(ge=SEVERITIES[0], le=SEVERITIES[-1])]


@register("evaluation")
class Shift(Evaluation):
    """Accuracy and calibration under every corruption of the data's modality at every severity, and their mean error.

    After Hendrycks & Dietterich 2019 (arXiv:1903.12261), but for the normalisation: their mean corruption error
    divides by AlexNet's on ImageNet, which means nothing here. Ours is the plain mean of the error over corruptions and
    severities; the relative one is what of it the corruptions add to the error on clean records.

    All severities of a corruption share their draws, and so do all recipes: differences are those of the model.
    An answer of NaN or infinity counts as wrong, and as given with full confidence.
    """

    name: Literal["shift"] = "shift"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name=_OF_EACH[0],
            title="Accuracy under corruption",
            meaning="Share of records classified correctly under one corruption at one severity.",
            better="higher",
            of_sample=True,
            against_accuracy=True,
        ),
        Metric(
            name=_OF_EACH[1],
            title="Calibration error under corruption",
            meaning="Mean gap between the confidence that the model states there and how often it is right.",
            better="lower",
        ),
        Metric(
            name=_OF_ALL[0],
            title="Corruption error",
            meaning="Share of wrong answers on corrupted records, mean over all corruptions and severities.",
            better="lower",
            of_sample=True,
            against_accuracy=True,
            columns=(ScorecardColumn(key="corruption", group="answers", place=90, sampled=True, optional=True),),
        ),
        Metric(
            name=_OF_ALL[1],
            title="Relative corruption error",
            meaning="What of the corruption error corruptions add to the error on clean records.",
            better="lower",
            limits=SIGNED,
        ),
    )

    corruptions: tuple[choice_of("corruption"), ...] = ()  # type: ignore[valid-type]
    """Names, or names with settings (``{name: powerline, mains: 60}``); all of the data's modality by default."""
    severities: tuple[Severity, ...] = Field(default=SEVERITIES, min_length=1)
    records: int | None = Field(default=None, ge=1)
    """At most so many test records, each class with its share; all by default."""
    bins: int = Field(default=10, ge=2)
    """Bins of the calibration error."""
    draws: int = Field(default=200, ge=50)
    """Bootstrap draws behind the intervals of the calibration and the mean errors."""

    def measure(self, subject: Subject) -> Sequence[Finding]:
        dataset = subject.dataset
        asked = self.corruptions or tuple(corruption(name) for name in names_for(dataset.modality))
        fitting = [chosen for chosen in asked if chosen.modality == dataset.modality]
        found: list[Finding] = [
            not_applicable(
                name,
                f"{chosen.name} happens to records of modality {chosen.modality}, these are {dataset.modality}",
                reason="other_kind_of_records",
                corruption=chosen.name,
            )
            for chosen in asked
            if chosen.modality != dataset.modality
            for name in _OF_EACH
        ]
        why = "" if fitting else "no corruption was asked for that happens to such records"
        reason: ReasonCode = "other_kind_of_records"
        if dataset.modality == "text" and dataset.language is None:
            why, reason = "the data set does not say how other words become records", "no_method"
        if why:
            return [*found, *(not_applicable(name, why, reason=reason) for name in (*_OF_EACH, *_OF_ALL))]
        return found + self._measured(
            _Ward(subject=subject, rows=self.sample(subject)), fitting, sorted(set(self.severities))
        )

    def _measured(self, ward: "_Ward", asked: list[Corruption], severities: list[int]) -> list[Finding]:
        clean = ward.answers()
        found: list[Finding] = [clean_at_severity_zero(clean, ward.answers(asked[0], 0), encoded=ward.encoded)]
        wrong = np.zeros(len(ward.rows))
        for chosen in asked:
            ladder = [ward.answers(chosen, severity) for severity in severities]
            for severity, answers in zip(severities, ladder, strict=True):
                found += self._at(ward, answers, _conditions(chosen, severity))
                wrong += ~answers.right
            found.append(accuracy_falls_with_severity(chosen.name, [a.right for a in ladder], severities))
        error, before = wrong / (len(asked) * len(severities)), 1.0 - clean.right
        about = {
            "corruptions": [chosen.name for chosen in asked],
            "severities": severities,
            "normalised": "no: a plain mean of errors, not divided by those of a baseline model",
            **ward.subject.decided_at,
        }
        return [
            *found,
            self._bootstrapped(_OF_ALL[0], lambda i: float(error[i].mean()), ward, about),
            self._bootstrapped(_OF_ALL[1], lambda i: float((error - before)[i].mean()), ward, about),
        ]

    def _at(self, ward: "_Ward", answers: "_Answers", about: dict[str, Any]) -> list[Measurement]:
        """Both figures of one corruption at one severity."""
        accuracy = share(_OF_EACH[0], answers.right, ward.groups, **about, **ward.subject.decided_at)
        calibration = self._bootstrapped(
            _OF_EACH[1],
            lambda i: expected_calibration_error(answers.right[i], answers.confidence[i], self.bins),
            ward,
            {**about, "bins": self.bins},
        )
        if answers.valid.all():
            return [accuracy, calibration]
        broken = Flag(
            verdict="fail",
            message=f"the model answers NaN or infinity to {int((~answers.valid).sum())} of {len(ward.rows)} records, "
            "which count as wrong and as sure",
            rule="answers_are_numbers",
        )
        return [accuracy.flag(broken), calibration.flag(broken)]

    def _bootstrapped(
        self, name: str, statistic: Callable[[np.ndarray], float], ward: "_Ward", about: dict[str, Any]
    ) -> Measurement:
        interval = statistics.bootstrap(
            statistic,
            len(ward.rows),
            generator=seeds.stream(ward.subject.seed, "bootstrap", name),
            draws=self.draws,
            groups=ward.groups,
        )
        return estimated(name, interval, n=len(ward.rows), conditions=about)


@dataclass(frozen=True, kw_only=True)
class _Answers:
    """What the model said of the same records in one state."""

    right: np.ndarray
    """(n,) bool."""
    confidence: np.ndarray
    """(n,) probability of the class that was answered; 1 where there was no answer."""
    valid: np.ndarray
    """(n,) bool, where every logit is finite."""


@dataclass(frozen=True, kw_only=True)
class _Ward:
    """One model and the test records that are to be corrupted."""

    subject: Subject
    rows: np.ndarray

    @property
    def encoded(self) -> bool:
        """Whether texts are kept as vectors of an encoder."""
        dataset = self.subject.dataset
        return dataset.modality == "text" and dataset.x.dtype.kind == "f"

    @property
    def groups(self) -> np.ndarray | None:
        return self.subject.clusters(self.rows)

    def answers(self, chosen: Corruption | None = None, severity: int = 0) -> _Answers:
        """To the records after a corruption, or as they are."""
        dataset = self.subject.dataset
        if chosen is None:
            logits = self.subject.logits(self.rows)
        else:
            generator = seeds.stream(self.subject.seed, "corruption", chosen.name)
            logits = self.subject.answers(
                corrupted(dataset, part, chosen, severity, generator=generator)
                for part in self.subject.pieces(self.rows)
            )
        valid = self.subject.task.answered(logits)
        wrong = self.subject.wrong(logits, dataset.y[self.rows])
        logits = np.where(valid[:, None], logits, 0.0)
        told = self.subject.decisions(logits)
        return _Answers(
            right=~wrong,
            confidence=np.where(valid, self.subject.task.confidence(logits, told), 1.0),
            valid=valid,
        )


def clean_at_severity_zero(clean: _Answers, at_zero: _Answers, *, encoded: bool = False) -> Check:
    """A corruption of no severity must leave every answer as it is; of text, writing it anew must change nothing.

    Args:
        encoded: records are a frozen encoder's vectors, which rounds a text a little differently in other company: then
            a hundredth of confidence is no change, and one answer in a hundred may tip over.
    """
    slack, limit = (0.01, 0.01) if encoded else (0.0, 0.0)
    changed = float(((clean.right != at_zero.right) | (np.abs(clean.confidence - at_zero.confidence) > slack)).mean())
    return Check(
        rule="clean_at_severity_zero",
        concerns=_OF_EACH[0],
        verdict="fail" if changed > limit else "pass",
        figure=changed,
        message=f"{changed:.1%} of the answers differ at severity 0 from those on clean records (limit {limit:.0%}): "
        "the model is random, or the records are not what the data set says",
    )


def accuracy_falls_with_severity(name: str, right: list[np.ndarray], severities: list[int]) -> Check:
    """Accuracy must not rise from one severity to the next by more than a point and three of its standard errors.

    Both count the same records, so the standard error is that of the paired difference (McNemar).
    """
    rises = [0.0]
    for before, after in pairwise(right):
        gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
        rise = (gained - lost) / len(before)
        rises.append(rise if rise > max(0.01, 3 * np.sqrt(gained + lost) / len(before)) else 0.0)
    worst = int(np.argmax(rises))
    return Check(
        rule="accuracy_falls_with_severity",
        concerns=_OF_EACH[0],
        verdict="warn" if rises[worst] else "pass",
        figure=rises[worst],
        message=f"accuracy under {name} rises by {rises[worst]:.1%} towards severity {severities[worst]} (limit one "
        "point and three standard errors): its severities are no order of difficulty on these data",
        conditions={"corruption": name},
    )


def _conditions(chosen: Corruption, severity: int) -> dict[str, Any]:
    settings = chosen.model_dump(exclude={"name", "strengths"})
    return {
        "corruption": chosen.name,
        "severity": severity,
        "strength": chosen.strengths[severity - 1],
        **settings,
    }
