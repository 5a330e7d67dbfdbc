"""Carlini & Wagner's L2 attack (2017, arXiv:1608.04644) with binary search over the trade-off constant."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from assay.attacks.ascent import broadcast_to_records
from assay.attacks.base import Attack
from assay.attacks.losses import margin
from assay.registry import register
from assay.seeds import Draw
from assay.threats import Norm, Threat, flat_norm

_CACHED = 2**17
"""Greatest number of entries in one batch on a CPU; see ``attacks.curve``."""


@register("attack")
class CarliniWagner(Attack):
    """Minimises ``|change|² + c · max(margin deficit, 0)`` within the bounds; each record keeps its smallest success.

    A minimal-norm attack: run it at an infinite radius in L2 and read the distances.
    """

    norms: ClassVar[tuple[Norm, ...]] = ("l2",)
    minimal: ClassVar[bool] = True

    name: Literal["carlini_wagner"] = "carlini_wagner"
    steps: int = Field(default=100, ge=1)
    search_steps: int = Field(default=4, ge=1)
    learning_rate: float = Field(default=0.02, gt=0)
    initial_constant: float = Field(default=1.0, gt=0)
    confidence: float = Field(default=0.0, ge=0)

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw) -> Tensor:
        with torch.no_grad():
            right = ~threat.goal(model(x), y)
        best = x.clone()
        # Records are independent. Those that are misclassified already need no search, and small batches stay in the
        # cache of the CPU.
        most = len(x) if x.is_cuda else max(16, _CACHED // math.prod(x.shape[1:]))
        for rows in right.nonzero()[:, 0].split(max(most, 1)):
            best[rows] = self._search(model, x[rows], y[rows], threat)
        return best

    def _search(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """Returns the nearest records that fool the model, for records that do not; unchanged where none was found.

        A record that no search has fooled yet continues from the end of the last search, because its boundary may be
        out of
        reach of one search. The last search starts from the nearest success so far.
        """
        constant = torch.full((len(x),), self.initial_constant, device=x.device, dtype=x.dtype)
        low, high = torch.zeros_like(constant), torch.full_like(constant, torch.inf)
        best, best_distance = x.clone(), torch.full_like(constant, torch.inf)
        start = x
        for search in range(self.search_steps):
            perturbed, distance, end = self._minimise(model, x, y, threat, constant, start)
            success = distance.isfinite()
            better = distance < best_distance
            best[better], best_distance = perturbed[better], torch.minimum(distance, best_distance)
            high = torch.where(success, torch.minimum(high, constant), high)
            low = torch.where(success, low, torch.maximum(low, constant))
            constant = torch.where(high.isfinite(), (low + high) / 2, constant * 10)
            polish = search == self.search_steps - 2
            start = torch.where(broadcast_to_records(best_distance.isfinite(), x), best if polish else x, end)
        return best

    def _minimise(  # noqa: PLR0917
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, constant: Tensor, start: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the smallest success at this constant, its length (infinite without one), and the last point."""
        half = ((threat.bounds.high - threat.bounds.low) / 2).to(x)
        # Adam steps in units of the box, and each step is clipped to the box. The tanh space of the paper has no
        # gradient where a record lies on a bound.
        scaled = ((start - x) / half).requires_grad_(True)
        optimizer = torch.optim.Adam([scaled], lr=self.learning_rate)
        best, best_distance = x.clone(), torch.full_like(constant, torch.inf)
        for step in range(self.steps):
            optimizer.param_groups[0]["lr"] = self.learning_rate * (1 - step / self.steps)
            with torch.enable_grad():
                tried = x + half * scaled
                distance = flat_norm(tried - x)
                advantage = margin(model(tried), y)
                deficit = (self.confidence - advantage).clamp_min(0)
                (gradient,) = torch.autograd.grad((distance.square() + constant * deficit).sum(), scaled)
            scaled.grad = gradient.nan_to_num()
            hit = ((advantage > self.confidence) | ~advantage.isfinite()) & (distance < best_distance)
            best[hit], best_distance[hit] = tried.detach()[hit], distance.detach()[hit]
            optimizer.step()
            with torch.no_grad():
                scaled.copy_((threat.bounds.confine(x + half * scaled, x) - x) / half)
        return best, best_distance, (x + half * scaled).detach()
