"""Share of each record in the gradient of one parameter, from a layer's activations and backprops.

The gradient of a record with respect to a weight is a product of the layer's input and the gradient of its output. The
length of this product is often cheaper than the product itself (Goodfellow 2015, arXiv:1510.01799; Li et al. 2022,
arXiv:2110.05679), and the clipped sum over records is one product of all inputs and all scaled gradients
("book-keeping", Bu et al. 2023, arXiv:2210.00038). So a share (``shares``) holds either the gradients of all records,
where they are small, or their lengths and a way to form the sum.

A layer may process k rows of each of n records: one row of every record, then the next row of every record. Everywhere
below ``n`` is the number of records, ``activations`` the layer's input, (k · n, ...), and ``backprops`` the gradient of
its output, (k · n, ...).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.privacy.precision import exact, lengths, squared_lengths, to_float64
from assay.privacy.shares import Formed, Share, Stored, rows_kept

AT_ONCE = 2**18
"""Greatest number of entries of a temporary product. Batches are processed in pieces of this size, to fit a cache."""
AT_ONCE_ON_A_GPU = 2**26
"""The same on a GPU, where small pieces would leave the processor idle."""
_UNSURE = 0.01
"""Ratio of a squared length to its value without cancellation; where it is smaller, float64 is used."""
_LOST = 1e-6
"""The same ratio, below which a record is left out of the product of all records: its rounding error in float32 could
exceed the contribution of any other record."""


def is_one_position(backprops: Tensor, n: int) -> bool:
    """Returns whether each record has one row (outputs,); then weight and bias share their lengths and scaled rows.

    Args:
        backprops: gradient of the output.
        n: number of records.

    Returns:
        Whether ``backprops`` is (n, outputs).
    """
    return backprops.dim() == 2 and backprops.shape[0] == n


class OnePosition:
    """Weight and bias of ``activations @ weight.T + bias`` where each record has one row.

    Args:
        activations: (n, inputs).
        backprops: (n, outputs).
    """

    def __init__(self, activations: Tensor, backprops: Tensor) -> None:
        self._activations, self._backprops = activations, backprops
        self._lengths = lengths(backprops)
        self._last: tuple[Tensor, Tensor | None, Tensor, Tensor] | None = None

    def weight(self) -> Formed:
        """Returns the share of the weight, (outputs, inputs)."""
        norms = lengths(self._activations) * self._lengths
        return Formed(norms, self._weight, lambda: self._backprops[:, :, None] * self._activations[:, None])

    def bias(self) -> Formed:
        """Returns the share of the bias, (outputs,)."""
        return Formed(self._lengths, self._bias, lambda: self._backprops)

    def _weight(self, factors: Tensor, kept: Tensor | None) -> Tensor:
        scaled, activations = self._scaled_by(factors, kept)
        return scaled.T @ activations

    def _bias(self, factors: Tensor, kept: Tensor | None) -> Tensor:
        return self._scaled_by(factors, kept)[0].sum(0)

    def _scaled_by(self, factors: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns the rows that are summed, those of the backprops times their factors; for weight and bias alike."""
        if self._last is None or self._last[0] is not factors or self._last[1] is not kept:
            g, a = self._backprops, self._activations
            of, g, a = rows_kept(kept, factors, *exact(g, a, products=g.numel() * a.shape[1]))
            self._last = factors, kept, g * of.to(g.dtype)[:, None], a
        return self._last[2:]


def linear_weight(activations: Tensor, backprops: Tensor, n: int) -> Share:
    """Returns the share of the weight of ``activations @ weight.T``.

    Args:
        activations: (k · n, ..., inputs).
        backprops: (k · n, ..., outputs).
        n: number of records.

    Returns:
        The share of a weight (outputs, inputs).
    """
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
        # With the longer axis last, products are faster.
        return Stored(torch.bmm(a.mT, g), (1, 0)) if outputs > inputs else Stored(each())
    return formed(pieces(squared_by_pairs, n, positions * positions, a, g), form, each, alone)


def linear_bias(backprops: Tensor, n: int) -> Share:
    """Returns the share of a bias that is added along the last axis.

    Args:
        backprops: (k · n, ..., outputs).
        n: number of records.

    Returns:
        The share of a bias (outputs,).
    """
    return Stored(_positions(backprops, n).sum(1))


def channel_bias(backprops: Tensor, n: int) -> Share:
    """Returns the share of a bias that is added along the second axis.

    Args:
        backprops: (k · n, channels, ...).
        n: number of records.

    Returns:
        The share of a bias (channels,).
    """
    return Stored(summed(backprops.flatten(2).sum(2) if backprops.dim() > 2 else backprops, n))


def embedding_weight(layer: nn.Embedding, activations: Tensor, backprops: Tensor, n: int) -> Share:
    """Returns the share of the weight of an embedding.

    Args:
        layer: the embedding.
        activations: (k · n, ...) integer indices.
        backprops: (k · n, ..., dimension).
        n: number of records.

    Returns:
        The share of a weight (words, dimension).
    """
    words, g = _positions(activations[..., None], n)[..., 0], _positions(backprops, n)
    if layer.padding_idx is not None:
        g = g.masked_fill((words == layer.padding_idx)[..., None], 0)
    # If a word occurs twice in a record, its vector receives the sum of both gradients.
    key = words + torch.arange(n, device=words.device)[:, None] * layer.num_embeddings
    which, place = torch.unique(key, return_inverse=True)
    merged = added_up(len(which), place.flatten(), g.flatten(0, 1))
    record, word = which // layer.num_embeddings, which % layer.num_embeddings
    of_words = squared_lengths(merged)
    squared = added_up(n, record, of_words)

    def form(factors: Tensor, kept: Tensor | None) -> Tensor:
        of, gradients, rows = rows_kept(None if kept is None else kept[record], factors[record], *exact(merged), word)
        return added_up(layer.num_embeddings, rows, gradients * of.to(gradients.dtype)[:, None])

    def each() -> Tensor:
        return g.new_zeros(n, *layer.weight.shape).index_put_((record, word), merged)

    return Formed(squared.sqrt(), form, each)


def added_up(rows: int, place: Tensor, values: Tensor) -> Tensor:
    """Returns the sum of the values that have the same place; bit-identical at every call.

    Args:
        rows: number of places.
        place: (m,) place of each value.
        values: (m, ...).

    Returns:
        (rows, ...) sums.
    """
    total = values.new_zeros(rows, *values.shape[1:])
    if values.is_cuda:
        # On a GPU, index_add_ adds in the order in which threads finish; this sorts first.
        return total.index_put_((place,), values, accumulate=True)
    return total.index_add_(0, place, values)


def layer_norm_weight(layer: nn.LayerNorm, activations: Tensor, backprops: Tensor, n: int) -> Share:
    """Returns the share of the weight of layer normalisation, over the last axes.

    Args:
        layer: the normalisation.
        activations: (k · n, ..., *normalized_shape).
        backprops: of the same shape.
        n: number of records.

    Returns:
        The share of a weight of ``normalized_shape``.
    """
    normal = F.layer_norm(activations, layer.normalized_shape, None, None, layer.eps)
    return _scale(normal, backprops, n, len(layer.normalized_shape))


def layer_norm_bias(layer: nn.LayerNorm, backprops: Tensor, n: int) -> Share:
    """Returns the share of the bias of layer normalisation, over the last axes.

    Args:
        layer: the normalisation.
        backprops: (k · n, ..., *normalized_shape).
        n: number of records.

    Returns:
        The share of a bias of ``normalized_shape``.
    """
    axes = len(layer.normalized_shape)
    return Stored(_positions(backprops.flatten(-axes), n).sum(1).view(n, *layer.normalized_shape))


def group_norm_weight(layer: nn.GroupNorm, activations: Tensor, backprops: Tensor, n: int) -> Share:
    """Returns the share of the weight of group normalisation, one entry a channel.

    Args:
        layer: the normalisation.
        activations: (k · n, channels, ...).
        backprops: of the same shape.
        n: number of records.

    Returns:
        The share of a weight (channels,).
    """
    normal = F.group_norm(activations, layer.num_groups, None, None, layer.eps)
    return Stored(summed((normal * backprops).flatten(2).sum(2) if backprops.dim() > 2 else normal * backprops, n))


def _scale(normal: Tensor, backprops: Tensor, n: int, axes: int) -> Share:
    products = (normal * backprops).flatten(-axes)
    return Stored(_positions(products, n).sum(1).view(n, *backprops.shape[-axes:]))


def is_stored(positions: int, inputs: int, outputs: int, *, seen: int) -> bool:
    """Returns whether the gradients of all records are kept in memory.

    They must be about as small as the layer's input and output, so that memory stays near that of a plain step, and no
    more expensive than pairs of positions would be (Bu et al. 2022, arXiv:2205.10683).

    Args:
        positions: rows of each record.
        inputs: width of the layer's input.
        outputs: width of its output.
        seen: entries of input and output of one record.

    Returns:
        Whether to keep them.
    """
    return inputs * outputs <= min(3 * seen, positions * positions * (inputs + outputs))


def formed(
    squared: Tensor,
    form: Callable[[Tensor, Tensor | None], Tensor],
    each: Callable[[], Tensor],
    alone: Callable[[int], Tensor],
) -> Formed:
    """Returns a share that knows lengths and forms the sum later.

    Args:
        squared: (n, 2) squared lengths, and their values if no positions cancelled.
        form: returns the weighted sum; see ``Share.weighted``.
        each: returns the gradients of all records, (n, ...).
        alone: returns the gradient of one record, in float64.

    Returns:
        The share.
    """
    squared_length, upper_bound = squared.unbind(1)
    apart = ((squared_length <= _LOST * upper_bound) & (upper_bound > 0)).nonzero().flatten().tolist()
    for record in apart:
        squared_length[record] = alone(record).square().sum()
    return Formed(squared_length.sqrt(), form, each, apart, alone)


def squared_by_pairs(a: Tensor, g: Tensor) -> Tensor:
    """Returns squared lengths of the gradients from inner products of all pairs of positions.

    Where positions nearly cancel, what float32 leaves of their sum is rounding error, and a length that comes out too
    small would not be clipped. Those rows are computed again in float64.

    Args:
        a: (rows, ..., positions, inputs) activations.
        g: (rows, ..., positions, outputs) backprops.

    Returns:
        (rows, 2) float64: the squared length, and its value if no positions cancelled.
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
    """Returns (k · n, ..., width) as (n, positions, width): all rows of one record, one after the other."""
    if len(rows) == n:
        return rows.reshape(n, -1, rows.shape[-1])
    return rows.unflatten(0, (-1, n)).transpose(0, 1).reshape(n, -1, rows.shape[-1])


def summed(rows: Tensor, n: int) -> Tensor:
    """Returns the sum of the rows of each record.

    Args:
        rows: (k · n, ...).
        n: number of records.

    Returns:
        (n, ...).
    """
    return rows if len(rows) == n else rows.unflatten(0, (-1, n)).sum(0)


def pieces(  # noqa: PLR0917
    fn: Callable[[Tensor, Tensor], Tensor], rows: int, each: int, a: Tensor, g: Tensor, at_once: int | None = None
) -> Tensor:
    """Returns the results of a function that is applied to pieces of two tensors; see ``slices``.

    Args:
        fn: maps rows of both tensors to a tensor with as many rows.
        rows: number of rows.
        each: entries of temporary results that one row needs.
        a: (rows, ...) first tensor.
        g: (rows, ...) second tensor.
        at_once: entries of temporary results, at most; by default those of ``held_at_once``.

    Returns:
        The results, concatenated.
    """
    results = [fn(a[piece], g[piece]) for piece in slices(rows, each, at_once or held_at_once(a))]
    return results[0] if len(results) == 1 else torch.cat(results)


def held_at_once(like: Tensor) -> int:
    """Returns the greatest number of entries of a temporary product on the device of a tensor.

    Args:
        like: a tensor.

    Returns:
        The number of entries.
    """
    return AT_ONCE_ON_A_GPU if like.is_cuda else AT_ONCE


def slices(rows: int, each: int, at_once: int) -> list[slice]:
    """Returns slices that divide rows into pieces of nearly equal size.

    Args:
        rows: number of rows.
        each: entries that one row needs.
        at_once: entries of a piece, at most; but a piece has at least one row.

    Returns:
        The slices, in order.
    """
    most = max(1, at_once // max(1, each))
    size = -(-rows // max(1, -(-rows // most)))
    return [slice(start, start + size) for start in range(0, rows, size)]
