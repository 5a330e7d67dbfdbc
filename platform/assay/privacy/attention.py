"""``nn.MultiheadAttention``, product by product, so that every product with its weights can be recorded.

The steps are those of the documentation of ``torch.nn.MultiheadAttention`` (Vaswani et al. 2017, arXiv:1706.03762).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.privacy.layers import OnProduct, Shares, affine
from assay.privacy.shares import RowShares


def attend(  # noqa: PLR0917 - the arguments of the layer that it stands for
    layer: nn.MultiheadAttention,
    recorder: OnProduct,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Runs the layer's forward pass and reports each product with its weights to a recorder.

    Args:
        layer: the attention layer.
        recorder: is given every product with the layer's weights.
        query: (records, length, width), or (length, records, width) without ``batch_first``.
        key: likewise.
        value: likewise.
        key_padding_mask: (records, length); True, or −∞, at padding.
        need_weights: whether attention weights are returned.
        attn_mask: (queries, keys) or (records · heads, queries, keys).
        average_attn_weights: whether the returned weights are averaged over heads.
        is_causal: only a hint that ``attn_mask`` is causal.

    Returns:
        The output and the attention weights, as the layer returns them.

    Raises:
        ValueError: ``is_causal`` is set without ``attn_mask``.
    """
    if is_causal and attn_mask is None:
        raise ValueError("is_causal is a hint at attn_mask, and there is none: give the mask")
    inputs = [query, key, value]
    same = query is key and key is value
    if not layer.batch_first:
        inputs = [one.transpose(0, 1) for one in inputs]
    q, k, v = (
        one.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2)
        for one in _projected(layer, recorder, inputs, same=same)
    )
    scores = q @ k.mT / q.shape[-1] ** 0.5
    for mask in _masks(attn_mask, key_padding_mask, len(q), scores.dtype):
        scores = scores + mask
    weights = F.dropout(scores.softmax(-1), layer.dropout, layer.training)
    mixed = (weights @ v).transpose(1, 2).flatten(2)
    out = _Product(layer.out_proj.weight, layer.out_proj.bias)(mixed, recorder)
    shown = (weights.mean(1) if average_attn_weights else weights) if need_weights else None
    return (out if layer.batch_first else out.transpose(0, 1)), shown


def _projected(layer: nn.MultiheadAttention, recorder: OnProduct, inputs: list[Tensor], *, same: bool) -> list[Tensor]:
    """Returns queries, keys and values, each (records, length, width)."""
    width, bias = layer.embed_dim, layer.in_proj_bias
    if same and layer.in_proj_weight is not None:
        return list(_Product(layer.in_proj_weight, bias)(inputs[0], recorder).chunk(3, -1))
    projections = []
    apart = (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight)
    for number, (one, weight) in enumerate(zip(inputs, apart, strict=True)):
        rows = slice(number * width, (number + 1) * width)
        product = (
            _Product(layer.in_proj_weight, bias, rows, rows) if weight is None else _Product(weight, bias, None, rows)
        )
        projections.append(product(one, recorder))
    return projections


def _masks(attention: Tensor | None, padding: Tensor | None, records: int, dtype: torch.dtype) -> list[Tensor]:
    """Returns the masks that are added to the scores, (records, heads, queries, keys) or 1 where equal."""
    masks = []
    if attention is not None:
        whole = attention[None, None] if attention.dim() == 2 else attention.unflatten(0, (records, -1))
        masks.append(_added(whole, dtype))
    if padding is not None:
        masks.append(_added(padding[:, None, None], dtype))
    return masks


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -torch.inf)


@dataclass(frozen=True)
class _Product:
    """A product with a weight and a bias, or with some rows of either."""

    weight: Tensor
    bias: Tensor | None
    weight_rows: slice | None = None
    bias_rows: slice | None = None

    def __call__(self, x: Tensor, recorder: OnProduct) -> Tensor:
        weight, bias = (part if rows is None or part is None else part[rows] for part, rows in self._parts)
        assert weight is not None
        out = F.linear(x, weight, bias)
        seen = x.detach()
        recorder(out, [x], lambda backprops, n: self._shares(seen, backprops, n))
        return out

    def _shares(self, activations: Tensor, backprops: Tensor, n: int) -> Shares:
        rows_of = {id(part): rows for part, rows in self._parts}
        for parameter, share in affine(self.weight, self.bias, activations, backprops, n):
            rows = rows_of[id(parameter)]
            yield parameter, share if rows is None else RowShares(((rows, share),), parameter.shape)

    @property
    def _parts(self) -> list[tuple[Tensor | None, slice | None]]:
        return [(self.weight, self.weight_rows), (self.bias, self.bias_rows)]
