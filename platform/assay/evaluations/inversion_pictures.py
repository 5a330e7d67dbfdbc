"""Pictures of records and of their reconstructions, for data sets that may be shown to everybody."""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from assay.data.base import Dataset
from assay.evaluations.licences import is_public

_LARGEST = 64
"""Pixels of a side; larger pictures are thinned."""


def may_be_shown(dataset: Dataset) -> bool:
    """Returns whether records of a data set may stand in a report: images that anyone may publish, by their licence.

    A picture of a patient in a report is a leak itself. Nothing is shown where the licence is unknown.

    Args:
        dataset: the data.

    Returns:
        True for published images of one or three channels.
    """
    drawable = dataset.modality == "image" and len(dataset.shape) == 3 and dataset.shape[0] in (1, 3)
    return drawable and is_public(dataset)


def encoded(dataset: Dataset, pictures: Sequence[np.ndarray]) -> dict[str, Any]:
    """Returns pictures as text, for the conditions of a measurement.

    Args:
        dataset: its bounds are black and white.
        pictures: (channels, height, width) each, all of one shape.

    Returns:
        ``shape`` of all of them, and ``bytes``: grey values of 8 bits in base64.
    """
    x = np.stack(pictures).astype(np.float64)
    grey = (x - dataset.low) / (dataset.high - dataset.low)
    step = -(-max(x.shape[-2:]) // _LARGEST)
    whole = np.clip(np.rint(255 * grey[..., ::step, ::step]), 0, 255).astype(np.uint8)
    return {"shape": list(whole.shape), "bytes": base64.b64encode(whole.tobytes()).decode()}


def decoded(stored: dict[str, Any]) -> np.ndarray:
    """Returns the pictures that ``encoded`` turned to text.

    Args:
        stored: ``shape`` and ``bytes``.

    Returns:
        (n, channels, height, width) uint8.
    """
    return np.frombuffer(base64.b64decode(stored["bytes"]), np.uint8).reshape(stored["shape"])
