"""Order of a convolutional network's weights in memory."""

import copy

import torch
from torch import Tensor, nn

_SLOWER = (nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d)
_WORTH_A_COPY = 128
"""Passes over images from which the copy pays."""


def channels_last(model: nn.Module) -> nn.Module:
    """Returns a copy of a network for images whose channels lie beside each other in memory.

    Processors compute convolutions and poolings over small images faster in that order, and group normalisation slower.
    The answers differ by rounding alone. It is for hundreds of passes through one network, which pay for the copy.

    Args:
        model: not changed.

    Returns:
        The copy; the model itself where it has no convolution over images, where it normalises groups of channels, or
        where layers have hooks, which may belong to this very model.
    """
    layers = list(model.modules())
    fits = any(isinstance(layer, nn.Conv2d) for layer in layers)
    if not fits or any(isinstance(layer, _SLOWER) or _has_hooks(layer) for layer in layers):
        return model
    return copy.deepcopy(model).to(memory_format=torch.channels_last)


def for_many(model: nn.Module, x: Tensor, passes: int) -> nn.Module:
    """Returns a network for many passes over records like these: a copy by ``channels_last`` where that pays.

    Args:
        model: not changed.
        x: (n, ...) records.
        passes: number of records that will go through it.

    Returns:
        The copy, or the model itself: for few passes, for records that are no images, and on a GPU.
    """
    return channels_last(model) if passes >= _WORTH_A_COPY and x.dim() == 4 and not x.is_cuda else model


def _has_hooks(layer: nn.Module) -> bool:
    held = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return any(held)
