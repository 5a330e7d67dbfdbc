"""The operating point of a decision, on the scale of the probabilities that an answer shows.

Class 1 is decided where its logit, with a shift, is the greater one (``assay.tasks.operating_point``). Calibration
divides logits by a temperature, which moves probabilities: the threshold moves with them, or a class would be shown on
the wrong side of it.
"""

from typing import Any

import numpy as np
from scipy.special import expit

from assay.tasks.operating_point import OperatingPoint


def decided_at(
    point: OperatingPoint, class_name: str, *, decided: bool, calibrated: float, uncalibrated: float, temperature: float
) -> dict[str, Any]:
    """Returns the operating point of the decision on one record.

    Args:
        point: of the model.
        class_name: the class that is decided at the threshold.
        decided: whether it was.
        calibrated: its probability after calibration.
        uncalibrated: its probability as the model gives it.
        temperature: of the calibration.

    Returns:
        The fields of ``answer_messages.DecidedAt``.
    """
    return {
        "class_name": class_name,
        "threshold": _beside(float(expit(-point.shift / temperature)), calibrated, decided=decided),
        "uncalibrated_probability": uncalibrated,
        "uncalibrated_threshold": _beside(point.threshold, uncalibrated, decided=decided),
    }


def _beside(threshold: float, probability: float, *, decided: bool) -> float:
    """Returns a threshold that rounding has not put on the wrong side of the probability that it decided.

    Decisions compare logits in float32. Where a record lies on the threshold, its probability may differ by rounding.
    """
    return min(threshold, probability) if decided else max(threshold, float(np.nextafter(probability, 2.0)))
