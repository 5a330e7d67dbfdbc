"""How many records a network is given at once: enough to keep it busy, few enough for its activations."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

MOST = 512
_ENTRIES = 2**21
"""Entries of all records of a batch. A deep network keeps several hundred bytes an entry for its gradient."""


def at_once(shape: tuple[int, ...]) -> int:
    """Records of this shape that any network can take, its gradient included."""
    return max(1, min(MOST, _ENTRIES // max(math.prod(shape), 1)))


def places(n: int, shape: tuple[int, ...]) -> Iterator[slice]:
    """The batches of ``n`` records."""
    most = at_once(shape)
    for start in range(0, n, most):
        yield slice(start, start + most)


@torch.no_grad()
def respond(model: nn.Module, x: Tensor) -> Tensor:
    """(n, classes) logits of (n, ...) records, batch by batch."""
    return torch.cat([model(x[place]) for place in places(len(x), tuple(x.shape[1:]))])
