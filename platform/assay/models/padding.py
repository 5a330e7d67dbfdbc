"""Padding of sequences: a position whose vector is 0 is empty; see ``threats.Bounds.padding``."""

import torch
from torch import Tensor


def occupied(x: Tensor) -> Tensor:
    """Returns which positions are not padding.

    Args:
        x: (n, length, dimension) vectors.

    Returns:
        (n, length) bool.
    """
    return (x != 0).any(-1)


def close_up(x: Tensor) -> tuple[Tensor, Tensor]:
    """Moves the words of a sequence to its beginning, in order, and cuts the batch to its longest sequence.

    So removing a word is the same as replacing it by padding, and padding costs no time.

    Args:
        x: (n, length, dimension) vectors.

    Returns:
        The vectors (n, longest, dimension), with at least one position; and (n, longest) bool: which are not padding.
    """
    kept = occupied(x)
    if bool((kept[:, 1:] & ~kept[:, :-1]).any()):
        order = torch.argsort((~kept).int(), dim=1, stable=True)
        x, kept = x.take_along_dim(order[..., None], 1), kept.take_along_dim(order, 1)
    longest = max(1, int(kept.any(0).sum()))
    return x[:, :longest], kept[:, :longest]
