"""A soft bright spot at a random place, as of an infiltrate."""

from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from assay.explain.concepts.base import PlantedConcept, Pool, white
from assay.registry import register


@register("concept")
class Opacity(PlantedConcept):
    """A Gaussian of light that is added at another random place in each example, as in the data set
    ``planted_images``."""

    name: Literal["opacity"] = "opacity"
    width: float = Field(default=0.09, gt=0, le=0.5)
    """Standard deviation of the spot, as a share of a side."""
    height: float = Field(default=0.4, gt=0, le=1)
    """Brightness that is added at its peak, as a share of the range from black to white."""

    @property
    def described(self) -> str:
        return f"a soft bright spot at a random place (standard deviation {self.width:.0%} of a side)"

    def plant(self, x: Tensor, pool: Pool, draw: np.random.Generator) -> Tensor:
        down, across = (torch.linspace(0, 1, side, dtype=x.dtype, device=x.device) for side in x.shape[-2:])
        place = torch.from_numpy(draw.uniform(0.12, 0.88, (2, len(x), 1))).to(x)
        rows, columns = (
            (-((axis - centre) ** 2) / (2 * self.width**2)).exp()
            for axis, centre in zip((down, across), place, strict=True)
        )
        peak = self.height * (white(pool, 1.0) - white(pool, 0.0))
        return x + peak * (rows[:, :, None] * columns[:, None, :])[:, None]
