"""How often, and how well calibrated, is the model right?"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from pydantic import Field

from assay import seeds, statistics
from assay.data.clusters import copies
from assay.evaluations.balanced import by_class
from assay.evaluations.base import Evaluation, Subject, estimated, share
from assay.evaluations.constant_answers import majority_baseline
from assay.registry import register
from assay.results import Finding, Measurement, not_applicable

Statistic = Callable[[np.ndarray], float]
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
        finite = np.isfinite(logits).all(1)
        correct = (logits.argmax(1) == y) & finite
        found = [share("accuracy", correct, clusters).warn(*_surplus(subject, logits.shape[1]))]
        beside = [
            majority_baseline(y, clusters, subject.dataset.class_names),
            *by_class("", subject, rows, correct),
        ]
        if not finite.all():
            why = (
                f"the model answers NaN or infinity to {int((~finite).sum())} of {len(y)} records, which count as wrong"
            )
            found[0] = found[0].warn(f"fail: {why}")
            found += [not_applicable(name, why) for name in (*_CURVES, "sensitivity", "specificity")]
        else:
            probability = softmax(logits)
            found += self._bootstrapped(y, probability, clusters, subject.seed)
            found += self._operating_point(subject, y, probability)
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
            rows = [share("accuracy", correct[own], copied[own])]
            if own.sum() >= self.smallest_group and np.isfinite(logits[own]).all():
                rows += self._bootstrapped(y[own], softmax(logits[own]), copied[own], subject.seed)
            found += [replace(row, name=f"subgroup_{row.name}", conditions={**row.conditions, **about}) for row in rows]
        return found

    def _bootstrapped(
        self, y: np.ndarray, probability: np.ndarray, clusters: np.ndarray | None, seed: int
    ) -> list[Measurement]:
        classes = probability.shape[1]
        averaging = {"average": "binary (class 1)" if classes == 2 else "macro"}
        predicted = probability.argmax(1)
        statistics_of: dict[str, tuple[Statistic, dict[str, Any]]] = {
            "precision": (lambda i: _per_class(y[i], predicted[i], classes)[0], averaging),
            "recall": (lambda i: _per_class(y[i], predicted[i], classes)[1], averaging),
            "f1": (lambda i: _per_class(y[i], predicted[i], classes)[2], averaging),
            "auroc": (lambda i: _over_classes(statistics.auroc, y[i], probability[i]), averaging),
            "auprc": (lambda i: _over_classes(_auprc, y[i], probability[i]), averaging),
            "calibration_error": (
                lambda i: calibration_error(y[i], probability[i], self.bins),
                {"bins": self.bins},
            ),
        }
        found = []
        for name, (statistic, conditions) in statistics_of.items():
            interval = statistics.bootstrap(
                statistic,
                len(y),
                generator=seeds.stream(seed, "bootstrap", name),
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

    def _operating_point(self, subject: Subject, y: np.ndarray, probability: np.ndarray) -> list[Measurement]:
        if subject.dataset.classes != 2:
            why = f"an operating point needs two classes, there are {subject.dataset.classes}"
            return [not_applicable("sensitivity", why), not_applicable("specificity", why)]
        held = subject.split.validation
        chosen_on, warnings = "validation split", ()
        if len(held) == 0 or not (subject.dataset.y[held] == 1).any():
            threshold, chosen_on = 0.5, "fixed"
            warnings = ("no validation records: the threshold is 0.5, not an operating point",)  # type: ignore[assignment]
        else:
            scores = softmax(subject.logits(held))[:, 1]
            threshold = operating_threshold(subject.dataset.y[held], scores, self.sensitivity)
        positive = probability[:, 1] >= threshold
        conditions = {"threshold": threshold, "chosen_on": chosen_on, "target_sensitivity": self.sensitivity}
        found = []
        clusters = subject.clusters(subject.split.test)
        for name, asked, hit in (("sensitivity", y == 1, positive), ("specificity", y == 0, ~positive)):
            if not asked.any():
                found.append(not_applicable(name, "the test records hold no such class", **conditions))
                continue
            own = None if clusters is None else clusters[asked]
            found.append(share(name, hit[asked], own, **conditions).warn(*warnings))
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


def operating_threshold(y: np.ndarray, scores: np.ndarray, sensitivity: float) -> float:
    """The highest threshold at which at least this share of the positives scores as high or higher."""
    positives = np.sort(scores[y == 1])[::-1]
    # Rounded first: 0.55 · 100 is a hair above 55 in floating point.
    return float(positives[int(np.ceil(round(sensitivity * len(positives), 9))) - 1])


def calibration_error(y: np.ndarray, probability: np.ndarray, bins: int) -> float:
    """Expected calibration error over equal-width bins of confidence (Guo et al. 2017, arXiv:1706.04599)."""
    return expected_calibration_error(probability.argmax(1) == y, probability.max(1), bins)


def expected_calibration_error(correct: np.ndarray, confidence: np.ndarray, bins: int) -> float:
    """The same from what was right, (n,) bool, and how sure the model was of it, (n,)."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(place, correct - confidence, bins)
    return float(np.abs(gaps).sum() / len(correct))


def softmax(logits: np.ndarray) -> np.ndarray:
    """(n, classes) probabilities of finite logits."""
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def _per_class(y: np.ndarray, predicted: np.ndarray, classes: int) -> tuple[float, float, float]:
    """Precision, recall and F1: of class 1 where there are two, averaged over classes where there are more.

    A class that no record holds has none of them: it is left out of the mean, and of two classes all three are NaN. It
    counts through the records that are taken for it, which their own classes miss. Precision of a class that is held
    and never predicted is 0.
    """
    asked = np.intersect1d([1] if classes == 2 else np.arange(classes), y)
    if len(asked) == 0:
        return float("nan"), float("nan"), float("nan")
    true = np.array([((y == k) & (predicted == k)).sum() for k in asked], float)
    said = np.array([(predicted == k).sum() for k in asked], float)
    held = np.array([(y == k).sum() for k in asked], float)
    precision, recall, f1 = true / np.maximum(said, 1), true / held, 2 * true / (said + held)
    return float(precision.mean()), float(recall.mean()), float(f1.mean())


def _over_classes(score: Callable[[np.ndarray, np.ndarray], float], y: np.ndarray, probability: np.ndarray) -> float:
    """One against the rest: class 1 where there are two, averaged over classes where there are more."""
    asked = [1] if probability.shape[1] == 2 else range(probability.shape[1])
    return float(np.mean([score(y == k, probability[:, k]) for k in asked]))


def _auprc(positive: np.ndarray, score: np.ndarray) -> float:
    """Average precision, ties taken together; NaN without positives."""
    if not positive.any():
        return float("nan")
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(positive[order])
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    precision, recall = hits[last] / (last + 1), hits[last] / hits[-1]
    return float((np.diff(recall, prepend=0) * precision).sum())
