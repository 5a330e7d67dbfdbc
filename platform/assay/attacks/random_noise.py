"""Random perturbations: a baseline that every gradient attack must beat."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from assay.attacks.base import Attack
from assay.registry import register
from assay.seeds import Draw
from assay.threats import Threat


@register("attack")
class RandomNoise(Attack):
    """Random corners of the L∞ ball (every input moved by ±ε), or random directions of length ε in L2."""

    follows_gradient: ClassVar[bool] = False

    name: Literal["random_noise"] = "random_noise"
    samples: int = Field(default=20, ge=1)

    @torch.no_grad()
    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw) -> Tensor:
        perturbed = x
        low, high = threat.bounds.box(x, torch.inf)
        for _ in range(self.samples):
            # Inputs that cannot change get no share of the length.
            way = draw.normal(x).masked_fill(low == high, 0.0)
            step = way.sign() if threat.norm == "linf" else torch.nn.functional.normalize(way.flatten(1)).view_as(x)
            tried = threat.project(x + threat.epsilon * step, x)
            wrong = threat.goal(model(tried), y)
            perturbed = torch.where(wrong.view(-1, *[1] * (x.dim() - 1)), tried, perturbed)
        return perturbed
