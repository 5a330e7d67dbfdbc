"""Scores and metrics of a classification, from logits (n, classes) in float64, for evaluations.

Training does not use this file, so a change here does not change the key of any training.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.special import log_softmax
from scipy.special import softmax as scipy_softmax

from assay import intervals
from assay.tasks.base import Metric


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the softmax probabilities of finite logits.

    Args:
        logits: (n, classes).

    Returns:
        (n, classes) probabilities.
    """
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def log_odds(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the logit of the true class minus the log-sum-exp of the others: ``log(p / (1 − p))``.

    It avoids the exponential of large numbers, so it never rounds to an upper limit. ``logits`` is not changed.

    Args:
        logits: (n, classes).
        y: (n,) class numbers.

    Returns:
        (n,) log-odds.
    """
    rows = np.arange(len(y))
    true, others = logits[rows, y], logits.copy()
    others[rows, y] = -np.inf
    with np.errstate(invalid="ignore"):
        # Logits may be NaN; callers check that.
        return np.asarray(true - np.logaddexp.reduce(others, axis=1))


def certainty(logits: np.ndarray) -> np.ndarray:
    """Returns the log-odds of the greatest softmax probability: the same order, but never rounded to 1.

    Args:
        logits: (n, classes).

    Returns:
        (n,) log-odds.
    """
    rest = np.sort(logits, axis=1)
    return np.asarray(rest[:, -1] - np.logaddexp.reduce(rest[:, :-1], axis=1))


def lac(logits: np.ndarray) -> np.ndarray:
    """Returns minus the log-odds of each class: the order of one minus its probability, but never rounded.

    The score of Sadinle et al. 2019 (arXiv:1609.00451).

    Args:
        logits: (n, classes).

    Returns:
        (n, classes) scores.
    """
    log_probability = np.minimum(log_softmax(logits, axis=1), 0.0)
    with np.errstate(divide="ignore"):
        odds = log_probability - np.log1p(-np.exp(log_probability))
    np.put_along_axis(odds, logits.argmax(1)[:, None], certainty(logits)[:, None], axis=1)
    return -odds


def aps(logits: np.ndarray, generator: np.random.Generator, same: np.ndarray | None = None) -> np.ndarray:
    """Returns, for each class, the probability of all more likely classes plus a random part of its own.

    The score of Romano et al. 2020 (arXiv:2006.02544).

    Args:
        logits: (n, classes).
        generator: of the random parts.
        same: (n,) group numbers from 0; records of one group, such as copies, share their draw.

    Returns:
        (n, classes) scores.
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
    """Returns precision, recall, F1, AUROC, AUPRC and calibration error as functions of record positions: see ``Task``.

    Args:
        logits: (n, classes) finite.
        y: (n,) class numbers.
        decided: (n,) decisions.
        about: conditions of the metrics that depend on the decisions.
        bins: number of bins of the calibration error.

    Returns:
        Functions and conditions by name.
    """
    probability = softmax(logits)
    classes = probability.shape[1]
    averaging: dict[str, Any] = {"average": "binary (class 1)" if classes == 2 else "macro"}
    return {
        "precision": (lambda i: _per_class(y[i], decided[i], classes)[0], {**averaging, **about}),
        "recall": (lambda i: _per_class(y[i], decided[i], classes)[1], {**averaging, **about}),
        "f1": (lambda i: _per_class(y[i], decided[i], classes)[2], {**averaging, **about}),
        "auroc": (lambda i: _over_classes(intervals.auroc, y[i], probability[i]), averaging),
        "auprc": (lambda i: _over_classes(_auprc, y[i], probability[i]), averaging),
        "calibration_error": (lambda i: calibration_error(y[i], probability[i], bins), {"bins": bins}),
    }


def calibration_error(y: np.ndarray, probability: np.ndarray, bins: int) -> float:
    """Returns the expected calibration error over equal-width bins of confidence (Guo et al. 2017, arXiv:1706.04599).

    Args:
        y: (n,) class numbers.
        probability: (n, classes).
        bins: number of bins.

    Returns:
        The error, as a fraction.
    """
    return expected_calibration_error(probability.argmax(1) == y, probability.max(1), bins)


def expected_calibration_error(correct: np.ndarray, confidence: np.ndarray, bins: int) -> float:
    """Returns the expected calibration error from correctness and confidence.

    Args:
        correct: (n,) bool.
        confidence: (n,) probability of the predicted class.
        bins: number of bins.

    Returns:
        The error, as a fraction.
    """
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(place, correct - confidence, bins)
    return float(np.abs(gaps).sum() / len(correct))


def _per_class(y: np.ndarray, predicted: np.ndarray, classes: int) -> tuple[float, float, float]:
    """Returns precision, recall and F1: of class 1 for two classes, averaged over the classes for more.

    A class without records has none of them. It is left out of the mean; with two classes all three are then NaN.
    Records
    that are wrongly assigned to it still lower the recall of their own classes. The precision of a class that has
    records
    but is never predicted is 0.
    """
    asked = np.intersect1d([1] if classes == 2 else np.arange(classes), y)
    if len(asked) == 0:
        return float("nan"), float("nan"), float("nan")
    true = np.array([((y == k) & (predicted == k)).sum() for k in asked], float)
    assigned = np.array([(predicted == k).sum() for k in asked], float)
    actual = np.array([(y == k).sum() for k in asked], float)
    precision, recall, f1 = true / np.maximum(assigned, 1), true / actual, 2 * true / (assigned + actual)
    return float(precision.mean()), float(recall.mean()), float(f1.mean())


def _over_classes(score: Callable[[np.ndarray, np.ndarray], float], y: np.ndarray, probability: np.ndarray) -> float:
    """Returns a one-against-rest score: of class 1 for two classes, averaged over the classes for more."""
    asked = [1] if probability.shape[1] == 2 else range(probability.shape[1])
    return float(np.mean([score(y == k, probability[:, k]) for k in asked]))


def _auprc(positive: np.ndarray, score: np.ndarray) -> float:
    """Returns the average precision, with ties grouped; NaN without positives."""
    if not positive.any():
        return float("nan")
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(positive[order])
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    precision, recall = hits[last] / (last + 1), hits[last] / hits[-1]
    return float((np.diff(recall, prepend=0) * precision).sum())
