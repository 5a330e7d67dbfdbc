"""Dropout masks for private training whose random draws cannot be reproduced.

On a CPU, torch draws the mask of one call from 31 bits of its generator, and its generator from 32 bits of a seed.
Someone who tries all seeds finds out which activations were dropped, and then the noise no longer hides the records.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_WHOLE_CHANNELS = (F.dropout1d, F.dropout2d, F.dropout3d)
_IN_PLACE = (torch.dropout_,)
_ALSO = {"train": "training"}
"""Names of arguments in ``torch.nn.functional``, by their names in torch's own functions."""
_NAMED = (F.dropout, *_WHOLE_CHANNELS)
_DROPPING = (*_NAMED, torch.dropout, *_IN_PLACE)


class Masked(TorchFunctionMode):
    """Context in which dropout takes its masks from a NumPy generator, in every layer and function.

    This includes attention that drops weights. Devices other than the CPU keep their own generator, whose seed has 64
    bits. Alpha dropout, and layers that ask torch for random numbers themselves, are not changed: they have 32 bits a
    step.

    Args:
        generator: draws the masks.
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
        if func in _DROPPING:
            return self._dropout(
                func, *args, **{_ALSO.get(name, name): given for name, given in (kwargs or {}).items()}
            )
        if func is F.scaled_dot_product_attention:
            return self._attention(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _dropout(
        self, func: Callable[..., Tensor], input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        """Does what ``func`` does, with one mask value an element or, for whole channels, one a channel of a record."""
        if input.device.type != "cpu" or not training or p == 0:
            return func(input, p, training, inplace) if func in _NAMED else func(input, p, training)
        shape = (*input.shape[:2], *[1] * (input.dim() - 2)) if func in _WHOLE_CHANNELS else input.shape
        kept = torch.from_numpy(self._generator.random(shape, np.float32) >= p).to(input.dtype)
        scale = kept / (1 - p) if p < 1 else kept
        return input.mul_(scale) if inplace or func in _IN_PLACE else input * scale

    def _attention(  # noqa: PLR0917 (as torch has it)
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """Computes ``F.scaled_dot_product_attention`` as its documentation defines it, with masks of the generator."""
        if query.device.type != "cpu" or dropout_p == 0:
            return F.scaled_dot_product_attention(
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
            )
        if enable_gqa:
            times = query.shape[-3] // key.shape[-3]
            key, value = key.repeat_interleave(times, -3), value.repeat_interleave(times, -3)
        scores = query @ key.mT * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, -math.inf)
        elif attn_mask is not None:
            scores = scores + attn_mask
        return self._dropout(F.dropout, scores.softmax(-1), dropout_p) @ value
