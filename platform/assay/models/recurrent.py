"""Torch's own recurrent layers on a GPU, where cuDNN takes no gradient through one in evaluation mode."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def differentiable(*models: nn.Module) -> Iterator[None]:
    """Lets gradients pass ``nn.LSTM``, ``nn.GRU`` and ``nn.RNN`` in evaluation mode within the context, as on the CPU.

    During its forward pass such a layer is in training mode without dropout: its output is the same, and cuDNN stores
    what the backward pass needs.

    Args:
        models: whose layers are changed; restored afterwards.
    """
    layers = {layer: None for model in models for layer in model.modules() if isinstance(layer, nn.RNNBase)}
    hooks = []
    for layer in layers:
        answer = _Answer()
        hooks += [
            layer.register_forward_pre_hook(answer.begin),
            layer.register_forward_hook(answer.end, always_call=True),
        ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Answer:
    """Forward passes of one layer, one after the other; remembers the layer's dropout."""

    def __init__(self) -> None:
        self._dropout: float | None = None

    def begin(self, layer: nn.Module, _: Any) -> None:
        assert isinstance(layer, nn.RNNBase)
        if not layer.training and torch.is_grad_enabled() and _runs_on_cudnn(layer):
            self._dropout, layer.dropout, layer.training = layer.dropout, 0.0, True

    def end(self, layer: nn.Module, _: Any, __: Any) -> None:
        assert isinstance(layer, nn.RNNBase)
        if self._dropout is not None:
            layer.dropout, layer.training, self._dropout = self._dropout, False, None


def _runs_on_cudnn(layer: nn.RNNBase) -> bool:
    return next(layer.parameters()).is_cuda
