"""How often, and how well calibrated, is the model right?"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field

from assay import seeds, statistics
from assay.data.clusters import copies
from assay.evaluations.balanced import by_class
from assay.evaluations.base import Evaluation, Subject, estimated, share
from assay.evaluations.constant_answers import majority_baseline
from assay.registry import register
from assay.results import Finding, Measurement, not_applicable
from assay.tasks.operating_point import OperatingPoint

_CURVES = ("precision", "recall", "f1", "auroc", "auprc", "calibration_error")


@register("evaluation")
class Accuracy(Evaluation):
    """Accuracy, precision, recall, F1, AUROC, AUPRC and calibration; of two classes also sensitivity and specificity.

    The operating point is the highest threshold that reaches ``sensitivity`` on the *validation* split.
    """

    name: Literal["accuracy"] = "accuracy"
    sensitivity: float = Field(default=0.95, gt=0, lt=1)
    """Sensitivity that the operating point must reach on the validation split."""
    bins: int = Field(default=10, ge=2)
    """Bins of the calibration error."""
    draws: int = Field(default=200, ge=50)
    """Bootstrap draws behind the intervals of AUROC and its like."""
    smallest_group: int = Field(default=20, ge=2)
    """Records of a group below which only its accuracy is told."""

    @property
    def of_training_records(self) -> bool:
        return False

    def measure(self, subject: Subject) -> Sequence[Finding]:
        rows = subject.split.test
        y, logits = subject.dataset.y[rows], subject.logits(rows)
        clusters = subject.clusters(rows)
        finite = subject.task.answered(logits)
        correct, decided_at = ~subject.wrong(logits, y), subject.decided_at
        found = [share("accuracy", correct, clusters, **decided_at).warn(*_surplus(subject, logits.shape[1]))]
        if subject.point is not None:
            found[0] = found[0].warn(*subject.point.warnings)
        beside = [
            majority_baseline(y, clusters, subject.dataset.class_names),
            *by_class("", subject, rows, correct, **decided_at),
        ]
        if not finite.all():
            why = (
                f"the model answers NaN or infinity to {int((~finite).sum())} of {len(y)} records, which count as wrong"
            )
            found[0] = found[0].warn(f"fail: {why}")
            found += [not_applicable(name, why) for name in (*_CURVES, "sensitivity", "specificity")]
        else:
            found += self._bootstrapped(subject, y, logits, clusters)
            found += self._operating_point(subject, y, logits)
        return found + beside + self._by_group(subject, y, logits, correct)

    def _by_group(self, subject: Subject, y: np.ndarray, logits: np.ndarray, correct: np.ndarray) -> list[Measurement]:
        """The same figures for each group, so that a mean cannot hide whom the model fails."""
        groups = subject.groups(subject.split.test)
        if groups is None:
            return [not_applicable("subgroup_accuracy", "the data have no groups")]
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
            interval = statistics.bootstrap(
                statistic,
                len(y),
                generator=seeds.stream(subject.seed, "bootstrap", name),
                draws=self.draws,
                groups=clusters,
            )
            if np.isnan(interval.value):
                found.append(not_applicable(name, "the test records do not hold every class", **conditions))
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
            return [not_applicable("sensitivity", why), not_applicable("specificity", why)]
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
        clusters = subject.clusters(subject.split.test)
        for name, asked, hit in (("sensitivity", y == 1, positive), ("specificity", y == 0, ~positive)):
            if not asked.any():
                found.append(not_applicable(name, "the test records hold no such class", **conditions))
                continue
            own = None if clusters is None else clusters[asked]
            found.append(share(name, hit[asked], own, **conditions).warn(*point.warnings))
        return found


def _surplus(subject: Subject, outputs: int) -> tuple[str, ...]:
    """A warning where the model knows more classes than the data: an answer of one of those is always wrong."""
    classes = subject.dataset.classes
    if outputs <= classes:
        return ()
    return (
        f"warn: the model has {outputs} outputs, the data {classes} classes: label k is compared with output k, and "
        f"every answer from {classes} on counts as wrong; class_names names all classes of the model",
    )
