"""Sequences of vectors in which a position whose every entry is 0 holds nothing; see ``threats.Bounds.padding``."""

import torch
from torch import Tensor


def occupied(x: Tensor) -> Tensor:
    """(n, length) bool: which positions of (n, length, dimension) vectors hold something."""
    return (x != 0).any(-1)


def close_up(x: Tensor) -> tuple[Tensor, Tensor]:
    """Move what a sequence holds to its beginning, in order, and cut the batch to its longest sequence.

    So a word that is blanked out is a word that was never there, and padding costs nothing.

    Args:
        x: (n, length, dimension) vectors.

    Returns:
        The vectors (n, longest, dimension), at least one position of them; and (n, longest) bool, which are held.
    """
    kept = occupied(x)
    if bool((kept[:, 1:] & ~kept[:, :-1]).any()):
        order = torch.argsort((~kept).int(), dim=1, stable=True)
        x, kept = x.take_along_dim(order[..., None], 1), kept.take_along_dim(order, 1)
    longest = max(1, int(kept.any(0).sum()))
    return x[:, :longest], kept[:, :longest]
