"""Book-keeping rules of layers: from a layer's input and the gradient of its output to the share of each parameter."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from torch import Tensor, nn

from assay.privacy import bookkeeping, convolutions
from assay.privacy.precision import at_least_float32
from assay.privacy.shares import Share

Shares = Iterator[tuple[Tensor, Share]]
LayerRule = Callable[[nn.Module, Tensor, Tensor, int], Shares]
"""Takes a layer, its input, the gradient of its output and the number of records; yields each parameter's share."""


class OnProduct(Protocol):
    """Callback for every product of records with weights during the forward pass."""

    def __call__(
        self,
        output: Tensor | Sequence[Tensor],
        inputs: Sequence[Tensor],
        shares: Callable[[Tensor, int], Shares],
    ) -> None:
        """Records a product.

        Args:
            output: of the product, (rows, ...); for steps in time, one tensor a step, each (rows, width).
            inputs: factors of the product other than weights.
            shares: takes the gradient of the output, (rows, ...), or (rows, steps, width) for steps, and the number of
                records; yields the share of each parameter.
        """
        ...


def _linear(layer: nn.Module, activations: Tensor, backprops: Tensor, n: int) -> Shares:
    assert isinstance(layer, nn.Linear)
    return affine(layer.weight, layer.bias, activations, backprops, n)


def affine(weight: Tensor, bias: Tensor | None, activations: Tensor, backprops: Tensor, n: int) -> Shares:
    """Yields the shares of the weight and the bias of ``activations @ weight.T + bias``.

    Args:
        weight: (outputs, inputs) parameter.
        bias: (outputs,) parameter, or None.
        activations: (k · n, ..., inputs).
        backprops: (k · n, ..., outputs) gradient of the output.
        n: number of records.

    Yields:
        Each trainable parameter and its share.
    """
    activations, once = at_least_float32(activations), None
    if bookkeeping.is_one_position(backprops, n):
        once = bookkeeping.OnePosition(activations, backprops)
    if weight.requires_grad:
        yield weight, once.weight() if once else bookkeeping.linear_weight(activations, backprops, n)
    if bias is not None and bias.requires_grad:
        yield bias, once.bias() if once else bookkeeping.linear_bias(backprops, n)


def _convolution(layer: nn.Module, activations: Tensor, backprops: Tensor, n: int) -> Shares:
    assert isinstance(layer, nn.Conv1d | nn.Conv2d)
    if layer.weight.requires_grad:
        yield layer.weight, convolutions.convolution_weight(layer, activations, backprops, n)
    if layer.bias is not None and layer.bias.requires_grad:
        yield layer.bias, bookkeeping.channel_bias(backprops, n)


def _embedding(layer: nn.Module, activations: Tensor, backprops: Tensor, n: int) -> Shares:
    assert isinstance(layer, nn.Embedding)
    yield layer.weight, bookkeeping.embedding_weight(layer, activations, backprops, n)


def _layer_norm(layer: nn.Module, activations: Tensor, backprops: Tensor, n: int) -> Shares:
    assert isinstance(layer, nn.LayerNorm)
    if layer.weight.requires_grad:
        yield layer.weight, bookkeeping.layer_norm_weight(layer, activations, backprops, n)
    if layer.bias is not None and layer.bias.requires_grad:
        yield layer.bias, bookkeeping.layer_norm_bias(layer, backprops, n)


def _group_norm(layer: nn.Module, activations: Tensor, backprops: Tensor, n: int) -> Shares:
    assert isinstance(layer, nn.GroupNorm)
    if layer.weight.requires_grad:
        yield layer.weight, bookkeeping.group_norm_weight(layer, activations, backprops, n)
    if layer.bias is not None and layer.bias.requires_grad:
        yield layer.bias, bookkeeping.channel_bias(backprops, n)


LAYER_RULES: dict[type[nn.Module], LayerRule] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Embedding: _embedding,
    nn.LayerNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
}


def rule_of(layer: nn.Module) -> LayerRule | None:
    """Returns the book-keeping rule of a layer; None if it has none.

    The type must match exactly: a subclass may compute something else.

    Args:
        layer: any layer.

    Returns:
        The rule, or None.
    """
    return LAYER_RULES.get(type(layer))
