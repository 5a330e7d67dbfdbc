"""Training on noisy records, the base of randomised smoothing (Cohen et al. 2019, arXiv:1902.02918)."""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from assay.bounds.smoothing import noisy
from assay.objectives.base import Batch, Objective
from assay.registry import Number, register


@register("objective")
class GaussianNoise(Objective):
    """Cross-entropy on records with normal noise, drawn anew at every step.

    The noise is not clipped to valid records, just as in the smoothed model.
    """

    name: Literal["gaussian_noise"] = "gaussian_noise"
    sigma: Number = Field(gt=0)
    """Standard deviation of the noise, in the units of the data; it should equal that of the smoothing."""

    def craft(self, model: nn.Module, batch: Batch) -> Tensor:
        x, bounds = batch.movable(model)
        return noisy(x, batch.draw.normal(x), bounds, self.sigma)

    def losses(self, model: nn.Module, batch: Batch, crafted: Tensor) -> Tensor:
        return batch.task.losses(model(batch.moved(model, crafted)), batch.y)
