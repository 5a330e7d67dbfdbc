"""Rules of layer-wise relevance propagation for one linear layer (Bach et al. 2015; Montavon et al. 2019).

An output zⱼ = Σᵢ aᵢ wᵢⱼ + bⱼ hands its relevance Rⱼ to its inputs in proportion to their contributions cᵢⱼ = aᵢ wᵢⱼ:

- ``epsilon``: Rⱼ cᵢⱼ ÷ zⱼ.
- ``gamma``: the contributions of the sign of zⱼ count 1 + γ times, in the numerator and in the denominator. With inputs
  of both signs it is the generalised rule; with zⱼ > 0 and inputs ≥ 0 it is that of Montavon.
- ``z_plus``: positive contributions alone.

The bias takes its share like an input. A stabiliser is added to the denominator, and keeps a share, too. So what the
inputs get and what the layer keeps add up to what came.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Rule = Literal["epsilon", "gamma", "z_plus"]


@dataclass(frozen=True, kw_only=True)
class LinearLayer:
    """A linear layer in float64."""

    apply: Callable[[Tensor, Tensor], Tensor]
    """From inputs (n, ...) and weights to outputs without bias."""
    weight: Tensor
    bias: Tensor
    """In a shape that broadcasts to the outputs; zeros where there is none."""


def handed_down(  # noqa: PLR0917
    layer: LinearLayer, given: Tensor, relevance: Tensor, rule: Rule, gamma: float, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Returns the relevance of the inputs of a layer, and what the layer keeps.

    Args:
        layer: linear.
        given: (n, ...) its inputs.
        relevance: (n, ...) of its outputs.
        rule: that divides it.
        gamma: of the rule of that name.
        epsilon: stabiliser, as a share of the greatest denominator of the record.

    Returns:
        (n, ...) relevance of the inputs, and (n,) that of biases and stabiliser, which with the former adds up to the
        relevance of the outputs.
    """
    positive, negative = _contributions(layer, given)
    up, down = layer.bias.clamp_min(0), layer.bias.clamp_max(0)
    whole = positive + negative + layer.bias
    if rule == "epsilon":
        more = less = torch.ones_like(whole)
    elif rule == "gamma":
        more = torch.where(whole > 0, 1 + gamma, 1.0).to(whole)
        less = torch.where(whole < 0, 1 + gamma, 1.0).to(whole)
    else:
        more, less = torch.ones_like(whole), torch.zeros_like(whole)
    divided = more * (positive + up) + less * (negative + down)
    greatest = divided.abs().flatten(1).amax(1).view(-1, *[1] * (divided.dim() - 1))
    added = (epsilon * greatest).clamp_min(torch.finfo(divided.dtype).tiny) * torch.where(divided < 0, -1.0, 1.0)
    each = relevance / (divided + added)
    kept = each * (more * up + less * down + added)
    return _to_inputs(layer, given, each * more, each * less), kept.flatten(1).sum(1)


def _contributions(layer: LinearLayer, given: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the sums of positive and of negative contributions to each output."""
    up, down = layer.weight.clamp_min(0), layer.weight.clamp_max(0)
    high, low = given.clamp_min(0), given.clamp_max(0)
    return layer.apply(high, up) + layer.apply(low, down), layer.apply(high, down) + layer.apply(low, up)


def _to_inputs(layer: LinearLayer, given: Tensor, of_positive: Tensor, of_negative: Tensor) -> Tensor:
    """Returns Σⱼ cᵢⱼ sⱼ, where s differs between positive and negative contributions."""
    up, down = layer.weight.clamp_min(0), layer.weight.clamp_max(0)
    high, low = given.clamp_min(0), given.clamp_max(0)
    of_high = transposed(layer, up, given, of_positive) + transposed(layer, down, given, of_negative)
    of_low = transposed(layer, down, given, of_positive) + transposed(layer, up, given, of_negative)
    return high * of_high + low * of_low


def transposed(layer: LinearLayer, weight: Tensor, given: Tensor, outputs: Tensor) -> Tensor:
    """Returns the transposed layer applied to outputs.

    Args:
        layer: linear.
        weight: in place of its own.
        given: (n, ...) inputs, for their shape.
        outputs: (n, ...) in the shape of the outputs.

    Returns:
        (n, ...) in the shape of the inputs.
    """
    with torch.enable_grad():
        point = torch.zeros_like(given).requires_grad_(True)
        (found,) = torch.autograd.grad(layer.apply(point, weight), point, outputs)
    return found
