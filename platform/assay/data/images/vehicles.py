"""Photographs in two classes, in the form of small X-rays, for choosing settings without using patients' data."""

from typing import Literal

import numpy as np

from assay.data.base import Dataset, Source
from assay.data.images.base import PIXEL
from assay.data.images.cifar10 import CIFAR10, CLASSES
from assay.registry import register

_VEHICLES = ("airplane", "automobile", "ship", "truck")
_EDGE = 2
"""Number of pixels that are cut off on every side: 28 × 28 are left."""


@register("dataset")
class Vehicles(Source):
    """CIFAR-10's vehicles against its animals, in grey, 28 × 28 pixels, on the official split.

    The task is about as large and as varied as that of the X-rays of ``pneumoniamnist``. Choosing settings of private
    training on it costs no patient any ε.
    """

    name: Literal["vehicles"] = "vehicles"

    def load(self) -> Dataset:
        photographs = CIFAR10().load()
        grey = np.asarray(photographs.x, np.float32).mean(1, keepdims=True)
        kinds = [CLASSES.index(name) for name in _VEHICLES]
        return Dataset(
            name=self.name,
            x=np.ascontiguousarray(grey[..., _EDGE:-_EDGE, _EDGE:-_EDGE]),
            y=np.isin(photographs.y, kinds).astype(np.int64),
            class_names=("animal", "vehicle"),
            feature_names=tuple(f"row {row}, column {column}" for row in range(28) for column in range(28)),
            low=np.zeros((1, 1, 1), np.float32),
            high=np.ones((1, 1, 1), np.float32),
            units=PIXEL,
            epsilons=photographs.epsilons,
            licence=photographs.licence,
            citation=photographs.citation,
            preprocessing="each pixel divided by 255; colours averaged, two pixels cut off on every side",
            warnings=photographs.warnings,
            stated=photographs.stated,
            modality="image",
            official=photographs.official,
        )
