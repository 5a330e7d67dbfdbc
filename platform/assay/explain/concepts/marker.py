"""A bright marker in a corner, as a letter of lead on an X-ray."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from assay.explain.concepts.base import PlantedConcept, Pool, white
from assay.registry import register


@register("concept")
class Marker(PlantedConcept):
    """A white square in one corner: radiographs carry such letters, which tell the hospital and not the disease."""

    name: Literal["marker"] = "marker"
    corner: Literal["upper_left", "upper_right", "lower_left", "lower_right"] = "upper_right"
    """Where it lies."""
    size: float = Field(default=0.15, gt=0, le=0.5)
    """Side of the square, as a share of the image's height and width."""

    margin: ClassVar[float] = 0.03
    """Distance from the border, as a share of a side."""

    @property
    def described(self) -> str:
        return f"a white square in the {self.corner.replace('_', ' ')} corner, {self.size:.0%} of a side"

    def plant(self, x: Tensor, pool: Pool, draw: np.random.Generator) -> Tensor:
        vertical, horizontal = self.corner.split("_")
        down = self._span(x.shape[-2], first=vertical == "upper")
        across = self._span(x.shape[-1], first=horizontal == "left")
        x[..., down, across] = white(pool, 1.0)
        return x

    def _span(self, side: int, *, first: bool) -> slice:
        """Returns the pixels of one side of the square, from the first or from the last edge."""
        gap, length = round(self.margin * side), max(1, round(self.size * side))
        return slice(gap, gap + length) if first else slice(side - gap - length, side - gap)
