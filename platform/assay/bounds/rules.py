"""Interval rules: the bounds of each supported function of PyTorch (Gowal et al. 2018, arXiv:1810.12715).

Affine functions map centre and radius; monotone ones map the ends. Where rounding counts (``IntervalTensor.unit`` > 0),
results are widened by the greatest rounding error in any order of summation.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from assay.bounds.interval_tensor import APART, IntervalTensor, NoRuleError, Product, rule


def slack(weight: Tensor, unit: float) -> float:
    """Returns the greatest relative rounding error of a row's products and of their sum with the bias, in any order.

    Args:
        weight: (outputs, ...) of a linear layer or a convolution.
        unit: relative rounding error of one operation.

    Returns:
        The relative error.
    """
    return unit * (weight[0].numel() + 2)


def absolute(bias: Tensor | None) -> Tensor | None:
    """Returns the absolute values of a bias; None stays None.

    Args:
        bias: (outputs,) or None.

    Returns:
        (outputs,) or None.
    """
    return None if bias is None else bias.abs()


@rule(F.linear)
def _linear(function: Any, x: Any, weight: Any, bias: Any = None) -> IntervalTensor:
    if weight.dim() != 2 or x.dim() < 2:
        raise NoRuleError(f"has a weight that is no matrix, or multiplies along axis 0, {APART}")
    result = _weighted(function, x, weight, bias)
    result.product = Product(IntervalTensor(x.centre, x.radius, unit=x.unit), weight, bias)
    return result


@rule(torch.conv1d, torch.conv2d, torch.conv3d)
def _convolution(function: Any, x: Any, weight: Any, bias: Any = None, *how: Any, **named: Any) -> IntervalTensor:
    if x.dim() != weight.dim():
        raise NoRuleError(f"takes for channels axis 0, {APART}")
    return _weighted(lambda *given: function(*given, *how, **named), x, weight, bias)


def _weighted(
    apply: Callable[[Tensor, Tensor, Tensor | None], Tensor], x: Any, weight: Any, bias: Any
) -> IntervalTensor:
    """Maps the centre by the weights and the radius by their absolute values.

    Rounding acts as if every weight, and the bias, were off by a factor of at most 1 ± ``slack``.
    """
    if not isinstance(x, IntervalTensor) or isinstance(weight, IntervalTensor) or isinstance(bias, IntervalTensor):
        raise NoRuleError("has weights that depend on the record")
    radius, offset = x.radius, None
    if x.unit:
        off = slack(weight, x.unit)
        radius, offset = radius + off * x.magnitude, None if bias is None else off * bias.abs()
    return IntervalTensor(
        apply(x.centre, weight, bias),
        apply(radius, weight.abs(), offset),
        unit=x.unit,
        records=None if x.records is None else apply(x.records, weight, bias),
    )


@rule(F.batch_norm)
def _batch_norm(  # noqa: PLR0917
    function: Any,
    x: IntervalTensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> IntervalTensor:
    """Applies each channel's factor and shift; in training mode they come from the batch of records."""
    if training:
        if x.records is None:
            raise NoRuleError("mixes the records of a batch, and has bounds only in evaluation mode")
        mean, variance = _statistics(x.records, running_mean, running_var, momentum)
    else:
        assert running_mean is not None and running_var is not None
        mean, variance = running_mean, running_var
    factor = (variance + eps).rsqrt() * (1.0 if weight is None else weight)
    shift = -mean * factor if bias is None else bias - mean * factor
    factor, shift = _wide(factor, x), _wide(shift, x)
    result = IntervalTensor(
        torch.addcmul(shift, x.centre, factor),
        x.radius * factor.abs(),
        unit=x.unit,
        records=None if x.records is None else torch.addcmul(shift, x.records, factor),
    )
    if not x.unit:
        return result
    # The framework may subtract before it multiplies, or the other way round.
    largest = (
        x.magnitude * factor.abs() + _wide(mean, x).abs() * factor.abs() + (0 if bias is None else _wide(bias, x).abs())
    )
    return result.widened(8 * x.unit * largest)


def _statistics(
    records: Tensor, running_mean: Tensor | None, running_var: Tensor | None, momentum: float
) -> tuple[Tensor, Tensor]:
    """Returns mean and variance of each channel, and updates the running ones as the layer does."""
    over = [axis for axis in range(records.dim()) if axis != 1]
    variance, mean = torch.var_mean(records, over, correction=0)
    count = records.numel() // records.shape[1]
    if count < 2:
        raise ValueError(f"batch norm in training mode needs more than 1 value a channel, got {tuple(records.shape)}")
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean, momentum)
            running_var.lerp_(variance * (count / (count - 1)), momentum)
    return mean, variance


def _wide(values: Tensor, like: IntervalTensor) -> Tensor:
    """Reshapes one value per channel so that it broadcasts to the records."""
    return values.view(-1, *[1] * (like.dim() - 2))


@rule(F.relu, torch.relu, Tensor.relu)
def _relu(function: Any, x: IntervalTensor, inplace: bool = False) -> IntervalTensor:
    result = IntervalTensor(
        *_Bend.apply(x.centre, x.radius), unit=x.unit, records=None if x.records is None else F.relu(x.records)
    )
    if x.unit:
        result = result.widened(x.unit * result.magnitude)
    return x.become(result) if inplace else result


class _Bend(torch.autograd.Function):
    """ReLU of both ends, from centre and radius to centre and radius.

    It takes half as many passes over memory as separate operations, whose gradients are passes too. In certified
    training
    only the weights cost more time.
    """

    @staticmethod
    def forward(ctx: Any, centre: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
        low, high = (centre - radius).clamp_min_(0), (centre + radius).clamp_min_(0)
        ctx.save_for_backward(low, high)
        middle = torch.lerp(low, high, 0.5)
        return middle, high - middle

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_centre: Tensor, of_radius: Tensor) -> tuple[Tensor, Tensor]:
        low, high = ctx.saved_tensors
        to_low, to_high = of_centre - of_radius, of_centre + of_radius
        for gradient, end in ((to_low, low), (to_high, high)):
            torch.ops.aten.threshold_backward.grad_input(gradient, end, 0, grad_input=gradient)
        middle = to_low.lerp_(to_high, 0.5)
        return middle, to_high.sub_(middle)


@rule(torch.relu_, Tensor.relu_)
def _relu_in_place(function: Any, x: IntervalTensor) -> IntervalTensor:
    return _relu(function, x, inplace=True)


@rule(F.leaky_relu)
def _leaky_relu(
    function: Any, x: IntervalTensor, negative_slope: float = 0.01, inplace: bool = False
) -> IntervalTensor:
    if negative_slope < 0:
        raise NoRuleError(f"falls where its slope is {negative_slope}, and must rise")
    result = _rising(lambda end: F.leaky_relu(end, negative_slope), x)
    return x.become(result) if inplace else result


@rule(torch.sigmoid, torch.tanh, Tensor.sigmoid, Tensor.tanh)
def _squashed(function: Any, x: IntervalTensor) -> IntervalTensor:
    result = _rising(function, x)
    return result.widened(8 * x.unit) if x.unit else result


_MAXIMA = (F.max_pool1d, F.max_pool2d, F.max_pool3d, F.adaptive_max_pool1d, F.adaptive_max_pool2d)


@rule(*_MAXIMA, torch.max_pool1d, torch.max_pool2d)
def _maximum(function: Any, x: IntervalTensor, *how: Any, return_indices: bool = False, **named: Any) -> IntervalTensor:
    if return_indices:
        raise NoRuleError("asks which input is the greatest, which depends on the record")
    return _rising(lambda end: function(end, *how, **named), x)


def _rising(apply: Callable[[Tensor], Tensor], x: IntervalTensor) -> IntervalTensor:
    """Bounds a monotone function: the ends of the input map to the ends of the output."""
    low, high = x.ends
    records = None if x.records is None else apply(x.records)
    return IntervalTensor.between(apply(low), apply(high), unit=x.unit, records=records)


_POOLED = {
    F.avg_pool1d: 1,
    F.avg_pool2d: 2,
    F.avg_pool3d: 3,
    F.adaptive_avg_pool1d: 1,
    F.adaptive_avg_pool2d: 2,
}
"""From a pooling function to the number of last axes over which it averages."""


@rule(*_POOLED)
def _average(function: Any, x: IntervalTensor, *how: Any, **named: Any) -> IntervalTensor:
    def apply(tensor: Tensor) -> Tensor:
        return function(tensor, *how, **named)

    if bool((apply(torch.ones_like(x.radius[:1])) < 0).any()):
        raise NoRuleError("divides by a negative number, as no average does; give divisor_override above 0")
    return _averaged(apply, x, x.shape[-_POOLED[function] :].numel())


@rule(torch.mean, Tensor.mean)
def _mean(
    function: Any, x: IntervalTensor, dim: int | Sequence[int] | None = None, keepdim: bool = False
) -> IntervalTensor:
    axes = (dim,) if isinstance(dim, int) else tuple(dim or range(x.dim()))
    if any(axis % x.dim() == 0 for axis in axes):
        raise NoRuleError(f"averages over axis 0, {APART}")
    return _averaged(lambda tensor: tensor.mean(axes, keepdim), x, math.prod(x.shape[axis] for axis in axes))


def _averaged(apply: Callable[[Tensor], Tensor], x: IntervalTensor, terms: int) -> IntervalTensor:
    result = x.each(apply)
    return result.widened(x.unit * (terms + 2) * apply(x.magnitude)) if x.unit else result


@rule(torch.add, Tensor.add)
def _add(function: Any, x: Any, other: Any) -> IntervalTensor:
    """Adds two boxes, or a box and a constant. Two boxes count as independent, even if they share an input."""
    if not isinstance(x, IntervalTensor):
        x, other = other, x
    if not isinstance(other, IntervalTensor):
        result = _rounded(x.centre + other, x.radius + _nothing(other), x, lambda records: records + other)
        result.product = _with_constant(x.product, other)
        return result
    if x.dim() != other.dim():
        raise NoRuleError(f"adds {other.dim()} axes to {x.dim()}, which lays another axis beside axis 0, {APART}")
    records = None if x.records is None or other.records is None else x.records + other.records
    result = IntervalTensor(x.centre + other.centre, x.radius + other.radius, unit=x.unit, records=records)
    return result.widened(x.unit * result.magnitude) if x.unit else result


def _with_constant(product: Product | None, other: Any) -> Product | None:
    """Returns the product with a constant per output added; None where the sum has another form."""
    fits = product is not None and isinstance(other, Tensor) and other.shape == product.weight.shape[:1]
    return product._replace(added=other) if product is not None and product.added is None and fits else None


@rule(Tensor.add_)
def _add_in_place(function: Any, x: Any, other: Any) -> IntervalTensor:
    if not isinstance(x, IntervalTensor):
        raise NoRuleError("adds to a tensor in place what depends on the record")
    return x.become(_add(function, x, other))


@rule(torch.sub, Tensor.sub)
def _subtract(function: Any, x: Any, other: Any) -> IntervalTensor:
    return x + -other


@rule(torch.mul, Tensor.mul)
def _multiply(function: Any, x: Any, other: Any) -> IntervalTensor:
    x, other = (x, other) if isinstance(x, IntervalTensor) else (other, x)
    if isinstance(other, IntervalTensor):
        raise NoRuleError("multiplies two values that both depend on the record")
    return _rounded(x.centre * other, x.radius * abs(other), x, lambda records: records * other)


@rule(torch.div, Tensor.div)
def _divide(function: Any, x: Any, other: Any) -> IntervalTensor:
    if not isinstance(x, IntervalTensor) or isinstance(other, IntervalTensor):
        raise NoRuleError("divides by a value that depends on the record")
    return _rounded(x.centre / other, x.radius / abs(other), x, lambda records: records / other)


def _rounded(centre: Tensor, radius: Tensor, x: IntervalTensor, apply: Callable[[Tensor], Tensor]) -> IntervalTensor:
    """Returns the result of one operation with a constant, widened by its rounding error."""
    if centre.dim() != x.dim() or len(centre) != len(x):
        raise NoRuleError(f"takes a constant of shape that changes axis 0, {APART}")
    result = IntervalTensor(centre, radius, unit=x.unit, records=None if x.records is None else apply(x.records))
    return result.widened(x.unit * result.magnitude) if x.unit else result


def _nothing(constant: Any) -> Any:
    """Returns 0 in the shape of a constant, so that the radius gets the shape of the sum."""
    return torch.zeros_like(constant) if isinstance(constant, Tensor) else 0


@rule(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d)
def _dropout(
    function: Any, x: IntervalTensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> IntervalTensor:
    """Applies dropout to the records in training; the boxes are those of the network in evaluation mode."""
    if not training or x.records is None:
        return x
    result = IntervalTensor(x.centre, x.radius, unit=x.unit, records=function(x.records, p, training=True))
    return x.become(result) if inplace else result


@rule(
    *(torch.flatten, torch.squeeze, torch.unsqueeze, torch.permute, torch.transpose, torch.reshape),
    *(Tensor.flatten, Tensor.squeeze, Tensor.unsqueeze, Tensor.permute, Tensor.transpose, Tensor.reshape),
    *(Tensor.view, Tensor.contiguous),
)
def _moved(function: Any, x: IntervalTensor, *how: Any, **named: Any) -> IntervalTensor:
    # A tensor that is not contiguous can still be flattened: as a view where possible, otherwise as a copy.
    return x.moved(function, *how, **named)


@rule(F.pad)
def _padded(
    function: Any, x: IntervalTensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> IntervalTensor:
    if value:
        raise NoRuleError(f"pads with {value}; with 0, or with copies of the record, there are interval bounds")
    if len(pad) >= 2 * x.dim():
        raise NoRuleError(f"pads axis 0, {APART}")
    return x.each(lambda tensor: function(tensor, pad, mode, value))


@rule(torch.cat)
def _joined(function: Any, tensors: Sequence[Any], dim: int = 0) -> IntervalTensor:
    boxes = [part for part in tensors if isinstance(part, IntervalTensor)]
    if len(boxes) < len(tensors):
        raise NoRuleError("joins values that depend on the record with others")
    if dim % boxes[0].dim() == 0:
        raise NoRuleError(f"joins along axis 0, {APART}")
    records = [part.records for part in boxes if part.records is not None]
    return IntervalTensor(
        torch.cat([part.centre for part in boxes], dim),
        torch.cat([part.radius for part in boxes], dim),
        unit=boxes[0].unit,
        records=torch.cat(records, dim) if len(records) == len(boxes) else None,
    )
