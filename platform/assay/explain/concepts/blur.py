"""A blurred image, as of a patient who moved."""

from typing import Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from assay.explain.concepts.base import PlantedConcept, Pool
from assay.explain.measures.replacements.smooth import blurred
from assay.registry import register


@register("concept")
class Blur(PlantedConcept):
    """A Gaussian blur of the whole image."""

    name: Literal["blur"] = "blur"
    width: float = Field(default=0.05, gt=0, le=0.5)
    """Standard deviation of the blur, as a share of a side."""

    @property
    def described(self) -> str:
        return f"a blurred image (standard deviation {self.width:.0%} of a side)"

    def plant(self, x: Tensor, pool: Pool, draw: np.random.Generator) -> Tensor:
        return blurred(x, self.width)
