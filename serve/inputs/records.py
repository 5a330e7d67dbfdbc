"""Records of a request in the form that a model takes."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Records:
    """Records of one request."""

    x: Tensor
    """(n, ...) float32, or word numbers for texts."""
    words: list[list[str]] | None = None
    """For texts, the words of each."""
    warnings: tuple[tuple[str, ...], ...] = ()
    """For each record what its reader must know: values outside the training range, filled missing values."""
