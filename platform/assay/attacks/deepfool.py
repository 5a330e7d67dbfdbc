"""DeepFool (Moosavi-Dezfooli et al. 2016, arXiv:1511.04599) in L2, for any number of classes."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from assay.attacks.base import Attack
from assay.attacks.gradients import input_gradient
from assay.registry import register
from assay.seeds import Draw
from assay.threats import Norm, Threat, flat_norm


@register("attack")
class DeepFool(Attack):
    """Steps to the nearest boundary of the linearised model until the record lies beyond one.

    A minimal-norm attack: run it at an infinite radius and read the distances. It is fast, but does not find the
    shortest
    path where boundaries are curved. All records are moved at once; torchattacks, which moves one at a time, takes some
    twenty times as long.
    """

    norms: ClassVar[tuple[Norm, ...]] = ("l2",)
    minimal: ClassVar[bool] = True

    name: Literal["deepfool"] = "deepfool"
    steps: int = Field(default=50, ge=1)
    overshoot: float = Field(default=0.02, gt=0)
    """Distance beyond the boundary, as a share of the distance to it."""
    rivals: int = Field(default=9, ge=1)
    """Number of most likely other classes whose boundaries are considered; each takes one backward pass a step."""

    @property
    def label(self) -> str:
        return self._labelled(steps="", overshoot="overshoot", rivals="rivals")

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw) -> Tensor:
        perturbed, change = x.clone(), torch.zeros_like(x)
        rows = torch.arange(len(x), device=x.device)
        for _ in range(self.steps + 1):
            step, fooled = self._step(model, perturbed[rows], x[rows], y[rows], threat)
            rows, step = rows[~fooled], step[~fooled]
            if not len(rows):
                break
            change[rows] += step
            perturbed[rows] = threat.bounds.confine(x[rows] + (1 + self.overshoot) * change[rows], x[rows])
        return perturbed

    def _step(self, model: nn.Module, point: Tensor, x: Tensor, y: Tensor, threat: Threat) -> tuple[Tensor, Tensor]:
        """Returns the change that would move each record to its nearest boundary, and which records are fooled already,
        (n,).
        """
        low, high = threat.bounds.box(x, torch.inf)
        nearest = torch.full((len(x),), torch.inf, device=x.device, dtype=x.dtype)
        step = torch.zeros_like(x)
        point = point.detach().requires_grad_(True)
        with torch.enable_grad():
            logits = model(point)
            fooled = threat.goal(logits.detach(), y)
            if bool(fooled.all()):
                return step, fooled
            gaps = logits - logits.gather(1, y[:, None])
            order = gaps.detach().scatter(1, y[:, None], -torch.inf).argsort(1, descending=True)
            for rival in order[:, : min(self.rivals, logits.shape[1] - 1)].unbind(1):
                gap = gaps.gather(1, rival[:, None]).squeeze(1)
                slope = input_gradient(gap, point, again=True)
                # An input at its bound cannot move further, so only the others count.
                stuck = ((point >= high) & (slope > 0)) | ((point <= low) & (slope < 0))
                slope = slope.nan_to_num().masked_fill(stuck, 0.0)
                steepness = flat_norm(slope)
                distance = torch.where(steepness > 0, gap.abs() / steepness, torch.inf).detach()
                nearer = distance < nearest
                length = (distance / steepness)[nearer]
                step[nearer] = slope[nearer] * length.view(-1, *[1] * (x.dim() - 1)).to(x)
                nearest = torch.minimum(distance, nearest)
        return step, fooled
