"""A convolutional network for many passes: the order of its weights in memory, and quicker maxima."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SLOWER = (nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d)
_WORTH_A_COPY = 128
"""Passes over images from which the copy pays."""


class PairMaxima(nn.Module):
    """Maxima of squares of 2 × 2, equal to those of ``nn.MaxPool2d(2)`` and several times as fast on processors.

    Where a gradient is wanted, or a side is odd, PyTorch computes them: of equal values only the first has a gradient.
    """

    @staticmethod
    def replaces(layer: nn.Module) -> bool:
        """Returns whether a layer computes just this.

        Args:
            layer: of a network.
        """
        if type(layer) is not nn.MaxPool2d or layer.return_indices or layer.ceil_mode or "forward" in vars(layer):
            return False
        sizes = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        return [one if isinstance(one, tuple) else (one, one) for one in sizes] == [(2, 2), (2, 2), (0, 0), (1, 1)]

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad or x.device.type != "cpu" or x.shape[-1] % 2 or x.shape[-2] % 2:
            return F.max_pool2d(x, 2)
        rows = torch.maximum(x[..., 0::2, :], x[..., 1::2, :])
        return torch.maximum(rows[..., 0::2], rows[..., 1::2])


def channels_last(model: nn.Module) -> nn.Module:
    """Returns a copy of a network for images whose channels lie beside each other in memory, with ``PairMaxima``.

    Processors compute convolutions and poolings over small images faster in that order, and group normalisation slower.
    The answers differ by rounding alone. It is for hundreds of passes through one network, which pay for the copy.

    Args:
        model: not changed.

    Returns:
        The copy; the model itself where it has no convolution over images, where it normalises groups of channels,
        where layers have hooks, which may belong to this very model, or where a layer is neither PyTorch's nor of this
        package: it may ask for another order by ``view``, or hold what cannot be copied.
    """
    layers = list(model.modules())
    fits = any(isinstance(layer, nn.Conv2d) for layer in layers) and all(_is_ours(layer) for layer in layers)
    if not fits or any(isinstance(layer, _SLOWER) or _has_hooks(layer) for layer in layers):
        return model
    other = copy.deepcopy(model).to(memory_format=torch.channels_last)
    for parent in other.modules():
        for name, layer in list(parent.named_children()):
            if PairMaxima.replaces(layer):
                setattr(parent, name, PairMaxima())
    return other


def for_many(model: nn.Module, x: Tensor, passes: int) -> nn.Module:
    """Returns a network for many passes over records like these: a copy by ``channels_last`` where that pays.

    Args:
        model: not changed.
        x: (n, ...) records.
        passes: number of records that will go through it.

    Returns:
        The copy, or the model itself: for few passes, for records that are no images, and on a GPU.
    """
    return channels_last(model) if passes >= _WORTH_A_COPY and x.dim() == 4 and x.device.type == "cpu" else model


def _is_ours(layer: nn.Module) -> bool:
    return type(layer).__module__.split(".")[0] in {"torch", "assay"} and "forward" not in vars(layer)


def _has_hooks(layer: nn.Module) -> bool:
    held = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return any(held)
