"""Splits a network into layers that look at a neighbourhood, a linear layer over all places, and the rest.

Behind convolutions with small kernels, an entry depends on the groups of the record near its place, and on no other. So
it takes as many values as these few groups have combinations, however many combinations all groups have. The split is
made only where the layers themselves say what an entry depends on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.explain.plain_layers import is_plain, layers_in_order, through
from assay.models.front import Normalise

Function = Callable[[Tensor], Tensor]

_ENTRY_BY_ENTRY = (
    nn.Identity, nn.Dropout, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU,
    nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Hardtanh, nn.ReLU6, nn.BatchNorm1d, nn.BatchNorm2d, Normalise,
)  # fmt: skip
"""Layers whose output at a place depends on the same channel of the same place alone, in evaluation mode."""
_CONVOLUTIONS: dict[type[nn.Module], Callable[..., Tensor]] = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d}
_MAXIMA: dict[type[nn.Module], Callable[..., Tensor]] = {nn.MaxPool1d: F.max_pool1d, nn.MaxPool2d: F.max_pool2d}
_MEANS = (nn.AvgPool1d, nn.AvgPool2d)
_GLOBAL_MEANS = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
_MOST_NUMBERS = 2**24
"""Greatest number of pairs of a group and an entry that are looked at."""


@dataclass(frozen=True, kw_only=True)
class LocalSplit:
    """A network as ``rest(local(x).flatten(1) @ weight + bias)``."""

    local: Function
    """From records to (n, ...) entries, each of which depends on some groups alone."""
    weight: Tensor
    """(entries, width) of the linear layer."""
    bias: Tensor
    """(width,)"""
    rest: Function
    """From (n, width) to logits."""
    depends: Tensor
    """(groups, entries) bool: whether the entry may change with the group."""


def local_split(model: nn.Module, groups: Tensor) -> LocalSplit | None:
    """Splits a network behind its first linear layer over all places.

    Only ``nn.Sequential`` says in which order its layers run. Neither a subclass of a layer nor a layer with a hook is
    taken: either may do something else.

    Args:
        model: in evaluation mode.
        groups: (...) group number of each entry of a record, from 0; −1 for entries that never change.

    Returns:
        The split; None where the layers do not say that it is right.
    """
    layers = layers_in_order(model)
    count = int(groups.max()) + 1
    if layers is None or not 0 < count * groups.numel() <= _MOST_NUMBERS:
        return None
    depends = groups == torch.arange(count, device=groups.device).view(-1, *[1] * groups.dim())
    for place, layer in enumerate(layers):
        if layer.training:
            return None
        further = _further(layer, depends)
        if further is None:
            return _at_linear(layers, place, depends)
        if further.numel() > _MOST_NUMBERS:
            return None
        depends = further
    return None


def _further(layer: nn.Module, depends: Tensor) -> Tensor | None:
    """Returns which groups each output of a layer depends on, (groups, ...); None where the layer does not say."""
    if is_plain(layer, *_ENTRY_BY_ENTRY):
        by_batch = getattr(layer, "running_mean", ()) is None
        return None if by_batch else depends
    reach = depends.float()
    if is_plain(layer, *_CONVOLUTIONS):
        kind: nn.Conv1d | nn.Conv2d = layer  # type: ignore[assignment]
        if kind.padding_mode != "zeros" or depends.dim() != kind.weight.dim():
            return None
        ones = reach.new_ones(1, 1, *kind.kernel_size)
        convolve = _CONVOLUTIONS[type(layer)]
        # Every output channel may read every input channel, also where they are grouped: at worst too many groups.
        found = convolve(reach.amax(1, keepdim=True), ones, None, kind.stride, kind.padding, kind.dilation)
        return (found > 0).expand(-1, kind.out_channels, *found.shape[2:])
    if is_plain(layer, *_MAXIMA):
        pool: nn.MaxPool1d | nn.MaxPool2d = layer  # type: ignore[assignment]
        fits = not pool.return_indices and depends.dim() == (3 if isinstance(pool, nn.MaxPool1d) else 4)
        return pool(reach) > 0 if fits else None
    if is_plain(layer, *_MEANS) and depends.dim() == (3 if isinstance(layer, nn.AvgPool1d) else 4):
        averaged: Tensor = layer(reach)
        return averaged > 0 if getattr(layer, "divisor_override", None) is None else None
    return None


def _at_linear(layers: Sequence[nn.Module], place: int, depends: Tensor) -> LocalSplit | None:
    """Returns the split if layers from this place on are a mean over places, a new shape, and a linear layer."""
    local, entries, shared = partial(through, layers[:place]), depends, 1
    layer = layers[place]
    if is_plain(layer, *_GLOBAL_MEANS):
        if layer.output_size not in (1, (1, 1), [1, 1]) or depends.dim() != (
            3 if type(layer) is nn.AdaptiveAvgPool1d else 4
        ):
            return None
        shared, place = depends[0, 0].numel(), place + 1
    flat = depends.dim() == 2
    while place < len(layers) and is_plain(layers[place], nn.Flatten, nn.Identity, nn.Dropout):
        layer = layers[place]
        if layer.training or (isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) != (1, -1)):
            return None
        flat, place = flat or isinstance(layer, nn.Flatten), place + 1
    if not flat or place == len(layers) or not is_plain(layers[place], nn.Linear):
        return None
    linear: nn.Linear = layers[place]  # type: ignore[assignment]
    weight = linear.weight.detach().t()
    if shared > 1:
        weight = weight.repeat_interleave(shared, 0) / shared
    bias = weight.new_zeros(weight.shape[1]) if linear.bias is None else linear.bias.detach()
    rest = partial(through, layers[place + 1 :])
    return LocalSplit(local=local, weight=weight, bias=bias, rest=rest, depends=entries.flatten(1))
