"""A bright border around the image, as of a scanned film or a collimator."""

from typing import Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from assay.explain.concepts.base import PlantedConcept, Pool, white
from assay.registry import register


@register("concept")
class Border(PlantedConcept):
    """A white frame along all four edges."""

    name: Literal["border"] = "border"
    width: float = Field(default=0.07, gt=0, le=0.25)
    """Width of the frame, as a share of a side."""

    @property
    def described(self) -> str:
        return f"a white frame along the edges, {self.width:.0%} of a side wide"

    def plant(self, x: Tensor, pool: Pool, draw: np.random.Generator) -> Tensor:
        value = white(pool, 1.0)
        down, across = (max(1, round(self.width * side)) for side in x.shape[-2:])
        x[..., :down, :] = x[..., -down:, :] = value
        x[..., :, :across] = x[..., :, -across:] = value
        return x
