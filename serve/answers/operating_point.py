"""The operating point of a decision, on the scale of the probabilities that an answer shows.

Class 1 is decided where its logit, with a shift, is the greater one (``assay.tasks.operating_point``). Calibration
divides logits by a temperature, which moves probabilities: the threshold moves with them, or a class would be shown on
the wrong side of it.
"""

from typing import Any

import numpy as np
from scipy.special import expit

from assay.tasks.operating_point import OperatingPoint

_ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""Greatest relative rounding error of a decision in float32, and of a probability."""
_ROUNDING_OF_DOUBLE = 4 * float(np.finfo(np.float64).eps)
_LARGEST_MARGIN = 1e-3
"""Greatest difference of a threshold from the probability at which the shifted logits decide."""


def decided_at(
    point: OperatingPoint,
    class_name: str,
    *,
    decided: bool,
    logits: np.ndarray,
    calibrated: float,
    uncalibrated: float,
    temperature: float,
) -> dict[str, Any]:
    """Returns the operating point of the decision on one record.

    Args:
        point: of the model.
        class_name: the class that is decided at the threshold.
        decided: whether it was.
        logits: (2,) of the record.
        calibrated: its probability after calibration.
        uncalibrated: its probability as the model gives it.
        temperature: of the calibration.

    Returns:
        The fields of ``answer_messages.DecidedAt``.

    Raises:
        RuntimeError: the class and a threshold disagree by more than rounding.
    """
    rounding = _ROUNDING * max(1.0, float(np.abs(logits).max()), abs(point.shift))  # in logits
    # The threshold of the metadata leaves out the margin of the decision, by which its own record is on its side.
    margin = min(abs(float(expit(-point.shift)) - point.threshold), _LARGEST_MARGIN)
    # A probability changes by at most a quarter of the change of its logit.
    shown, as_given = rounding / (4 * temperature), rounding / 4 + _ROUNDING + margin
    return {
        "class_name": class_name,
        "threshold": _beside(float(expit(-point.shift / temperature)), calibrated, decided=decided, most=shown),
        "uncalibrated_probability": uncalibrated,
        "uncalibrated_threshold": _beside(point.threshold, uncalibrated, decided=decided, most=as_given),
    }


def _beside(threshold: float, probability: float, *, decided: bool, most: float) -> float:
    """Returns a threshold that rounding, of at most ``most``, has not put on the wrong side of a probability.

    Decisions compare logits in float32: where a record lies on the threshold, its probability may differ by rounding.
    """
    beside = min(threshold, probability) if decided else max(threshold, float(np.nextafter(probability, 2.0)))
    if abs(beside - threshold) > most + _ROUNDING_OF_DOUBLE:
        side = "decided" if decided else "not decided"
        raise RuntimeError(
            f"a class was {side} on the other side of its threshold {threshold:.9g}, {abs(beside - threshold):.2g} "
            f"away, which is more than rounding ({most:.2g}): rule of decision and threshold disagree"
        )
    return beside
