"""Adversarial training (Madry et al. 2018, arXiv:1706.06083)."""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from assay.attacks.ascent import ascend, random_start
from assay.objectives.base import Batch, Objective
from assay.registry import Number, register
from assay.threats import Norm


@register("objective")
class AdversarialPGD(Objective):
    """Cross-entropy on the worst records that PGD finds, from a random start, for the current weights."""

    name: Literal["pgd"] = "pgd"
    epsilon: Number = Field(gt=0)
    """Radius of the perturbations, in the units of the data."""
    steps: int = Field(default=7, ge=1)
    relative_step: float = Field(default=2.5, gt=0)
    norm: Norm = "linf"

    def craft(self, model: nn.Module, batch: Batch) -> Tensor:
        x, bounds = batch.movable(model)
        threat = batch.threat(bounds, epsilon=self.epsilon, norm=self.norm)
        worst, _ = ascend(
            model,
            x,
            batch.y,
            threat,
            start=random_start(x, threat, batch.draw),
            steps=self.steps,
            step_size=self.relative_step * self.epsilon / self.steps,
            loss=batch.task.losses,
        )
        return worst

    def losses(self, model: nn.Module, batch: Batch, crafted: Tensor) -> Tensor:
        return batch.task.losses(model(batch.moved(model, crafted)), batch.y)
