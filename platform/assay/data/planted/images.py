"""Images like radiographs of a chest, some with a soft opacity at a random place."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from assay import seeds
from assay.data.base import Dataset, Normalisation
from assay.data.images.base import PIXEL
from assay.data.planted.base import DRAWN, Planted
from assay.registry import register

SIDE = 28
_INSIDE = 0.3
"""Share of its peak above which the opacity belongs to the truth."""
_RIBS = 0.06
_FIELD = 0.08
_NOISE = 0.02


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    x: np.ndarray
    """(n, 1, side, side) float64, in 0 … 1."""
    y: np.ndarray
    """(n,) whether an opacity is planted."""
    truth: np.ndarray
    """(n, 1, side, side) bool."""


@register("dataset")
class PlantedImages(Planted):
    """28 × 28 pixels of a smooth field with stripes like ribs; half have a soft opacity, whose presence is the class.

    The opacity is a Gaussian of random width at a random place, and the truth is where it exceeds a share of its peak:
    about 6 % of the pixels. Field, stripes and brightness vary at random, so the mean of an image tells nothing. Images
    without an opacity have an empty truth.
    """

    name: Literal["planted_images"] = "planted_images"
    opacity: float = Field(default=0.4, gt=0, le=0.5)
    """Height of the opacity at its peak; pixels are in 0 … 1."""

    def load(self) -> Dataset:
        drawn = self._drawn()
        return Dataset(
            name=self.name,
            x=drawn.x.astype(np.float32),
            y=drawn.y,
            class_names=("clear", "opacity"),
            feature_names=(),
            low=np.zeros((1, 1, 1), np.float32),
            high=np.ones((1, 1, 1), np.float32),
            units=PIXEL,
            epsilons=(0.0, 0.01, 0.02, 0.05, 0.1),
            licence="none needed",
            warnings=(DRAWN,),
            stated=(DRAWN,),
            modality="image",
            normalisation=Normalisation(mean=(0.45,), deviation=(0.15,)),
            preprocessing="the first layer of a network takes away 0.45 and divides by 0.15, stated, not learnt",
        )

    def truth(self, rows: np.ndarray | None = None) -> np.ndarray:
        truth = self._drawn().truth
        return truth if rows is None else truth[rows]

    def _drawn(self) -> _Drawn:
        generator = seeds.stream(self.draw, self.name, "records")
        n, down, across = self.size, *np.mgrid[0:SIDE, 0:SIDE][:, None] / (SIDE - 1)
        x = 0.4 + self._field(generator, down, across) + self._ribs(generator, down, across)
        shape = self._opacities(generator, down, across)
        y = generator.permutation(np.arange(n) % 2)
        planted = shape * y[:, None, None]
        # Every image has the same distribution of its mean: brightness is no hint of an opacity.
        x = x - x.mean((1, 2), keepdims=True) + generator.uniform(0.35, 0.55, (n, 1, 1))
        x = x + self.opacity * (planted - planted.mean((1, 2), keepdims=True))
        x = np.clip(x + _NOISE * generator.standard_normal(x.shape), 0, 1)
        return _Drawn(x=x[:, None], y=y.astype(np.int64), truth=(planted > _INSIDE)[:, None])

    def _field(self, generator: np.random.Generator, down: np.ndarray, across: np.ndarray) -> np.ndarray:
        """Returns smooth waves of low frequency, (n, side, side)."""
        total = np.zeros((self.size, SIDE, SIDE))
        for frequency_down, frequency_across in ((0.5, 0.5), (1.0, 0.5), (0.5, 1.0)):
            phase = generator.uniform(0, 2 * np.pi, (self.size, 1, 1))
            height = generator.uniform(0, _FIELD, (self.size, 1, 1))
            total += height * np.cos(2 * np.pi * (frequency_down * down + frequency_across * across) + phase)
        return total

    def _ribs(self, generator: np.random.Generator, down: np.ndarray, across: np.ndarray) -> np.ndarray:
        """Returns bent stripes across the image, (n, side, side)."""
        draw = generator.uniform(size=(4, self.size, 1, 1))
        bend = (0.3 + 0.3 * draw[0]) * (across - 0.5) ** 2
        stripes = np.cos(2 * np.pi * ((4 + 2 * draw[1]) * (down + bend) + draw[2]))
        return _RIBS * (0.5 + draw[3]) * stripes

    def _opacities(self, generator: np.random.Generator, down: np.ndarray, across: np.ndarray) -> np.ndarray:
        """Returns a Gaussian of peak 1 for each image, (n, side, side)."""
        place = generator.uniform(0.12, 0.88, (2, self.size, 1, 1))
        width = generator.uniform(0.07, 0.11, (self.size, 1, 1))
        return np.exp(-((down - place[0]) ** 2 + (across - place[1]) ** 2) / (2 * width**2))
