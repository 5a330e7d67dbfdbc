"""Exact inversion of a first fully connected layer (Phong et al. 2018, arXiv:1704.07124; Geiping et al. 2020).

A layer Wx + b has the gradients ∂L/∂W_i = (∂L/∂b_i) xᵀ for each unit i, so their quotient is the input itself.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from assay.federated.inversion.observed import ObservedUpdate
from assay.models.front import Normalise
from assay.threats import Bounds

_PASSES = (nn.Flatten, nn.Identity)
"""Layers that change no number of a record."""
_SLACK = 1e-3
"""Share of the range by which a quotient may lie outside of the bounds and still count as a record."""
_LEAST = 1e-6
"""Units whose gradient is smaller than this share of the greatest one are left out: their quotient is rounding."""


@dataclass(frozen=True, kw_only=True)
class FirstLayer:
    """The fully connected layer that reads the record itself."""

    weight: int
    """Position of its weights among the trainable parameters."""
    bias: int
    """Position of its bias among them."""
    normalise: Normalise | None
    """The normalisation before it."""


def first_layer(model: nn.Module) -> FirstLayer | None:
    """Returns the first layer of a network if it is fully connected, has a bias and reads every number of the record.

    Args:
        model: the network.

    Returns:
        The layer; None for any other network.
    """
    normalise = None
    places = {id(p): place for place, p in enumerate(p for p in model.parameters() if p.requires_grad)}
    for module in model.modules():
        if isinstance(module, Normalise):
            normalise = module
        elif isinstance(module, nn.Linear):
            known = module.bias is not None and {id(module.weight), id(module.bias)} <= places.keys()
            if not known:
                return None
            return FirstLayer(weight=places[id(module.weight)], bias=places[id(module.bias)], normalise=normalise)
        elif not isinstance(module, (nn.Sequential, *_PASSES)):
            return None
    return None


def invert_first_layer(layer: FirstLayer, update: ObservedUpdate, *, shape: tuple[int, ...], bounds: Bounds) -> Tensor:
    """Returns what the first layer's gradients tell of the records.

    Of one record all units give the same input; the least-squares quotient over all units is returned, which noise
    disturbs least. Of several records a unit gives a mixture, weighted by the gradients at its output: it is a record
    itself where that record alone activates the unit. The server cannot tell which units these are, so every mixture
    that is a valid record is returned.

    Args:
        layer: from ``first_layer``.
        update: of one client.
        shape: of a record.
        bounds: of a valid record.

    Returns:
        (m, *shape) reconstructions within the bounds, most active unit first; none where no unit has a gradient.
    """
    weight, bias = update.gradients[layer.weight].double(), update.gradients[layer.bias].double()
    if weight.shape[1] != math.prod(shape):
        raise ValueError(f"the first layer takes {weight.shape[1]} numbers, a record of shape {shape} has others")
    if not bool(bias.any()):
        return weight.new_zeros((0, *shape)).float()
    if update.records == 1:
        rows = ((bias @ weight) / (bias @ bias))[None]
    else:
        order = bias.abs().argsort(descending=True)
        order = order[bias[order].abs() > _LEAST * bias.abs().max()]
        rows = weight[order] / bias[order, None]
    records = rows.view(-1, *shape)
    if layer.normalise is not None:
        records = records * layer.normalise.deviation.double() + layer.normalise.mean.double()
    low, high = bounds.low.to(records), bounds.high.to(records)
    room = _SLACK * (high - low)
    valid = ((records >= low - room) & (records <= high + room)).flatten(1).all(1)
    chosen = records[valid] if bool(valid.any()) else records
    return torch.clamp(chosen, low, high).float()
