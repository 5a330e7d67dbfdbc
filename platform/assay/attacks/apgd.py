"""Auto-PGD (Croce & Hein 2020, arXiv:2003.01690), L∞ and L2, as implemented in torchattacks."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from assay.attacks.losses import LOSSES
from assay.attacks.survivors import SurvivorAttack
from assay.attacks.unit_cube import TORCHATTACKS_NORMS, UnitCube, contained, torchattacks
from assay.models.batches import respond
from assay.registry import register
from assay.seeds import Draw
from assay.threats import Threat

_SHORT = {"cross_entropy": "ce", "dlr": "dlr"}


@register("attack")
class APGD(SurvivorAttack):
    """PGD with momentum that halves its step size when the loss stops rising, and then returns to the best point.

    No step size needs tuning. The DLR loss does not change when all logits are scaled, so it works on models whose
    cross-entropy saturates.
    """

    name: Literal["apgd"] = "apgd"
    loss: Literal["cross_entropy", "dlr"] = "cross_entropy"
    """DLR divides the margin by the gap between the first and the third class; with two classes it is the margin."""
    steps: int = Field(default=50, ge=2)
    restarts: int = Field(default=1, ge=1)
    """Number of random starts; only records that are not yet fooled start again."""

    @property
    def label(self) -> str:
        """Name in tables, with the loss and changed settings."""
        name, *changed = self._labelled(steps="", restarts="x").split("_")
        return "_".join([name, _SHORT[self.loss], *changed])

    def seek(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw) -> Tensor:
        perturbed, rows = x.clone(), torch.arange(len(x), device=x.device)
        for _ in range(self.restarts):
            perturbed[rows] = self._climb(model, x[rows], y[rows], threat, draw)
            rows = rows[~threat.goal(respond(model, perturbed[rows]), y[rows])]
            if not len(rows):
                break
        return perturbed

    def _climb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw) -> Tensor:
        # In L∞ each input may have its own unit; in L2 a ball stays a ball only if all inputs share one.
        cube = UnitCube(model, x, y, threat, each_its_own=threat.norm == "linf", climbed=True)
        attack = torchattacks().APGD(
            cube, norm=TORCHATTACKS_NORMS[threat.norm], eps=cube.radius, steps=self.steps, loss=_SHORT[self.loss]
        )
        # The loss of torchattacks needs three classes.
        attack.dlr_loss = LOSSES["dlr"]
        with contained(model, draw):
            # One run on all records: restarts of torchattacks pass on a subset of records without its positions.
            *_, points = attack.attack_single_run(cube.inside(x), y)
        return cube.outside(points).detach()
