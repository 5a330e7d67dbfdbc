"""Carlini & Wagner's L2 attack (2017, arXiv:1608.04644) with binary search over the trade-off constant."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from assay.attacks.base import Attack
from assay.attacks.losses import margin
from assay.registry import register
from assay.seeds import Draw
from assay.threats import Threat, flat_norm

# tanh is flat at ±1: records on a bound start this far inside it, or no gradient would ever move them.
_INSIDE = 1 - 1e-4


@register("attack")
class CarliniWagner(Attack):
    """Minimises ``|change|² + c · max(margin deficit, 0)`` in tanh space; each record keeps its smallest success.

    A minimal-norm attack: run it at an infinite radius in L2 and read the distances.
    """

    name: Literal["carlini_wagner"] = "carlini_wagner"
    steps: int = Field(default=100, ge=1)
    search_steps: int = Field(default=6, ge=1)
    learning_rate: float = Field(default=0.02, gt=0)
    initial_constant: float = Field(default=1.0, gt=0)
    confidence: float = Field(default=0.0, ge=0)

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw) -> Tensor:
        if threat.norm != "l2":
            raise ValueError("C&W minimises the L2 norm; under L∞ run PGD with its margin loss instead")
        constant = torch.full((len(x),), self.initial_constant, device=x.device, dtype=x.dtype)
        low, high = torch.zeros_like(constant), torch.full_like(constant, torch.inf)
        best, best_distance = x.clone(), torch.full_like(constant, torch.inf)
        for _ in range(self.search_steps):
            found, distance = self._minimise(model, x, y, threat, constant)
            success = distance.isfinite()
            better = distance < best_distance
            best[better], best_distance = found[better], torch.minimum(distance, best_distance)
            high = torch.where(success, torch.minimum(high, constant), high)
            low = torch.where(success, low, torch.maximum(low, constant))
            constant = torch.where(high.isfinite(), (low + high) / 2, constant * 10)
        return best

    def _minimise(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, constant: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The smallest success at this constant and its length, infinite where there was none."""
        centre = (threat.bounds.high + threat.bounds.low).to(x) / 2
        half = (threat.bounds.high - threat.bounds.low).to(x) / 2
        free = torch.atanh(((x - centre) / half).clamp(-1, 1) * _INSIDE).detach()
        optimizer = torch.optim.Adam([free.requires_grad_(True)], lr=self.learning_rate)
        best, best_distance = x.clone(), torch.full_like(constant, torch.inf)
        for _ in range(self.steps):
            with torch.enable_grad():
                tried = centre + half * torch.tanh(free)
                distance = flat_norm(tried - x)
                advantage = margin(model(tried), y)
                deficit = (self.confidence - advantage).clamp_min(0)
                (free.grad,) = torch.autograd.grad((distance.square() + constant * deficit).sum(), free)
            hit = (advantage > self.confidence) & (distance < best_distance)
            best[hit], best_distance[hit] = tried.detach()[hit], distance.detach()[hit]
            optimizer.step()
        return best, best_distance
