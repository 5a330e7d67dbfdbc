"""Fast adversarial training: FGSM from a random start (Wong et al. 2020, arXiv:2001.03994)."""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks.pgd import ascend, random_start
from assay.objectives.base import Batch, Objective
from assay.registry import Number, register
from assay.threats import Threat


@register("objective")
class FastAdversarial(Objective):
    """Cross-entropy on one signed gradient step (L∞) from a random point of the ball: one extra pass, not seven.

    A step much above 1.25 ε, or a large ε, may overfit to the single step and lose all robustness against PGD.
    """

    name: Literal["fast"] = "fast"
    epsilon: Number = Field(gt=0)
    """Radius of the examples, in the units of the data."""
    relative_step: float = Field(default=1.25, gt=0)
    """Size of the step, in ε."""

    def craft(self, model: nn.Module, batch: Batch) -> Tensor:
        x, bounds = batch.movable(model)
        threat = Threat(norm="linf", epsilon=self.epsilon, bounds=bounds)
        start = random_start(x, threat, batch.draw)
        size = self.relative_step * self.epsilon
        stepped, _ = ascend(model, x, batch.y, threat, start=start, steps=1, step_size=size)
        return stepped

    def losses(self, model: nn.Module, batch: Batch, crafted: Tensor) -> Tensor:
        return F.cross_entropy(model(batch.moved(model, crafted)), batch.y, reduction="none")
