"""Fast gradient sign method (Goodfellow et al. 2015, arXiv:1412.6572): one step of the whole radius."""

from typing import Literal

from torch import Tensor, nn

from assay.attacks.ascent import ascend
from assay.attacks.base import Attack
from assay.attacks.losses import LossName
from assay.registry import register
from assay.seeds import Draw
from assay.threats import Threat


@register("attack")
class FGSM(Attack):
    """One gradient step. It is fast and weak: robustness against it alone is no evidence."""

    name: Literal["fgsm"] = "fgsm"
    loss: LossName = "cross_entropy"

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw) -> Tensor:
        stepped, _ = ascend(model, x, y, threat, start=x, steps=1, step_size=threat.epsilon, loss=self.loss)
        return stepped
