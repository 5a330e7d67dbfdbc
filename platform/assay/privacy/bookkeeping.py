"""The part of each record in the gradient of one parameter, from a layer's activations and backprops.

A layer's part in a record's gradient is a product of its input and the gradient of its output. The length of that
product is often cheaper than the product itself (Goodfellow 2015, arXiv:1510.01799; Li et al. 2022, arXiv:2110.05679),
and the clipped sum over records is one product of all inputs and all gradients, each scaled ("book-keeping", Bu et al.
2023, arXiv:2210.00038). So a ``Share`` is either the gradients of all records, where they are small, or their lengths
and a way to form the sum.

A layer may have seen k rows of each of n records: all records, then all records again. Everywhere below ``n`` is the
number of records, ``activations`` what the layer was given, (k · n, ...), and ``backprops`` the gradient of what it
answered, (k · n, ...).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.privacy.precision import exact, lengths, squared_lengths, to_float64

AT_ONCE = 2**18
"""Numbers that a passing product may hold: a batch is worked off in pieces of so many, which a cache can hold too."""
AT_ONCE_ON_A_GPU = 2**26
"""The same on a GPU, which is idle while small pieces are handed to it one by one."""
_UNSURE = 0.01
"""Share of the squared length that positions would have if none cancelled; what is smaller is computed in float64."""
_LOST = 1e-6
"""The same share, below which a record is kept out of the product of all records: the rounding of its positions in
float32 could be more than the whole part of any other."""


class Share(Protocol):
    """The gradients of n records for one parameter."""

    @property
    def norms(self) -> Tensor:
        """(n,) the length of each, in float32 or float64."""
        ...

    def weighted(self, factors: Tensor, kept: Tensor | None = None) -> Tensor:
        """Their sum, each times its factor, in the shape of the parameter; in float64 where it is small.

        Args:
            factors: (n,) float64.
            kept: (n,) bool, some of them: only these are summed. A factor of 0 would not do for what is not finite.
        """
        ...

    def each(self) -> Tensor:
        """(n, ...) all of them."""
        ...


@dataclass(frozen=True)
class Stored:
    """All gradients, (n, ...)."""

    gradients: Tensor
    axes: tuple[int, ...] = ()
    """Which axis of a gradient, that of records left out, stands where in the parameter; empty if all are in place."""

    @property
    def norms(self) -> Tensor:
        return lengths(self.gradients)

    def weighted(self, factors: Tensor, kept: Tensor | None = None) -> Tensor:
        factors, gradients = rows_kept(kept, factors, self.gradients)
        (rows,) = exact(gradients.reshape(len(factors), -1))
        found = (factors.to(rows.dtype) @ rows).view(gradients.shape[1:])
        return found.permute(self.axes).contiguous() if self.axes else found

    def each(self) -> Tensor:
        return self.gradients.permute(0, *(axis + 1 for axis in self.axes)) if self.axes else self.gradients


@dataclass(frozen=True)
class Formed:
    """Lengths alone; the sum is formed once, when the factors are known."""

    norms: Tensor
    form: Callable[[Tensor, Tensor | None], Tensor]
    instantiate: Callable[[], Tensor]
    apart: Sequence[int] = ()
    """Records whose positions cancel: each is formed by itself, and added."""
    alone: Callable[[int], Tensor] | None = None
    """The gradient of one record, in float64: its length is that of what is added, whatever was lost of it."""

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


def is_one_position(backprops: Tensor, n: int) -> bool:
    """Whether each of n records has one row (outputs,): then weight and bias share their lengths and scaled rows."""
    return backprops.dim() == 2 and backprops.shape[0] == n


class OnePosition:
    """Weight and bias of ``activations @ weight.T + bias``: activations (n, inputs), backprops (n, outputs)."""

    def __init__(self, activations: Tensor, backprops: Tensor) -> None:
        self._activations, self._backprops = activations, backprops
        self._lengths = lengths(backprops)
        self._last: tuple[Tensor, Tensor | None, Tensor, Tensor] | None = None

    def weight(self) -> Formed:
        norms = lengths(self._activations) * self._lengths
        return Formed(norms, self._weight, lambda: self._backprops[:, :, None] * self._activations[:, None])

    def bias(self) -> Formed:
        return Formed(self._lengths, self._bias, lambda: self._backprops)

    def _weight(self, factors: Tensor, kept: Tensor | None) -> Tensor:
        scaled, activations = self._scaled_by(factors, kept)
        return scaled.T @ activations

    def _bias(self, factors: Tensor, kept: Tensor | None) -> Tensor:
        return self._scaled_by(factors, kept)[0].sum(0)

    def _scaled_by(self, factors: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor]:
        """The rows that are summed, those of the backprops times their factors; the same serve weight and bias."""
        if self._last is None or self._last[0] is not factors or self._last[1] is not kept:
            g, a = self._backprops, self._activations
            of, g, a = rows_kept(kept, factors, *exact(g, a, products=g.numel() * a.shape[1]))
            self._last = factors, kept, g * of.to(g.dtype)[:, None], a
        return self._last[2:]


def linear_weight(activations: Tensor, backprops: Tensor, n: int) -> Share:
    """The weight of ``activations @ weight.T``: activations (k · n, ..., inputs), backprops (k · n, ..., outputs)."""
    a, g = _positions(activations, n), _positions(backprops, n)

    def form(factors: Tensor, kept: Tensor | None) -> Tensor:
        of, backprops, activations = rows_kept(kept, factors, *exact(g, a, products=g.numel() * a.shape[2]))
        scaled = backprops * of.to(backprops.dtype)[:, None, None]
        return scaled.flatten(0, 1).T @ activations.flatten(0, 1)

    def each() -> Tensor:
        return torch.bmm(g.transpose(1, 2), a)

    def alone(record: int) -> Tensor:
        return g[record].double().T @ a[record].double()

    positions, inputs, outputs = a.shape[1], a.shape[2], g.shape[2]
    if positions == 1:
        return OnePosition(a[:, 0], g[:, 0]).weight()
    if is_stored(positions, inputs, outputs, seen=positions * (inputs + outputs)):
        # The longer axis last: products are faster so.
        return Stored(torch.bmm(a.mT, g), (1, 0)) if outputs > inputs else Stored(each())
    return formed(pieces(squared_by_pairs, n, positions * positions, a, g), form, each, alone)


def linear_bias(backprops: Tensor, n: int) -> Share:
    """The bias that is added to the last axis of (k · n, ..., outputs)."""
    return Stored(_positions(backprops, n).sum(1))


def channel_bias(backprops: Tensor, n: int) -> Share:
    """The bias that is added to the second axis of (k · n, channels, ...)."""
    return Stored(summed(backprops.flatten(2).sum(2) if backprops.dim() > 2 else backprops, n))


def embedding_weight(layer: nn.Embedding, activations: Tensor, backprops: Tensor, n: int) -> Share:
    """The weight of a table of vectors: activations (k · n, ...) integers, backprops (k · n, ..., dimension)."""
    words, g = _positions(activations[..., None], n)[..., 0], _positions(backprops, n)
    if layer.padding_idx is not None:
        g = g.masked_fill((words == layer.padding_idx)[..., None], 0)
    # A word that occurs twice in a record has one vector, which gets the sum of both gradients.
    key = words + torch.arange(n, device=words.device)[:, None] * layer.num_embeddings
    which, place = torch.unique(key, return_inverse=True)
    merged = added_up(len(which), place.flatten(), g.flatten(0, 1))
    record, word = which // layer.num_embeddings, which % layer.num_embeddings
    of_words = squared_lengths(merged)
    squared = added_up(n, record, of_words)

    def form(factors: Tensor, kept: Tensor | None) -> Tensor:
        of, found, rows = rows_kept(None if kept is None else kept[record], factors[record], *exact(merged), word)
        return added_up(layer.num_embeddings, rows, found * of.to(found.dtype)[:, None])

    def each() -> Tensor:
        return g.new_zeros(n, *layer.weight.shape).index_put_((record, word), merged)

    return Formed(squared.sqrt(), form, each)


def added_up(rows: int, place: Tensor, values: Tensor) -> Tensor:
    """(rows, ...) the sum of all values, (m, ...), of each place, (m,); the same bits whenever it is asked."""
    total = values.new_zeros(rows, *values.shape[1:])
    if values.is_cuda:
        # index_add_ adds there in whatever order threads come; this sorts first.
        return total.index_put_((place,), values, accumulate=True)
    return total.index_add_(0, place, values)


def layer_norm_weight(layer: nn.LayerNorm, activations: Tensor, backprops: Tensor, n: int) -> Share:
    """The scale behind layer normalisation, over the last axes."""
    normal = F.layer_norm(activations, layer.normalized_shape, None, None, layer.eps)
    return _scale(normal, backprops, n, len(layer.normalized_shape))


def layer_norm_bias(layer: nn.LayerNorm, backprops: Tensor, n: int) -> Share:
    """What is added behind layer normalisation, over the last axes."""
    axes = len(layer.normalized_shape)
    return Stored(_positions(backprops.flatten(-axes), n).sum(1).view(n, *layer.normalized_shape))


def group_norm_weight(layer: nn.GroupNorm, activations: Tensor, backprops: Tensor, n: int) -> Share:
    """The scale of each channel behind group normalisation: activations and backprops (k · n, channels, ...)."""
    normal = F.group_norm(activations, layer.num_groups, None, None, layer.eps)
    return Stored(summed((normal * backprops).flatten(2).sum(2) if backprops.dim() > 2 else normal * backprops, n))


@dataclass(frozen=True)
class RowShares:
    """Shares of rows of a parameter that do not overlap; the other rows have none."""

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
    """(n,) float64, the lengths of gradients from those of their parts, each (n,)."""
    return torch.linalg.vector_norm(to_float64(torch.stack(list(norms))), dim=0)


def added(one: Share, other: Share) -> Share:
    """The share of a parameter that was used twice: gradients add up, and lengths only where other rows were used."""
    if isinstance(one, RowShares) and isinstance(other, RowShares):
        places = sorted((rows.start, rows.stop) for rows, _ in (*one.shares, *other.shares))
        if all(before[1] <= after[0] for before, after in pairwise(places)):
            return RowShares((*one.shares, *other.shares), one.shape)
    return Stored(one.each() + other.each())


def _scale(normal: Tensor, backprops: Tensor, n: int, axes: int) -> Share:
    found = (normal * backprops).flatten(-axes)
    return Stored(_positions(found, n).sum(1).view(n, *backprops.shape[-axes:]))


def is_stored(positions: int, inputs: int, outputs: int, *, seen: int) -> bool:
    """Whether the gradients of all records are kept: they must be of the size of what the layer saw and gave, so that
    memory stays near a plain step's, and no dearer than pairs of positions would be (Bu et al. 2022, 2205.10683)."""
    return inputs * outputs <= min(3 * seen, positions * positions * (inputs + outputs))


def formed(
    squared: Tensor,
    form: Callable[[Tensor, Tensor | None], Tensor],
    each: Callable[[], Tensor],
    alone: Callable[[int], Tensor],
) -> Formed:
    """From squared lengths, and what they would be at most if no positions cancelled, (n, 2)."""
    own, most = squared.unbind(1)
    apart = ((own <= _LOST * most) & (most > 0)).nonzero().flatten().tolist()
    for record in apart:
        own[record] = alone(record).square().sum()
    return Formed(own.sqrt(), form, each, apart, alone)


def squared_by_pairs(a: Tensor, g: Tensor) -> Tensor:
    """Squared lengths from inner products of all positions: a (rows, ..., positions, inputs), g likewise.

    Beside each stands what it would be if no positions cancelled, (rows, 2). Where positions nearly cancel, what
    float32 leaves of their sum is rounding, and a length that comes out too small would not be clipped: those rows are
    computed again in float64.
    """
    of_inputs, of_backprops = a @ a.mT, g @ g.mT
    squared = to_float64((of_inputs * of_backprops).flatten(1)).sum(1)
    most = to_float64((of_inputs.diagonal(0, -2, -1) * of_backprops.diagonal(0, -2, -1)).sqrt().flatten(1))
    most = most.sum(1).square()
    (unsure,) = (~(squared > _UNSURE * most)).nonzero(as_tuple=True)
    if len(unsure) and a.dtype != torch.float64:
        squared[unsure] = squared_by_pairs(to_float64(a[unsure]), to_float64(g[unsure]))[:, 0]
    return torch.stack([squared.clamp_min(0), most], 1)


def _positions(rows: Tensor, n: int) -> Tensor:
    """(k · n, ..., width) as (n, positions, width): all that one record has given, one after the other."""
    if len(rows) == n:
        return rows.reshape(n, -1, rows.shape[-1])
    return rows.unflatten(0, (-1, n)).transpose(0, 1).reshape(n, -1, rows.shape[-1])


def rows_kept(kept: Tensor | None, *rows: Tensor) -> tuple[Tensor, ...]:
    """Those rows of each that are kept; all of them without a copy if nothing is left out."""
    return rows if kept is None else tuple(one[kept] for one in rows)


def summed(rows: Tensor, n: int) -> Tensor:
    """(k · n, ...) as (n, ...), the rows of each record added."""
    return rows if len(rows) == n else rows.unflatten(0, (-1, n)).sum(0)


def pieces(  # noqa: PLR0917
    fn: Callable[[Tensor, Tensor], Tensor], rows: int, each: int, a: Tensor, g: Tensor, at_once: int | None = None
) -> Tensor:
    """``fn`` over the rows of both; see ``slices``."""
    found = [fn(a[piece], g[piece]) for piece in slices(rows, each, at_once or held_at_once(a))]
    return found[0] if len(found) == 1 else torch.cat(found)


def held_at_once(like: Tensor) -> int:
    """Numbers that a passing product may hold where a tensor lies."""
    return AT_ONCE_ON_A_GPU if like.is_cuda else AT_ONCE


def slices(rows: int, each: int, at_once: int) -> list[slice]:
    """Pieces of rows, as equal as can be, that hold ``at_once`` numbers at most where a row holds ``each``.

    A piece has one row at least.
    """
    most = max(1, at_once // max(1, each))
    size = -(-rows // max(1, -(-rows // most)))
    return [slice(start, start + size) for start in range(0, rows, size)]
