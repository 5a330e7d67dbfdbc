"""Accuracy and calibration on corrupted records."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from assay import intervals, seeds
from assay.data.corruptions.base import SEVERITIES, Corruption, corrupted, corruption, names_for
from assay.evaluations.base import Evaluation
from assay.evaluations.shares import estimated, share
from assay.evaluations.subject import Subject
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

    As in Hendrycks & Dietterich 2019 (arXiv:1903.12261), without their normalisation, which divides by the error of
    AlexNet on ImageNet and has no meaning here. The mean corruption error is the plain mean of the error over
    corruptions and severities; the relative one is its difference from the error on clean records.

    All severities of a corruption, and all recipes, share their draws, so that differences are those of the model.
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
            meaning="Mean difference between the confidence that the model states there and its accuracy.",
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
            meaning="Corruption error minus the error on clean records.",
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
            _CorruptedRecords(subject=subject, rows=self.sample(subject)), fitting, sorted(set(self.severities))
        )

    def _measured(self, records: "_CorruptedRecords", asked: list[Corruption], severities: list[int]) -> list[Finding]:
        clean = records.answers()
        found: list[Finding] = [clean_at_severity_zero(clean, records.answers(asked[0], 0), encoded=records.encoded)]
        wrong = np.zeros(len(records.rows))
        for chosen in asked:
            ladder = [records.answers(chosen, severity) for severity in severities]
            for severity, answers in zip(severities, ladder, strict=True):
                found += self._at(records, answers, _conditions(chosen, severity))
                wrong += ~answers.right
            found.append(accuracy_falls_with_severity(chosen.name, [a.right for a in ladder], severities))
        error, before = wrong / (len(asked) * len(severities)), 1.0 - clean.right
        about = {
            "corruptions": [chosen.name for chosen in asked],
            "severities": severities,
            "normalised": "no: a plain mean of errors, not divided by those of a baseline model",
            **records.subject.decided_at,
        }
        return [
            *found,
            self._bootstrapped(_OF_ALL[0], lambda i: float(error[i].mean()), records, about),
            self._bootstrapped(_OF_ALL[1], lambda i: float((error - before)[i].mean()), records, about),
        ]

    def _at(self, records: "_CorruptedRecords", answers: "_Answers", about: dict[str, Any]) -> list[Measurement]:
        """Measures accuracy and calibration of one corruption at one severity."""
        accuracy = share(_OF_EACH[0], answers.right, records.groups, **about, **records.subject.decided_at)
        calibration = self._bootstrapped(
            _OF_EACH[1],
            lambda i: expected_calibration_error(answers.right[i], answers.confidence[i], self.bins),
            records,
            {**about, "bins": self.bins},
        )
        if answers.valid.all():
            return [accuracy, calibration]
        broken = Flag(
            verdict="fail",
            message=f"the model answers NaN or infinity to {int((~answers.valid).sum())} of {len(records.rows)} "
            "records, which count as wrong and as sure",
            rule="answers_are_numbers",
        )
        return [accuracy.flag(broken), calibration.flag(broken)]

    def _bootstrapped(
        self, name: str, statistic: Callable[[np.ndarray], float], records: "_CorruptedRecords", about: dict[str, Any]
    ) -> Measurement:
        interval = intervals.bootstrap(
            statistic,
            len(records.rows),
            generator=seeds.stream(records.subject.seed, "bootstrap", name),
            draws=self.draws,
            groups=records.groups,
        )
        return estimated(name, interval, n=len(records.rows), conditions=about)


@dataclass(frozen=True, kw_only=True)
class _Answers:
    """Answers of the model to the same records in one state."""

    right: np.ndarray
    """(n,) bool."""
    confidence: np.ndarray
    """(n,) probability of the answered class; 1 where there was no answer."""
    valid: np.ndarray
    """(n,) bool, where every logit is finite."""


@dataclass(frozen=True, kw_only=True)
class _CorruptedRecords:
    """A model and the test records that are corrupted."""

    subject: Subject
    rows: np.ndarray

    @property
    def encoded(self) -> bool:
        """Whether texts are stored as vectors of an encoder."""
        dataset = self.subject.dataset
        return dataset.modality == "text" and dataset.x.dtype.kind == "f"

    @property
    def groups(self) -> np.ndarray | None:
        return self.subject.clusters(self.rows)

    def answers(self, chosen: Corruption | None = None, severity: int = 0) -> _Answers:
        """Returns the answers to the records after a corruption, or without one."""
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
    """Checks that a corruption at severity 0 leaves every answer unchanged.

    Args:
        clean: answers on the records themselves.
        at_zero: answers at severity 0.
        encoded: whether records are vectors of a frozen encoder, which rounds a text slightly differently in another
            batch: then a difference of 0.01 in confidence is ignored, and one answer in a hundred may change.

    Returns:
        The check.
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
    """Checks that accuracy does not rise with severity by more than a point and three of its standard errors.

    Both accuracies use the same records, so the standard error is that of the paired difference (McNemar).

    Args:
        name: of the corruption.
        right: (n,) bool for each severity, whether each record was answered correctly.
        severities: in ascending order.

    Returns:
        The check.
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
