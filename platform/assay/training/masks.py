"""Dropout masks for training whose draws nobody may repeat.

Torch draws the mask of one call on a CPU from 31 bits of its generator, and its generator from 32 bits of a seed:
whoever tries them all finds out what was dropped, and then the noise no longer hides the records.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_WHOLE_CHANNELS = (F.dropout1d, F.dropout2d, F.dropout3d)


class Masked(TorchFunctionMode):
    """In here dropout takes its masks from a generator, in every layer and function that calls torch's.

    Other processors than the CPU keep their own: theirs has a seed of 64 bits. So does alpha dropout, and a layer that
    asks torch for random numbers itself: they have 32 bits a step.
    """

    def __init__(self, generator: np.random.Generator) -> None:
        super().__init__()
        self._generator = generator

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is F.dropout or func in _WHOLE_CHANNELS:
            return self._dropout(func, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _dropout(
        self, func: Callable[..., Tensor], input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        """What ``func`` does, one mask an element or, of whole channels, one a channel of a record."""
        if input.device.type != "cpu" or not training or p == 0:
            return func(input, p, training, inplace)
        shape = (*input.shape[:2], *[1] * (input.dim() - 2)) if func in _WHOLE_CHANNELS else input.shape
        kept = torch.from_numpy(self._generator.random(shape, np.float32) >= p).to(input.dtype)
        scale = kept / (1 - p) if p < 1 else kept
        return input.mul_(scale) if inplace else input * scale
