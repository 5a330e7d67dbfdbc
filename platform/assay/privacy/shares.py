"""Shares: gradients of n records with respect to one parameter, stored or as lengths with a way to form their sum."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from assay.privacy.precision import exact, lengths, to_float64


class Share(Protocol):
    """Gradients of n records with respect to one parameter."""

    @property
    def norms(self) -> Tensor:
        """(n,) the length of each gradient, in float32 or float64."""
        ...

    def weighted(self, factors: Tensor, kept: Tensor | None = None) -> Tensor:
        """Returns the sum of the gradients, each times its factor.

        Args:
            factors: (n,) float64.
            kept: (n,) bool, the records that are summed; None for all. A factor of 0 could not remove a gradient that
                is not finite.

        Returns:
            A tensor of the parameter's shape; in float64 if it is small.
        """
        ...

    def each(self) -> Tensor:
        """Returns the gradients of all records, (n, ...)."""
        ...


@dataclass(frozen=True)
class Stored:
    """Gradients of all records, (n, ...), in memory."""

    gradients: Tensor
    axes: tuple[int, ...] = ()
    """Order in which the axes of one gradient form the parameter; empty if they are in order."""

    @property
    def norms(self) -> Tensor:
        return lengths(self.gradients)

    def weighted(self, factors: Tensor, kept: Tensor | None = None) -> Tensor:
        factors, gradients = rows_kept(kept, factors, self.gradients)
        (rows,) = exact(gradients.reshape(len(factors), -1))
        total = (factors.to(rows.dtype) @ rows).view(gradients.shape[1:])
        return total.permute(self.axes).contiguous() if self.axes else total

    def each(self) -> Tensor:
        return self.gradients.permute(0, *(axis + 1 for axis in self.axes)) if self.axes else self.gradients


@dataclass(frozen=True)
class Formed:
    """Lengths only; the weighted sum is formed once, when the factors are known."""

    norms: Tensor
    form: Callable[[Tensor, Tensor | None], Tensor]
    instantiate: Callable[[], Tensor]
    apart: Sequence[int] = ()
    """Records whose positions nearly cancel: each is formed by itself in float64, and added."""
    alone: Callable[[int], Tensor] | None = None
    """Returns the gradient of one record, in float64; its length is that of the gradient that is added."""

    def weighted(self, factors: Tensor, kept: Tensor | None = None) -> Tensor:
        if not self.apart:
            return self.form(factors, kept)
        assert self.alone is not None
        total = self.form(factors.index_fill(0, torch.tensor(self.apart, device=factors.device), 0), kept)
        for record in self.apart:
            if kept is None or kept[record]:
                total = total + factors[record] * self.alone(record)
        return total

    def each(self) -> Tensor:
        return self.instantiate()


@dataclass(frozen=True)
class RowShares:
    """Shares of disjoint rows of a parameter; the gradients of all other rows are 0."""

    shares: tuple[tuple[slice, Share], ...]
    shape: torch.Size
    """Shape of the whole parameter."""

    @property
    def norms(self) -> Tensor:
        return joint_lengths([share.norms for _, share in self.shares])

    def weighted(self, factors: Tensor, kept: Tensor | None = None) -> Tensor:
        parts = [(rows, share.weighted(factors, kept)) for rows, share in self.shares]
        whole = parts[0][1].new_zeros(self.shape)
        for rows, part in parts:
            whole[rows] = part
        return whole

    def each(self) -> Tensor:
        parts = [(rows, share.each()) for rows, share in self.shares]
        whole = parts[0][1].new_zeros(len(parts[0][1]), *self.shape)
        for rows, part in parts:
            whole[:, rows] = part
        return whole


def joint_lengths(norms: Sequence[Tensor]) -> Tensor:
    """Returns the lengths of gradients from the lengths of their parts.

    Args:
        norms: lengths of each part, (n,).

    Returns:
        (n,) float64.
    """
    return torch.linalg.vector_norm(to_float64(torch.stack(list(norms))), dim=0)


def added(one: Share, other: Share) -> Share:
    """Returns the share of a parameter that was used twice: the sum of both gradients.

    Lengths alone suffice only where the two uses concern different rows.

    Args:
        one: share of the first use.
        other: share of the second use.

    Returns:
        The share of both together.
    """
    if isinstance(one, RowShares) and isinstance(other, RowShares):
        places = sorted((rows.start, rows.stop) for rows, _ in (*one.shares, *other.shares))
        if all(before[1] <= after[0] for before, after in pairwise(places)):
            return RowShares((*one.shares, *other.shares), one.shape)
    return Stored(one.each() + other.each())


def rows_kept(kept: Tensor | None, *rows: Tensor) -> tuple[Tensor, ...]:
    """Returns those rows of each tensor that are kept; the tensors themselves, without a copy, if all are.

    Args:
        kept: (n,) bool; None for all.
        rows: tensors (n, ...).

    Returns:
        One tensor for each of ``rows``.
    """
    return rows if kept is None else tuple(one[kept] for one in rows)
