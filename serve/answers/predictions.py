"""Predicted classes with all probabilities."""

from typing import Any

import numpy as np

from serve.answers.warned import warned
from serve.inputs.records import Records
from serve.model import ServedModel


def predictions(model: ServedModel, logits: np.ndarray, records: Records) -> list[dict[str, Any]]:
    """Returns the predictions of records.

    Args:
        model: that answered.
        logits: (n, classes).
        records: that were answered.

    Returns:
        One mapping a record: its class, all probabilities, and the warnings about the record, if there are any.
    """
    names = model.dataset.class_names
    probabilities = model.probabilities(logits).tolist()
    answers: list[dict[str, Any]] = [
        {"class_name": names[k], "class_index": k, "probabilities": dict(zip(names, row, strict=True))}
        for k, row in zip(model.decisions(logits).tolist(), probabilities, strict=True)
    ]
    return warned(answers, records)
