"""Helpers for image data sets: (channels, height, width) with intensities from 0 to 1."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.data.array_files import read_npz
from assay.data.base import Dataset, Lazy, Normalisation
from assay.errors import DataError

PIXEL = "range of a pixel, black to white"
RADII = (0.0, 1 / 255, 2 / 255, 4 / 255, 8 / 255)
"""Usual radii of attacks on images (L∞; Croce et al. 2021, RobustBench), and smaller ones."""


def image_dataset(*, name: str, x: np.ndarray | Lazy, y: np.ndarray, **about: Any) -> Dataset:
    """Returns a data set of images between black and white.

    Args:
        name: of the data set.
        x: (n, channels, height, width) float32 in [0, 1].
        y: (n,) labels.
        about: further fields of ``Dataset``.

    Returns:
        The data set, with the usual bounds, radii and normalisation unless ``about`` names others.
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
    """Returns the normalisation of pixels from [0, 1] to [-1, 1], which learns nothing from the data.

    Args:
        channels: number of channels.

    Returns:
        Mean and standard deviation 0.5 for each channel.
    """
    return Normalisation(mean=(0.5,) * channels, deviation=(0.5,) * channels)


def intensities(pixels: np.ndarray) -> np.ndarray:
    """Converts 8-bit pixels to intensities.

    Args:
        pixels: (n, height, width) or (n, height, width, channels) uint8.

    Returns:
        (n, channels, height, width) float32 in [0, 1].
    """
    channels_first = pixels[:, None] if pixels.ndim == 3 else np.moveaxis(pixels, -1, 1)
    return np.divide(channels_first, 255, dtype=np.float32, order="C")


def read_named_arrays(path: Path, wanted: Sequence[str], *, dataset: str) -> dict[str, np.ndarray]:
    """Reads the named arrays of a published ``.npz`` file.

    Args:
        path: of the file.
        wanted: names of the arrays.
        dataset: name of the data set, for errors.

    Returns:
        The arrays by name.

    Raises:
        DataError: the file is not an archive, lacks an array, or holds objects that would have to be unpickled.
    """
    try:
        return read_npz(path, wanted)
    except DataError as error:
        raise DataError(f"{dataset}: {error}; the published file has {', '.join(wanted)}: fetch it again") from None
