"""Leaves a model and the global random generators as they were before an explanation."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

_HELD = (
    "_parameters",
    "_buffers",
    "_modules",
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
"""What PyTorch keeps of a layer in dictionaries."""
_LOCKING = threading.Lock()
_LOCKS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
"""Of models that are being explained, or were."""
_FLAG = "_is_full_backward_hook"
"""Set by the first full backward hook, and never reset: hooks of the older kind are then refused."""


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Leaves a model and the global random generators as they were, whatever a method does to them within the block.

    The model is in evaluation mode within the block; gradients are computed for inputs and not for weights. The
    dictionaries of a layer are written back only where they changed, so that another thread may ask a model in
    evaluation mode at the same time. A model that has to be changed for the block is explained by one thread at a time:
    one that trains, whose weights want a gradient, or whose recurrent layers get hooks.

    Args:
        model: that is explained.
    """
    changes = any(layer.training or isinstance(layer, nn.RNNBase) for layer in model.modules())
    changes = changes or any(weight.requires_grad for weight in model.parameters())
    with _lock_of(model) if changes else nullcontext():
        yield from _untouched(model)


def _lock_of(model: nn.Module) -> threading.RLock:
    with _LOCKING:
        return _LOCKS.setdefault(model, threading.RLock())


def _untouched(model: nn.Module) -> Iterator[None]:
    layers = [_Layer(layer) for layer in model.modules()]
    weights = [(weight, weight.requires_grad, weight.grad) for weight in model.parameters()]
    states = random.getstate(), np.random.get_state()
    gpus = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(gpus):
            if any(layer.was_training for layer in layers):
                model.eval()
            for weight, wanted, _ in weights:
                if wanted:
                    weight.requires_grad_(False)
            yield
    finally:
        for weight, wanted, gradient in weights:
            if weight.requires_grad != wanted:
                weight.requires_grad_(wanted)
            if weight.grad is not gradient:
                weight.grad = gradient
        random.setstate(states[0])
        np.random.set_state(states[1])
        for layer in layers:
            layer.restore()


class _Layer:
    """A layer as it was.

    Args:
        layer: of the model.
    """

    def __init__(self, layer: nn.Module) -> None:
        self._layer, self.was_training = layer, layer.training
        self._attributes = set(vars(layer))
        self._flag = getattr(layer, _FLAG, None)
        # A compiled layer (TorchScript) keeps them in objects of its own, which nothing here changes.
        self._held: dict[str, dict[Any, Any]] = {
            name: dict(held) for name in _HELD if isinstance(held := getattr(layer, name, None), dict)
        }

    def restore(self) -> None:
        """Undoes what has changed, and touches nothing else."""
        layer = self._layer
        for name in vars(layer).keys() - self._attributes:
            delattr(layer, name)
        if layer.training != self.was_training:
            layer.training = self.was_training
        if getattr(layer, _FLAG, None) is not self._flag:
            setattr(layer, _FLAG, self._flag)
        for name, before in self._held.items():
            now = getattr(layer, name)
            if not now and not before:
                continue
            if list(now) != list(before) or any(now[key] is not value for key, value in before.items()):
                now.clear()
                now.update(before)
