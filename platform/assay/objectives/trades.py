"""TRADES: a weighted trade-off between accuracy and robustness (Zhang et al. 2019, arXiv:1901.08573)."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from assay.attacks.ascent import ascend
from assay.objectives.base import Batch, Objective
from assay.registry import Number, register
from assay.threats import Norm

_START = 0.03
"""Standard deviation of the random start, in ε; the paper's 0.001 at ε = 0.031. At the record itself KL is flat."""


@register("objective")
class Trades(Objective):
    """Cross-entropy of the record, plus ``beta`` times the greatest change of the output within the ball.

    The second term is the Kullback-Leibler divergence KL(output for the record ‖ output for the perturbed record). The
    perturbation maximises it, so it needs no label.
    """

    name: Literal["trades"] = "trades"
    epsilon: Number = Field(gt=0)
    """Radius of the perturbations, in the units of the data."""
    beta: float = Field(default=6.0, ge=0)
    """Weight of robustness, 1/λ in the paper; at 0 the loss is that of standard training."""
    steps: int = Field(default=10, ge=1)
    relative_step: float = Field(default=2.5, gt=0)
    """Size of a step is ``relative_step * epsilon / steps``."""
    norm: Norm = "linf"

    def craft(self, model: nn.Module, batch: Batch) -> Tensor:
        x, bounds = batch.movable(model)
        threat = batch.threat(bounds, epsilon=self.epsilon, norm=self.norm)
        with torch.no_grad():
            divergence = batch.task.divergence_from(model(x))
        worst, _ = ascend(
            model,
            x,
            batch.y,
            threat,
            start=threat.project(x + _START * self.epsilon * batch.draw.normal(x), x),
            steps=self.steps,
            step_size=self.relative_step * self.epsilon / self.steps,
            loss=lambda answers, _: divergence(answers),
        )
        return worst

    def losses(self, model: nn.Module, batch: Batch, crafted: Tensor) -> Tensor:
        clean, moved = model(batch.both(model, crafted)).chunk(2)
        robustness = batch.task.divergence_from(clean)(moved)
        return batch.task.losses(clean, batch.y) + self.beta * robustness
