"""Transfer attack: crafted on a surrogate network, judged on another (Papernot et al. 2016, arXiv:1605.07277).

It uses momentum, as Dong et al. 2018 (arXiv:1710.06081).
"""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from assay.attacks.ascent import ascend
from assay.attacks.base import Attack
from assay.registry import register
from assay.seeds import Draw
from assay.threats import Threat


@register("attack")
class Transfer(Attack):
    """PGD with momentum and a margin loss on a surrogate; it never queries the model under test.

    It does not stop early, because a record that only just fools the surrogate rarely fools the model. A model that is
    fooled by it but withstands its own gradient masks that gradient.
    """

    follows_gradient: ClassVar[bool] = False
    needs_surrogate: ClassVar[bool] = True

    name: Literal["transfer"] = "transfer"
    steps: int = Field(default=20, ge=1)
    relative_step: float = Field(default=2.5, gt=0)
    """Step size is ``relative_step * epsilon / steps``."""
    momentum: float = Field(default=1.0, ge=0)
    """Momentum of the direction; it favours directions that both networks share."""

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw) -> Tensor:
        perturbed, _ = ascend(
            model,
            x,
            y,
            threat,
            start=x,
            steps=self.steps,
            step_size=self.relative_step * threat.epsilon / self.steps,
            loss="margin",
            momentum=self.momentum,
        )
        return perturbed
