"""Accuracy, calibration and operating point of a model."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from assay import intervals, seeds
from assay.data.clusters import copies
from assay.evaluations.balanced import by_class
from assay.evaluations.base import Evaluation
from assay.evaluations.constant_answers import MAJORITY_BASELINE, majority_baseline
from assay.evaluations.shares import estimated, share, share_by_record
from assay.evaluations.subject import Subject
from assay.metrics import Metric, ScorecardColumn
from assay.registry import register
from assay.results import Check, Finding, Measurement, not_applicable
from assay.tasks.operating_point import OperatingPoint

_NOT_EVERY, _NOT_THIS = "the test records do not hold every class", "the test records hold no such class"
_CURVES = ("precision", "recall", "f1", "auroc", "auprc", "calibration_error")


@register("evaluation")
class Accuracy(Evaluation):
    """Accuracy, precision, recall, F1, AUROC, AUPRC and calibration; of two classes also sensitivity and specificity.

    The operating point is the highest threshold that reaches ``sensitivity`` on the *validation* split.
    """

    name: Literal["accuracy"] = "accuracy"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name="accuracy",
            title="Accuracy",
            meaning="Share of test records classified correctly.",
            better="higher",
            columns=(ScorecardColumn(key="accuracy", group="answers", place=10),),
        ),
        MAJORITY_BASELINE,
        Metric(
            name="balanced_accuracy",
            title="Balanced accuracy",
            meaning="Mean over classes of the share of their records that are classified correctly; a constant answer "
            "has one over the number of classes.",
            better="higher",
            columns=(ScorecardColumn(key="balanced", group="answers", place=30, optional=True),),
        ),
        Metric(
            name="f1",
            title="F1",
            meaning="Harmonic mean of precision and recall, of class 1; with more than two classes the mean over "
            "classes (macro), in which a rare class counts as much as a common one.",
            better="higher",
            columns=(ScorecardColumn(key="f1", group="answers", place=40, shown="number", optional=True),),
        ),
        Metric(
            name="auroc",
            title="AUROC",
            meaning="Probability that a record of class 1 is ranked above another; with more than two classes the mean "
            "over each against the rest; 0.5 is chance.",
            better="higher",
            columns=(ScorecardColumn(key="auroc", group="answers", place=50, shown="number"),),
        ),
        Metric(
            name="sensitivity",
            title="Sensitivity",
            meaning="Share of the records of class 1 found, at the operating point chosen on the validation split.",
            better="higher",
            columns=(ScorecardColumn(key="sensitivity", group="answers", place=60),),
        ),
        Metric(
            name="specificity",
            title="Specificity",
            meaning="Share of the records of class 0 not classified as class 1, at the same operating point.",
            better="higher",
            columns=(ScorecardColumn(key="specificity", group="answers", place=70),),
        ),
        Metric(
            name="calibration_error",
            title="Calibration error",
            meaning="Mean difference between the confidence that the model states and its accuracy.",
            better="lower",
            columns=(ScorecardColumn(key="calibration_error", group="answers", place=80, shown="number"),),
        ),
        Metric(
            name="precision",
            title="Precision",
            meaning="Share of the records classified as a class that belong to it.",
            better="higher",
        ),
        Metric(
            name="recall", title="Recall", meaning="Share of the records of a class that are found.", better="higher"
        ),
        Metric(
            name="class_recall",
            title="Recall",
            meaning="Share of the records of one class that are found.",
            better="higher",
        ),
        Metric(name="auprc", title="AUPRC", meaning="Mean precision over all recalls.", better="higher"),
        Metric(name="subgroup_*", title="Of one group", meaning="The same figure on the records of one group alone."),
    )

    sensitivity: float = Field(default=0.95, gt=0, lt=1)
    """Sensitivity that the operating point must reach on the validation split."""
    bins: int = Field(default=10, ge=2)
    """Bins of the calibration error."""
    draws: int = Field(default=200, ge=50)
    """Bootstrap draws behind the intervals of AUROC and its like."""
    smallest_group: int = Field(default=20, ge=2)
    """Records below which only the accuracy of a group is given."""

    @property
    def of_training_records(self) -> bool:
        return False

    def measure(self, subject: Subject) -> Sequence[Finding]:
        rows = subject.split.test
        y, logits = subject.dataset.y[rows], subject.logits(rows)
        clusters = subject.clusters(rows)
        finite = subject.task.answered(logits)
        correct, decided_at = ~subject.wrong(logits, y), subject.decided_at
        at_point = () if subject.point is None else subject.point.warnings
        found: list[Finding] = [share_by_record("accuracy", correct, clusters, rows, **decided_at).warn(*at_point)]
        beside: list[Finding] = [
            *_surplus(subject, logits.shape[1]),
            majority_baseline(y, clusters, subject.dataset.class_names),
            *by_class("", subject, rows, correct, **decided_at),
        ]
        if not finite.all():
            why = (
                f"the model answers NaN or infinity to {int((~finite).sum())} of {len(y)} records, which count as wrong"
            )
            names = (*_CURVES, "sensitivity", "specificity")
            beside.append(_not_numbers(why, float((~finite).mean())))
            found += [not_applicable(name, why, reason="no_finite_answers") for name in names]
        else:
            found += self._bootstrapped(subject, y, logits, clusters)
            found += self._operating_point(subject, y, logits)
        return found + beside + self._by_group(subject, y, logits, correct)

    def _by_group(self, subject: Subject, y: np.ndarray, logits: np.ndarray, correct: np.ndarray) -> list[Measurement]:
        """Returns the same figures for each group."""
        groups = subject.groups(subject.split.test)
        if groups is None:
            return [not_applicable("subgroup_accuracy", "the data have no groups", reason="no_groups")]
        copied = copies(subject.dataset, subject.split.test)
        found = []
        for group in np.unique(groups):
            own = groups == group
            about = {"group": str(group)}
            rows = [share("accuracy", correct[own], copied[own], **subject.decided_at)]
            if own.sum() >= self.smallest_group and np.isfinite(logits[own]).all():
                rows += self._bootstrapped(subject, y[own], logits[own], copied[own])
            found += [replace(row, name=f"subgroup_{row.name}", conditions={**row.conditions, **about}) for row in rows]
        return found

    def _bootstrapped(
        self, subject: Subject, y: np.ndarray, logits: np.ndarray, clusters: np.ndarray | None
    ) -> list[Measurement]:
        decided, about = subject.decisions(logits), subject.decided_at
        metrics = subject.task.metrics(logits, y, decided=decided, about=about, bins=self.bins)
        found = []
        for name, (statistic, conditions) in metrics.items():
            interval = intervals.bootstrap(
                statistic,
                len(y),
                generator=seeds.stream(subject.seed, "bootstrap", name),
                draws=self.draws,
                groups=clusters,
            )
            if np.isnan(interval.value):
                found.append(not_applicable(name, _NOT_EVERY, reason="no_records", **conditions))
                continue
            found.append(
                estimated(
                    name,
                    interval,
                    n=len(y),
                    conditions=conditions,
                )
            )
        return found

    def _operating_point(self, subject: Subject, y: np.ndarray, logits: np.ndarray) -> list[Measurement]:
        if subject.dataset.classes != 2:
            why = f"an operating point needs two classes, there are {subject.dataset.classes}"
            return [
                not_applicable(name, why, reason="other_number_of_classes") for name in ("sensitivity", "specificity")
            ]
        held = subject.split.validation
        point = subject.point or OperatingPoint.reaching(
            self.sensitivity, subject.logits(held), subject.dataset.y[held]
        )
        positive = subject.task.decide(point.shifted(logits)) == 1
        conditions = {
            "threshold": point.threshold,
            "chosen_on": point.chosen_on,
            "target_sensitivity": point.sensitivity,
            **subject.decided_at,
        }
        found = []
        rows = subject.split.test
        clusters = subject.clusters(rows)
        for name, asked, hit in (("sensitivity", y == 1, positive), ("specificity", y == 0, ~positive)):
            if not asked.any():
                found.append(not_applicable(name, _NOT_THIS, reason="no_records", **conditions))
                continue
            own = None if clusters is None else clusters[asked]
            found.append(share_by_record(name, hit[asked], own, rows[asked], **conditions).warn(*point.warnings))
        return found


def _surplus(subject: Subject, outputs: int) -> list[Check]:
    """Returns a warning where the model has more classes than the data: an answer of such a class is always wrong."""
    classes = subject.dataset.classes
    if outputs <= classes:
        return []
    return [
        Check(
            rule="outputs_are_classes",
            concerns="accuracy",
            verdict="warn",
            figure=float(outputs - classes),
            message=f"the model has {outputs} outputs, the data {classes} classes: label k is compared with output k, "
            f"and every answer from {classes} on counts as wrong; class_names names all classes of the model",
        )
    ]


def _not_numbers(why: str, share: float) -> Check:
    """Returns the check for an accuracy where some records got no answer.

    Args:
        share: of the records.
    """
    return Check(rule="answers_are_numbers", concerns="accuracy", verdict="fail", figure=share, message=why)
