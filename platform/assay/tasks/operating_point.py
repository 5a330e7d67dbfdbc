"""The clinical operating point: a decision threshold for two classes that reaches a sensitivity on validation records.

Class 1 is decided where its probability p reaches a threshold t. With p = 1/(1 + exp(z₀ − z₁)) of the logits z, this is
z₁ + log((1 − t)/t) ≥ z₀. So a constant added to one logit moves the decision from 1/2 to t. Everything that uses the
greatest logit (attacks, interval bounds, smoothing, losses that depend on the difference of the logits) then works at
the operating point without a change.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from assay.tasks.base import Array

_ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""Relative margin, in logits, between the threshold and the record that defines it. The logits of a record may differ
slightly from batch to batch, and this record must be decided as class 1."""


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """A threshold on the probability of class 1, and the equivalent shift of the logits."""

    threshold: float
    """Least probability at which class 1 is decided."""
    shift: float
    """Constant that is added to the logit of class 1, so that the greatest logit decides at the threshold."""
    sensitivity: float
    """Required sensitivity on validation records, as a fraction."""
    chosen_on: str
    """``validation split``, or ``fixed`` where it cannot be chosen."""
    warnings: tuple[str, ...] = ()

    @classmethod
    def reaching(cls, sensitivity: float, answers: np.ndarray, targets: np.ndarray) -> "OperatingPoint":
        """Returns the highest threshold at which validation records reach the sensitivity, or 1/2 with a warning.

        Args:
            sensitivity: fraction of the records of class 1 that must be decided as such.
            answers: (m, 2) logits.
            targets: (m,) class numbers.

        Returns:
            The operating point.
        """
        finite = bool(np.isfinite(answers).all())
        if not finite or not (targets == 1).any():
            why = "no validation records" if finite else "the model answers NaN or infinity to validation records"
            warning = f"{why}: the threshold is 0.5, not an operating point"
            return cls(threshold=0.5, shift=0.0, sensitivity=sensitivity, chosen_on="fixed", warnings=(warning,))
        lead = answers[:, 1] - answers[:, 0]
        least = operating_threshold(targets, lead, sensitivity)
        spare = _ROUNDING * float(np.abs(answers).max(initial=1.0))
        # In float32, so that networks of any precision add the same number.
        shift, odds = float(np.float32(spare - least)), float(np.exp(-abs(least)))
        threshold = (1.0 if least >= 0 else odds) / (1.0 + odds)
        return cls(threshold=threshold, shift=shift, sensitivity=sensitivity, chosen_on="validation split")

    @property
    def conditions(self) -> dict[str, object]:
        """Conditions of a measurement that was made at this threshold."""
        kind = "fixed threshold" if self.chosen_on == "fixed" else "operating point"
        return {"decided_at": kind, "threshold": self.threshold}

    def shifted(self, answers: Array) -> Array:
        """Returns logits whose greatest entry gives the decision at the threshold.

        Args:
            answers: (n, 2) logits.

        Returns:
            (n, 2) logits.
        """
        if isinstance(answers, Tensor):
            return answers + answers.new_tensor([0.0, self.shift])
        return answers + np.array([0.0, self.shift])


def operating_threshold(y: np.ndarray, scores: np.ndarray, sensitivity: float) -> float:
    """Returns the highest threshold at which at least this share of the positives scores as high or higher.

    Args:
        y: (n,) labels, 1 for a positive.
        scores: (n,) finite, on any scale.
        sensitivity: fraction in (0, 1).

    Returns:
        The threshold, on the scale of the scores.
    """
    positives = np.sort(scores[y == 1])[::-1]
    # Rounded first: 0.55 · 100 is slightly above 55 in floating point.
    return float(positives[int(np.ceil(round(sensitivity * len(positives), 9))) - 1])
