"""Batch sizes for evaluating a network: large enough for speed, small enough for its activations."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

MOST = 512
_ENTRIES = 2**21
"""Greatest number of entries of a batch. For gradients, a deep network stores several hundred bytes an entry."""


def at_once(shape: tuple[int, ...]) -> int:
    """Returns the number of records that any network can process at once, including its gradient.

    Args:
        shape: of one record.

    Returns:
        At least 1 and at most ``MOST``.
    """
    return max(1, min(MOST, _ENTRIES // max(math.prod(shape), 1)))


def places(n: int, shape: tuple[int, ...]) -> Iterator[slice]:
    """Yields the batches of ``n`` records.

    Args:
        n: number of records.
        shape: of one record.

    Yields:
        Slices, in order.
    """
    most = at_once(shape)
    for start in range(0, n, most):
        yield slice(start, start + most)


@torch.no_grad()
def respond(model: nn.Module, x: Tensor) -> Tensor:
    """Returns the logits of records, batch by batch, without gradient.

    Args:
        model: from records to logits.
        x: (n, ...) records.

    Returns:
        (n, classes) logits.
    """
    return torch.cat([model(x[place]) for place in places(len(x), tuple(x.shape[1:]))])
