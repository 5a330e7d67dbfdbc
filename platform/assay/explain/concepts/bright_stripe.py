"""A bright stripe at a random place, as of a tube or a cable."""

from typing import Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from assay.explain.concepts.base import PlantedConcept, Pool, white
from assay.registry import register


@register("concept")
class BrightStripe(PlantedConcept):
    """A bright vertical stripe of the image's whole height, at another random place in each example."""

    name: Literal["bright_stripe"] = "bright_stripe"
    width: float = Field(default=0.05, gt=0, le=0.5)
    """Width of the stripe, as a share of the image's width."""
    brightness: float = Field(default=0.9, ge=0, le=1)
    """From black (0) to white (1)."""

    @property
    def described(self) -> str:
        return f"a bright vertical stripe at a random place, {self.width:.0%} of the width"

    def plant(self, x: Tensor, pool: Pool, draw: np.random.Generator) -> Tensor:
        side = x.shape[-1]
        width = max(1, round(self.width * side))
        for row, start in enumerate(draw.integers(side - width + 1, size=len(x)).tolist()):
            x[row, ..., start : start + width] = white(pool, self.brightness)
        return x
