"""Predicted classes with all probabilities."""

from typing import Any

import numpy as np

from serve.model import ServedModel


def predictions(model: ServedModel, logits: np.ndarray) -> list[dict[str, Any]]:
    """Returns the predictions of records.

    Args:
        model: that answered.
        logits: (n, classes).

    Returns:
        One mapping a record: its class and all probabilities.
    """
    names = model.dataset.class_names
    probabilities = model.probabilities(logits).tolist()
    return [
        {"class_name": names[k], "class_index": k, "probabilities": dict(zip(names, row, strict=True))}
        for k, row in zip(model.decisions(logits).tolist(), probabilities, strict=True)
    ]
