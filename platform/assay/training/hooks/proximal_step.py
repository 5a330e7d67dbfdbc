"""A proximal step towards given weights, after each step of the optimizer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from assay.training.hooks.base import Hook

if TYPE_CHECKING:
    from assay.training.loop import Trainer


class ProximalStep(Hook):
    """Minimises the loss plus λ/2 times the squared distance from anchor weights, by forward-backward splitting.

    After the optimizer's step to u on the loss alone, the weights become (u + c a) / (1 + c), with anchor a and
    c = λ times the factor by which the optimizer multiplies a constant gradient: η / (1 - momentum) of SGD,
    η / (√v + ε) of Adam, element by element. The weights at rest are those of the gradient g + λ (w - a), and unlike
    that gradient, whose steps diverge where η λ exceeds 2, this is stable for every λ. It reads weights alone, and
    costs no ε.

    Args:
        anchor: one tensor a trainable parameter, in their order.
        strength: λ, at least 0; 0 changes nothing.
    """

    name = "proximal_step"

    def __init__(self, anchor: Sequence[Tensor], *, strength: float) -> None:
        self._anchor, self._strength = [tensor.detach().clone() for tensor in anchor], strength

    @torch.no_grad()
    def after_step(self, trainer: "Trainer") -> None:
        if not self._strength:
            return
        for weight, anchor in zip(trainer.parameters, self._anchor, strict=True):
            pull = self._strength * factor_of(trainer.optimizer, weight)
            weight.copy_(torch.where(torch.isinf(pull), anchor, (weight + pull * anchor) / (1 + pull)))


def factor_of(optimizer: torch.optim.Optimizer, weight: Tensor) -> Tensor:
    """Returns the factor by which an optimizer multiplies a constant small gradient in the long run.

    Args:
        optimizer: ``SGD`` or ``Adam`` with one group, which has taken a step.
        weight: one of its parameters.

    Returns:
        The factor: a scalar, or of the shape of the parameter.
    """
    group = optimizer.param_groups[0]
    if isinstance(optimizer, torch.optim.Adam):
        state = optimizer.state[weight]
        corrected = state["exp_avg_sq"] / (1 - group["betas"][1] ** float(state["step"]))
        return group["lr"] / (corrected.sqrt() + group["eps"])
    return torch.tensor(group["lr"] / (1 - group["momentum"]), dtype=weight.dtype, device=weight.device)
