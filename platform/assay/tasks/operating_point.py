"""The clinical operating point: two classes told apart at a threshold that reaches a sensitivity on validation records.

Class 1 is answered where its probability p reaches a threshold t. With p = 1/(1 + exp(z₀ − z₁)) of the logits z that is
z₁ + log((1 − t)/t) ≥ z₀. So a constant added to one logit moves the decision from 1/2 to t, and whatever holds of the
greatest logit (attacks, interval bounds, smoothing, the shape of every loss that is a function of the difference)
holds at the operating point of the shifted logits.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from assay.tasks.base import Array

_ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""By what share of the logits the threshold lies below the record that it is chosen by. A network may answer the same
record a little differently in another batch, and a record with that very probability is of class 1."""


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """A threshold on the probability of class 1, and what it makes of logits."""

    threshold: float
    """Probability from which on class 1 is answered."""
    shift: float
    """What is added to the logit of class 1, so that the greatest logit decides at the threshold."""
    sensitivity: float
    """That validation records were to reach."""
    chosen_on: str
    """``validation split``, or ``fixed`` where it cannot be chosen."""
    warnings: tuple[str, ...] = ()

    @classmethod
    def reaching(cls, sensitivity: float, answers: np.ndarray, targets: np.ndarray) -> "OperatingPoint":
        """Returns the highest threshold at which validation records reach the sensitivity, or 1/2 with a warning.

        Args:
            sensitivity: share of the records of class 1 that are to be answered so.
            answers: (m, 2) logits.
            targets: (m,) class numbers.
        """
        finite = bool(np.isfinite(answers).all())
        if not finite or not (targets == 1).any():
            why = "no validation records" if finite else "the model answers NaN or infinity to validation records"
            told = f"{why}: the threshold is 0.5, not an operating point"
            return cls(threshold=0.5, shift=0.0, sensitivity=sensitivity, chosen_on="fixed", warnings=(told,))
        lead = answers[:, 1] - answers[:, 0]
        least = operating_threshold(targets, lead, sensitivity)
        spare = _ROUNDING * float(np.abs(answers).max(initial=1.0))
        # In float32, so that networks of any precision add the same number.
        shift, odds = float(np.float32(spare - least)), float(np.exp(-abs(least)))
        threshold = (1.0 if least >= 0 else odds) / (1.0 + odds)
        return cls(threshold=threshold, shift=shift, sensitivity=sensitivity, chosen_on="validation split")

    @property
    def conditions(self) -> dict[str, object]:
        """What a measurement that was judged here says of it."""
        kind = "fixed threshold" if self.chosen_on == "fixed" else "operating point"
        return {"decided_at": kind, "threshold": self.threshold}

    def shifted(self, answers: Array) -> Array:
        """Returns logits, (n, 2), whose greatest says what is answered at the threshold."""
        if isinstance(answers, Tensor):
            return answers + answers.new_tensor([0.0, self.shift])
        return answers + np.array([0.0, self.shift])


def operating_threshold(y: np.ndarray, scores: np.ndarray, sensitivity: float) -> float:
    """Returns the highest threshold at which at least this share of the positives scores as high or higher.

    Args:
        y: (n,) labels, 1 of a positive.
        scores: (n,) finite, of any scale.
        sensitivity: in (0, 1).
    """
    positives = np.sort(scores[y == 1])[::-1]
    # Rounded first: 0.55 · 100 is a hair above 55 in floating point.
    return float(positives[int(np.ceil(round(sensitivity * len(positives), 9))) - 1])
