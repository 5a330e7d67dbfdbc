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

import math
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
_GRADIENTS = 2**20
"""The same where convolutions pass by as a whole: their kernels work off what a cache can hold by themselves."""
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
        factors, gradients = _only(kept, factors, self.gradients)
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
            of, g, a = _only(kept, factors, *exact(g, a, products=g.numel() * a.shape[1]))
            self._last = factors, kept, g * of.to(g.dtype)[:, None], a
        return self._last[2:]


def linear_weight(activations: Tensor, backprops: Tensor, n: int) -> Share:
    """The weight of ``activations @ weight.T``: activations (k · n, ..., inputs), backprops (k · n, ..., outputs)."""
    a, g = _positions(activations, n), _positions(backprops, n)

    def form(factors: Tensor, kept: Tensor | None) -> Tensor:
        of, backprops, activations = _only(kept, factors, *exact(g, a, products=g.numel() * a.shape[2]))
        scaled = backprops * of.to(backprops.dtype)[:, None, None]
        return scaled.flatten(0, 1).T @ activations.flatten(0, 1)

    def each() -> Tensor:
        return torch.bmm(g.transpose(1, 2), a)

    def alone(record: int) -> Tensor:
        return g[record].double().T @ a[record].double()

    positions, inputs, outputs = a.shape[1], a.shape[2], g.shape[2]
    if positions == 1:
        return OnePosition(a[:, 0], g[:, 0]).weight()
    if _is_stored(positions, inputs, outputs, seen=positions * (inputs + outputs)):
        # The longer axis last: products are faster so.
        return Stored(torch.bmm(a.mT, g), (1, 0)) if outputs > inputs else Stored(each())
    return _formed(_pieces(_squared_by_pairs, n, positions * positions, a, g), form, each, alone)


def linear_bias(backprops: Tensor, n: int) -> Share:
    """The bias that is added to the last axis of (k · n, ..., outputs)."""
    return Stored(_positions(backprops, n).sum(1))


def channel_bias(backprops: Tensor, n: int) -> Share:
    """The bias that is added to the second axis of (k · n, channels, ...)."""
    return Stored(summed(backprops.flatten(2).sum(2) if backprops.dim() > 2 else backprops, n))


def convolution_weight(layer: nn.Conv1d | nn.Conv2d, activations: Tensor, backprops: Tensor, n: int) -> Share:
    """The weight of a convolution: activations (k · n, channels, ...), backprops (k · n, outputs, ...)."""
    convolution = _Convolution(layer, activations, backprops, n)
    inputs, outputs, positions = layer.weight[0].numel(), len(layer.weight), convolution.positions
    if _is_stored(positions, inputs, outputs, seen=activations[0].numel() + backprops[0].numel()):
        return convolution.stored()
    by_pairs = len(activations) == n and _by_pairs(positions, inputs, outputs // layer.groups)
    squared = convolution.squared_by_pairs() if by_pairs else convolution.squared_by_product()
    return _formed(squared, convolution.form, convolution.each, convolution.alone)


class _Convolution:
    """The activations and backprops of a convolution, record by record."""

    def __init__(self, layer: nn.Conv1d | nn.Conv2d, activations: Tensor, backprops: Tensor, n: int) -> None:
        self._layer, self._n, self._backprops = layer, n, backprops
        self._activations, self._padding = _padded(layer, activations)
        self._by_group = backprops.flatten(2).unflatten(1, (layer.groups, -1))
        """(k · n, groups, outputs, positions)."""
        self._unfolded = layer.groups * layer.weight[0].numel() * self.positions
        # Windows are copied in runs: of neighbouring positions where they lie side by side, of channels otherwise.
        self._channels_last = layer.stride[-1] > 1

    @property
    def positions(self) -> int:
        return self._by_group.shape[3]

    def form(self, factors: Tensor, kept: Tensor | None) -> Tensor:
        k = len(self._backprops) // self._n
        products = self._backprops.numel() * self._layer.weight[0].numel()
        seen = exact(self._backprops, self._activations, products=products)
        of, backprops, activations = _only(None if kept is None else kept.repeat(k), factors.repeat(k), *seen)
        scaled = backprops * of.to(backprops.dtype).view(-1, *[1] * (backprops.dim() - 1))
        return self._of_weight(scaled, activations, self._layer.weight.to(scaled.dtype), self._layer.groups)

    def _of_weight(self, backprops: Tensor, activations: Tensor, weight: Tensor, groups: int) -> Tensor:
        """The gradient of a weight, whose own numbers do not matter."""
        layer = self._layer
        ones, of_weight = [0] * len(layer.kernel_size), [False, True, False]
        _, found, _ = torch.ops.aten.convolution_backward(
            backprops,
            activations,
            weight,
            None,
            layer.stride,
            self._padding,
            layer.dilation,
            False,
            ones,
            groups,
            of_weight,
        )
        assert isinstance(found, Tensor)
        return found

    def stored(self) -> Stored:
        """All gradients, as they come from the products."""
        if self._is_grouped:
            return Stored(summed(self._by_convolution(self._activations, self._backprops), self._n))
        groups, outputs = self._by_group.shape[1:3]
        found = self._by_group.new_empty(len(self._activations), groups, outputs, self._layer.weight[0].numel())
        for piece in _slices(len(found), self._unfolded):
            rows = self._windows(self._activations[piece]).flatten(0, 1)
            torch.bmm(self._by_group[piece].flatten(0, 1), rows, out=found[piece].flatten(0, 1))
        return Stored(*self._as_weight(summed(found, self._n)))

    def each(self) -> Tensor:
        return self.stored().each()

    def alone(self, record: int) -> Tensor:
        rows = slice(record, None, self._n)
        found = self._by_windows(self._activations[rows].double(), self._by_group[rows].double())
        return Stored(*self._as_weight(found.sum(0, keepdim=True))).each()[0]

    def _as_weight(self, found: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """(rows, groups, outputs, inputs of an output) as (rows, outputs, ...), and the axes of the weight in it."""
        outputs, channels, *kernel = self._layer.weight.shape
        if not self._channels_last:
            return found.view(-1, outputs, channels, *kernel), ()
        last = len(kernel) + 1
        return found.view(-1, outputs, *kernel, channels), (0, last, *range(1, last))

    def squared_by_pairs(self) -> Tensor:
        def squared(rows: Tensor, backprops: Tensor) -> Tensor:
            return _squared_by_pairs(self._windows(rows), backprops.mT)

        passing = self._unfolded + self._layer.groups * self.positions * self.positions
        return _pieces(squared, self._n, passing, self._activations, self._by_group)

    def squared_by_product(self) -> Tensor:
        k, by_convolution = len(self._activations) // self._n, self._is_grouped
        rows, backprops = (
            whole.unflatten(0, (k, self._n)).transpose(0, 1)
            for whole in (self._activations, self._backprops if by_convolution else self._by_group)
        )

        def squared(rows: Tensor, backprops: Tensor) -> Tensor:
            product = self._by_convolution if by_convolution else self._by_windows
            found = product(rows.flatten(0, 1), backprops.flatten(0, 1))
            # By Cauchy and Schwarz; an input is in as many windows as the kernel has places.
            most = math.prod(self._layer.kernel_size) * squared_lengths(rows) * squared_lengths(backprops)
            return torch.stack([squared_lengths(found.unflatten(0, (len(rows), k)).sum(1)), most], 1)

        if by_convolution:
            return _pieces(squared, self._n, k * self._layer.weight.numel(), rows, backprops, at_once=_GRADIENTS)
        return _pieces(squared, self._n, k * (self._unfolded + self._layer.weight.numel()), rows, backprops)

    @property
    def _is_grouped(self) -> bool:
        """Whether one convolution in groups is faster than products with copies of all windows, larger than what they
        give where there are more positions than outputs."""
        fast = self._backprops.device.type == "cpu" and torch.backends.mkldnn.is_available()
        return fast and self._backprops.dtype == torch.float32 and self.positions > self._by_group.shape[2]

    def _by_convolution(self, rows: Tensor, backprops: Tensor) -> Tensor:
        """(rows, outputs, ...): the gradient of each row, as one convolution to which every row is a group."""
        weight, groups = self._layer.weight, len(rows) * self._layer.groups
        of_all = weight.detach().new_zeros(1, dtype=rows.dtype).expand(len(rows) * len(weight), *weight.shape[1:])
        found = self._of_weight(backprops.flatten(0, 1)[None], rows.flatten(0, 1)[None], of_all, groups)
        return found.view(len(rows), *weight.shape)

    def _by_windows(self, rows: Tensor, backprops: Tensor) -> Tensor:
        """(rows, groups, outputs, inputs of an output): the gradient of each row."""
        found = backprops.flatten(0, 1) @ self._windows(rows).flatten(0, 1)
        return found.unflatten(0, (len(rows), -1))

    def _windows(self, rows: Tensor) -> Tensor:
        """(rows, groups, positions, inputs of an output); within an input, channels first or last."""
        groups, borders = self._layer.groups, [width for one in reversed(self._padding) for width in (one, one)]
        if not self._channels_last:
            found = _windows(self._layer, F.pad(rows, borders).contiguous(), places_first=False)
            return found.flatten(1, -len(self._padding) - 1).flatten(2).unflatten(1, (groups, -1)).mT
        last = rows.unflatten(1, (groups, -1)).movedim(2, -1)
        found = _windows(self._layer, F.pad(last, [0, 0, *borders]).contiguous(), places_first=True)
        return found.flatten(-len(self._padding) - 1).flatten(2, -2)


def embedding_weight(layer: nn.Embedding, activations: Tensor, backprops: Tensor, n: int) -> Share:
    """The weight of a table of vectors: activations (k · n, ...) integers, backprops (k · n, ..., dimension)."""
    words, g = _positions(activations[..., None], n)[..., 0], _positions(backprops, n)
    if layer.padding_idx is not None:
        g = g.masked_fill((words == layer.padding_idx)[..., None], 0)
    # A word that occurs twice in a record has one vector, which gets the sum of both gradients.
    key = words + torch.arange(n, device=words.device)[:, None] * layer.num_embeddings
    which, place = torch.unique(key, return_inverse=True)
    merged = g.new_zeros(len(which), g.shape[-1]).index_add_(0, place.flatten(), g.flatten(0, 1))
    record, word = which // layer.num_embeddings, which % layer.num_embeddings
    of_words = squared_lengths(merged)
    squared = of_words.new_zeros(n).index_add_(0, record, of_words)

    def form(factors: Tensor, kept: Tensor | None) -> Tensor:
        of, found, rows = _only(None if kept is None else kept[record], factors[record], *exact(merged), word)
        return found.new_zeros(layer.weight.shape).index_add_(0, rows, found * of.to(found.dtype)[:, None])

    def each() -> Tensor:
        return g.new_zeros(n, *layer.weight.shape).index_put_((record, word), merged)

    return Formed(squared.sqrt(), form, each)


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
class Rows:
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
    if isinstance(one, Rows) and isinstance(other, Rows):
        places = sorted((rows.start, rows.stop) for rows, _ in (*one.shares, *other.shares))
        if all(before[1] <= after[0] for before, after in pairwise(places)):
            return Rows((*one.shares, *other.shares), one.shape)
    return Stored(one.each() + other.each())


def _scale(normal: Tensor, backprops: Tensor, n: int, axes: int) -> Share:
    found = (normal * backprops).flatten(-axes)
    return Stored(_positions(found, n).sum(1).view(n, *backprops.shape[-axes:]))


def _is_stored(positions: int, inputs: int, outputs: int, *, seen: int) -> bool:
    """Whether the gradients of all records are kept: they must be no larger than what the layer saw and gave, so that
    memory stays that of a plain step, and no dearer than pairs of positions would be (Bu et al. 2022, 2205.10683)."""
    return inputs * outputs <= min(2 * seen, positions * positions * (inputs + outputs))


def _by_pairs(positions: int, inputs: int, outputs: int) -> bool:
    """Whether lengths are cheaper from inner products of all pairs of positions than from the gradients themselves."""
    return positions * (inputs + outputs) < inputs * outputs


def _formed(
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


def _squared_by_pairs(a: Tensor, g: Tensor) -> Tensor:
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
        squared[unsure] = _squared_by_pairs(to_float64(a[unsure]), to_float64(g[unsure]))[:, 0]
    return torch.stack([squared.clamp_min(0), most], 1)


def _positions(rows: Tensor, n: int) -> Tensor:
    """(k · n, ..., width) as (n, positions, width): all that one record has given, one after the other."""
    if len(rows) == n:
        return rows.reshape(n, -1, rows.shape[-1])
    return rows.unflatten(0, (-1, n)).transpose(0, 1).reshape(n, -1, rows.shape[-1])


def _only(kept: Tensor | None, *rows: Tensor) -> tuple[Tensor, ...]:
    """Those rows of each that are kept; all of them without a copy if nothing is left out."""
    return rows if kept is None else tuple(one[kept] for one in rows)


def summed(rows: Tensor, n: int) -> Tensor:
    """(k · n, ...) as (n, ...), the rows of each record added."""
    return rows if len(rows) == n else rows.unflatten(0, (-1, n)).sum(0)


def _pieces(  # noqa: PLR0917
    fn: Callable[[Tensor, Tensor], Tensor], rows: int, each: int, a: Tensor, g: Tensor, at_once: int = AT_ONCE
) -> Tensor:
    """``fn`` over the rows of both, so many that what passes by holds ``at_once`` numbers, ``each`` a row."""
    found = [fn(a[piece], g[piece]) for piece in _slices(rows, each, at_once)]
    return found[0] if len(found) == 1 else torch.cat(found)


def _slices(rows: int, each: int, at_once: int = AT_ONCE) -> list[slice]:
    """Pieces of rows, as equal as can be, that hold ``at_once`` numbers at most where one row holds ``each``."""
    most = max(1, at_once // max(1, each))
    size = -(-rows // max(1, -(-rows // most)))
    return [slice(start, start + size) for start in range(0, rows, size)]


def _padded(layer: nn.Conv1d | nn.Conv2d, activations: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """The input with its padding where that is no plain border of zeros, and the border that is left to add."""
    nothing = (0,) * len(layer.kernel_size)
    if layer.padding_mode != "zeros":
        return F.pad(activations, layer._reversed_padding_repeated_twice, layer.padding_mode), nothing
    if isinstance(layer.padding, str):
        return F.pad(activations, layer._reversed_padding_repeated_twice), nothing
    return activations, layer.padding


def _windows(layer: nn.Conv1d | nn.Conv2d, bordered: Tensor, *, places_first: bool) -> Tensor:
    """A view of what each position of the output is made from.

    Args:
        bordered: (rows, channels, *space) or (rows, groups, *space, channels), contiguous.
        places_first: (rows, ..., *positions, *kernel, ...) and not (rows, ..., *kernel, *positions, ...).
    """
    steps, behind = bordered.stride(), 2 + len(layer.kernel_size)
    size = [
        (extent - dilation * (kernel - 1) - 1) // stride + 1
        for extent, kernel, dilation, stride in zip(
            bordered.shape[2:behind], layer.kernel_size, layer.dilation, layer.stride, strict=True
        )
    ]
    inside = [step * dilation for step, dilation in zip(steps[2:behind], layer.dilation, strict=True)]
    between = [step * stride for step, stride in zip(steps[2:behind], layer.stride, strict=True)]
    kernel = list(layer.kernel_size)
    shape, strides = [[*kernel, *size], [*size, *kernel]], [[*inside, *between], [*between, *inside]]
    return bordered.as_strided(
        [*bordered.shape[:2], *shape[places_first], *bordered.shape[behind:]],
        [*steps[:2], *strides[places_first], *steps[behind:]],
    )
