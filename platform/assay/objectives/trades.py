"""TRADES: accuracy traded for robustness by one weight (Zhang et al. 2019, arXiv:1901.08573)."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks.ascent import ascend
from assay.objectives.base import Batch, Objective
from assay.registry import Number, register
from assay.threats import Norm, Threat

_START = 0.03
"""Standard deviation of the random start, in ε; the paper's 0.001 at ε = 0.031. At the record itself KL is flat."""


@register("objective")
class Trades(Objective):
    """Cross-entropy of the record, and ``beta`` times how far the answer can be moved within the ball.

    The second term is the Kullback-Leibler divergence KL(answer to the record ‖ answer to the example); the example is
    found by climbing it, so it needs no label.
    """

    name: Literal["trades"] = "trades"
    epsilon: Number = Field(gt=0)
    """Radius of the examples, in the units of the data."""
    beta: float = Field(default=6.0, ge=0)
    """Weight of robustness, 1/λ in the paper; at 0 the loss is that of standard training."""
    steps: int = Field(default=10, ge=1)
    relative_step: float = Field(default=2.5, gt=0)
    """Size of a step is ``relative_step * epsilon / steps``."""
    norm: Norm = "linf"

    def craft(self, model: nn.Module, batch: Batch) -> Tensor:
        x, bounds = batch.movable(model)
        threat = Threat(norm=self.norm, epsilon=self.epsilon, bounds=bounds)
        with torch.no_grad():
            clean = model(x).log_softmax(1)
        found, _ = ascend(
            model,
            x,
            batch.y,
            threat,
            start=threat.project(x + _START * self.epsilon * batch.draw.normal(x), x),
            steps=self.steps,
            step_size=self.relative_step * self.epsilon / self.steps,
            loss=lambda logits, _: divergence(clean, logits.log_softmax(1)),
        )
        return found

    def losses(self, model: nn.Module, batch: Batch, crafted: Tensor) -> Tensor:
        clean, moved = model(batch.both(model, crafted)).chunk(2)
        robustness = divergence(clean.log_softmax(1), moved.log_softmax(1))
        return F.cross_entropy(clean, batch.y, reduction="none") + self.beta * robustness


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p ‖ q) of each record, (n,), from log-probabilities (n, classes)."""
    return F.kl_div(q, p, reduction="none", log_target=True).sum(1)
