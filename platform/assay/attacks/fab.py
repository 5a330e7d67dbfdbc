"""Fast adaptive boundary attack (Croce & Hein 2020, arXiv:1907.02044), L∞ and L2, as implemented in torchattacks."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from assay.attacks.base import Attack
from assay.attacks.unit_cube import TORCHATTACKS_NORMS, UnitCube, contained, torchattacks
from assay.models.batches import respond
from assay.registry import register
from assay.seeds import Draw
from assay.threats import Threat


@register("attack")
class FAB(Attack):
    """Searches for the smallest perturbation: steps to the nearest linearised boundary, biased towards the original
    record.

    A minimal-norm attack: run it at an infinite radius and read the distances. A step takes one backward pass a class.
    """

    minimal: ClassVar[bool] = True

    name: Literal["fab"] = "fab"
    steps: int = Field(default=30, ge=1)
    restarts: int = Field(default=1, ge=1)
    """The first start is the record itself, later ones are random; each record keeps its smallest success."""

    @property
    def label(self) -> str:
        return self._labelled(steps="", restarts="x")

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw) -> Tensor:
        best = x.clone()
        rows = torch.arange(len(x), device=x.device)[~threat.goal(respond(model, x), y)]
        if not len(rows):
            return best
        x, y = x[rows], y[rows]
        shortest = torch.full(rows.shape, torch.inf, device=x.device, dtype=x.dtype)
        for restart in range(self.restarts):
            perturbed = self._seek(model, x, y, threat, draw, at_random=restart > 0)
            fooled = threat.goal(respond(model, perturbed), y)
            distance = threat.distance(perturbed, x).masked_fill(~fooled, torch.inf)
            better = distance < shortest
            best[rows[better]], shortest = perturbed[better], torch.minimum(distance, shortest)
        return best

    def _seek(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw, *, at_random: bool) -> Tensor:
        cube = UnitCube(model, x, y, threat)
        # The radius only limits random starts; they lie within the cube in any case.
        attack = torchattacks().FAB(
            cube, norm=TORCHATTACKS_NORMS[threat.norm], eps=min(cube.radius, 1.0), steps=self.steps
        )
        with contained(model, draw):
            # Without labels it attacks the predicted class. With labels it would drop records that the model
            # misclassifies in another batch or by chance, and the cube would not know which are left.
            points = attack.attack_single_run(cube.inside(x), None, use_rand_start=at_random)
        return cube.outside(points).detach()
