"""Scores and metrics of logits (n, classes), in float64: what evaluations ask of a classification.

Training calls none of it, so that no weights hang on this file.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.special import log_softmax
from scipy.special import softmax as scipy_softmax

from assay import statistics
from assay.tasks.base import Metric


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns probabilities, (n, classes), of finite logits."""
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def log_odds(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the logit of the true class minus the log-sum-exp of the others, (n,): ``log(p / (1 − p))``.

    Without an exponential of a large number, so it never rounds to a ceiling. Logits are left as they are.

    Args:
        logits: (n, classes).
        y: (n,) class numbers.
    """
    rows = np.arange(len(y))
    true, others = logits[rows, y], logits.copy()
    others[rows, y] = -np.inf
    with np.errstate(invalid="ignore"):
        # A model that answers NaN has no confidence, and whoever asks for it looks.
        return np.asarray(true - np.logaddexp.reduce(others, axis=1))


def certainty(logits: np.ndarray) -> np.ndarray:
    """(n,) log-odds of the greatest softmax probability of (n, classes): in its order, but never rounded to 1."""
    rest = np.sort(logits, axis=1)
    return np.asarray(rest[:, -1] - np.logaddexp.reduce(rest[:, :-1], axis=1))


def lac(logits: np.ndarray) -> np.ndarray:
    """(n, classes) minus the log-odds of each class: in the order of one minus its probability, but never rounded.

    The score of Sadinle et al. 2019 (arXiv:1609.00451).
    """
    known = np.minimum(log_softmax(logits, axis=1), 0.0)
    with np.errstate(divide="ignore"):
        odds = known - np.log1p(-np.exp(known))
    np.put_along_axis(odds, logits.argmax(1)[:, None], certainty(logits)[:, None], axis=1)
    return -odds


def aps(logits: np.ndarray, generator: np.random.Generator, same: np.ndarray | None = None) -> np.ndarray:
    """(n, classes) probability of all classes that are likelier than each, and of a random part of itself.

    The score of Romano et al. 2020 (arXiv:2006.02544).

    Args:
        same: (n,) a number from 0 for each record; those of one number share their draw, as copies must.
    """
    probability = scipy_softmax(logits, axis=1)
    order = np.argsort(-probability, axis=1, kind="stable")
    ranked = np.take_along_axis(probability, order, axis=1)
    before = np.empty_like(ranked)
    np.put_along_axis(before, order, np.cumsum(ranked, axis=1) - ranked, axis=1)
    draws = generator.random((len(logits), 1))
    return before + (draws if same is None else draws[same]) * probability


def metrics(
    logits: np.ndarray, y: np.ndarray, *, decided: np.ndarray, about: Mapping[str, Any], bins: int
) -> dict[str, Metric]:
    """Returns precision, recall, F1, AUROC, AUPRC and calibration error as functions of positions: see ``Task``."""
    probability = softmax(logits)
    classes = probability.shape[1]
    averaging: dict[str, Any] = {"average": "binary (class 1)" if classes == 2 else "macro"}
    return {
        "precision": (lambda i: _per_class(y[i], decided[i], classes)[0], {**averaging, **about}),
        "recall": (lambda i: _per_class(y[i], decided[i], classes)[1], {**averaging, **about}),
        "f1": (lambda i: _per_class(y[i], decided[i], classes)[2], {**averaging, **about}),
        "auroc": (lambda i: _over_classes(statistics.auroc, y[i], probability[i]), averaging),
        "auprc": (lambda i: _over_classes(_auprc, y[i], probability[i]), averaging),
        "calibration_error": (lambda i: calibration_error(y[i], probability[i], bins), {"bins": bins}),
    }


def calibration_error(y: np.ndarray, probability: np.ndarray, bins: int) -> float:
    """Expected calibration error over equal-width bins of confidence (Guo et al. 2017, arXiv:1706.04599)."""
    return expected_calibration_error(probability.argmax(1) == y, probability.max(1), bins)


def expected_calibration_error(correct: np.ndarray, confidence: np.ndarray, bins: int) -> float:
    """The same from what was right, (n,) bool, and how sure the model was of it, (n,)."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(place, correct - confidence, bins)
    return float(np.abs(gaps).sum() / len(correct))


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
