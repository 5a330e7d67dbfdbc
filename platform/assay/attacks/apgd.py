"""Auto-PGD (Croce & Hein 2020, arXiv:2003.01690), L∞ and L2, as torchattacks writes it."""

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
    """PGD with momentum that halves its step where the loss no longer rises, and goes back to the best point.

    There is no step size to get wrong. The DLR loss does not change when all logits are multiplied, so it sees through
    models whose cross-entropy has vanished.
    """

    name: Literal["apgd"] = "apgd"
    loss: Literal["cross_entropy", "dlr"] = "cross_entropy"
    """DLR divides the margin by the lead over the third class; of two classes it is the margin."""
    steps: int = Field(default=50, ge=2)
    restarts: int = Field(default=1, ge=1)
    """Every start is random; records that are still right start again."""

    @property
    def label(self) -> str:
        name, *changed = self._labelled(steps="", restarts="x").split("_")
        return "_".join([name, _SHORT[self.loss], *changed])

    def seek(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw) -> Tensor:
        found, rows = x.clone(), torch.arange(len(x), device=x.device)
        for _ in range(self.restarts):
            found[rows] = self._climb(model, x[rows], y[rows], threat, draw)
            rows = rows[~threat.goal(respond(model, found[rows]), y[rows])]
            if not len(rows):
                break
        return found

    def _climb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw) -> Tensor:
        # In L∞ the box of each record is a box in any units; in L2 a ball stays a ball only if all share one.
        cube = UnitCube(model, x, y, threat, each_its_own=threat.norm == "linf", climbed=True)
        attack = torchattacks().APGD(
            cube, norm=TORCHATTACKS_NORMS[threat.norm], eps=cube.radius, steps=self.steps, loss=_SHORT[self.loss]
        )
        # Its own needs three classes.
        attack.dlr_loss = LOSSES["dlr"]
        with contained(model, draw):
            # One run on all records: its restarts would hand the cube some of them without saying which.
            *_, found = attack.attack_single_run(cube.inside(x), y)
        return cube.outside(found).detach()
