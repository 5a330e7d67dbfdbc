"""Images, as (channels, height, width) with intensities from 0 to 1."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.data.array_files import read_npz
from assay.data.base import Dataset, Lazy, Normalisation
from assay.errors import DataError

PIXEL = "range of a pixel, black to white"
RADII = (0.0, 1 / 255, 2 / 255, 4 / 255, 8 / 255)
"""The radii at which the field attacks images (Croce et al. 2021, RobustBench), and three below them."""


def image_dataset(*, name: str, x: np.ndarray | Lazy, y: np.ndarray, **about: Any) -> Dataset:
    """A data set of images between black and white; ``about`` is whatever else a ``Dataset`` holds.

    Args:
        x: (n, channels, height, width) float32 in [0, 1].
    """
    usual = {
        "feature_names": (),
        "low": np.zeros((1, 1, 1), np.float32),
        "high": np.ones((1, 1, 1), np.float32),
        "units": PIXEL,
        "epsilons": RADII,
        "modality": "image",
        "normalisation": halves(x.shape[1]),
    }
    return Dataset(name=name, x=x, y=y, **{**usual, **about})


def halves(channels: int) -> Normalisation:
    """Pixels from [0, 1] to [-1, 1]: learns nothing from the data."""
    return Normalisation(mean=(0.5,) * channels, deviation=(0.5,) * channels)


def intensities(pixels: np.ndarray) -> np.ndarray:
    """From uint8 (n, height, width) or (n, height, width, channels) to float32 (n, channels, height, width)."""
    channels_first = pixels[:, None] if pixels.ndim == 3 else np.moveaxis(pixels, -1, 1)
    return np.divide(channels_first, 255, dtype=np.float32, order="C")


def read_named_arrays(path: Path, wanted: Sequence[str], *, dataset: str) -> dict[str, np.ndarray]:
    """The named arrays of a published ``.npz`` file.

    Raises:
        DataError: it is no such file, lacks one of them, or holds what would have to be unpickled.
    """
    try:
        return read_npz(path, wanted)
    except DataError as error:
        raise DataError(f"{dataset}: {error}; the published file has {', '.join(wanted)}: fetch it again") from None
