"""Interval bound propagation (Gowal et al. 2018, arXiv:1810.12715).

A box of inputs is pushed through the network layer by layer. What comes out holds every output that the box can lead
to, and usually more: a sound bound, often a loose one.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.errors import UserError
from assay.models.front import Normalise
from assay.threats import Threat

Box = tuple[Tensor, Tensor]
"""Least and greatest value of each entry, (n, ...) both."""


class UnboundableError(UserError):
    """A network holds a layer through which no interval bound is known."""


def interval(model: nn.Module, low: Tensor, high: Tensor) -> Box:
    """Bounds of the output for every input between ``low`` and ``high``, differentiable in the weights.

    Dropout counts as in evaluation mode whatever mode it is in: the bounds are of the network that answers.

    Args:
        model: any nesting of ``nn.Sequential`` of the supported layers.
        low: (n, ...) least value of each input.
        high: (n, ...) greatest value of each input, nowhere below ``low``.

    Raises:
        UnboundableError: names the layer, its type and what is supported.
    """
    return _through(list(_layers(model)), low, high, 0.0)


def worst_logits(model: nn.Module, low: Tensor, high: Tensor, y: Tensor) -> Tensor:
    """Upper bounds of every logit minus the true one, (n, classes); exactly 0 for the true class.

    A last layer that is linear is merged with these differences, which is tighter than bounding each logit (elision of
    the last layer). The cross-entropy of the result is the loss of certified training.

    Args:
        model: from records to logits; see ``interval``.
        low: (n, ...) least value of each input.
        high: (n, ...) greatest value of each input.
        y: (n,) true classes.

    Raises:
        UnboundableError: names the layer, its type and what is supported.
    """
    return _worst(model, low, high, y, 0.0)


@torch.no_grad()
def certified(model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    """Which records are proven to be classified correctly whatever the threat allows, (n,) bool.

    Bounds are computed in float64, on a copy in evaluation mode, and widened by all that rounding in the model's own
    arithmetic can do in any order of summation: a certified record is not fooled by the float32 network as it runs.
    Arithmetic coarser than the type of the records (TF32, autocast) is not covered. In L2 the box around the ball is
    used, which is sound and loose. At ε = 0 nothing is bounded: a record counts if the model answers it correctly,
    without a tie.

    Args:
        model: from records to logits; left as it is.
        x: (n, ...) valid records, in the model's own type.
        y: (n,) true classes.
        threat: what is allowed.

    Raises:
        UnboundableError: names the layer, its type and what is supported.
    """
    own = copy.deepcopy(model).eval()
    if threat.epsilon == 0:
        logits = own(threat.bounds.clip(x))
        return _stays_right(logits - logits.gather(1, y[:, None]), y)
    # Four times what one operation may be off by: for the model, and for these bounds where they are no finer.
    unit = 2 * torch.finfo(x.dtype).eps
    centre = x.double()
    # A projected record is rounded too, and in L2 so is the length of its change.
    steps = 4 if threat.norm == "linf" else 4 + x[0].numel()
    radius = threat.epsilon * (1 + unit * steps) + unit * centre.abs()
    low, high = threat.bounds.clip(centre - radius), threat.bounds.clip(centre + radius)
    return _stays_right(_worst(own.double(), low, high, y, unit), y)


def _stays_right(worst: Tensor, y: Tensor) -> Tensor:
    """Whether every wrong class stays below the true one; NaN proves nothing."""
    return worst.scatter(1, y[:, None], -torch.inf).amax(1) < 0


def _worst(model: nn.Module, low: Tensor, high: Tensor, y: Tensor, unit: float) -> Tensor:
    *body, (name, last) = _layers(model)
    if _kind(last) is not nn.Linear:
        low, high = _through([*body, (name, last)], low, high, unit)
        return (high - low.gather(1, y[:, None])).scatter(1, y[:, None], 0.0)
    centre, radius = _centred(*_through(body, low, high, unit))
    logits = F.linear(centre, last.weight, last.bias)
    apart = last.weight - last.weight[y][:, None]
    spread = torch.einsum("nkf,nf->nk", apart.abs(), radius)
    size = F.linear(centre.abs() + radius, last.weight.abs(), _absolute(last.bias))
    rounding = _slack(last.weight, unit) * (size + size.gather(1, y[:, None]))
    return (logits - logits.gather(1, y[:, None]) + spread + rounding).scatter(1, y[:, None], 0.0)


def _layers(model: nn.Module, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every layer in order, with its place in the network."""
    if _kind(model) is nn.Sequential:
        # Not ``named_children``, which leaves out the second use of a module.
        for key, layer in model._modules.items():
            assert layer is not None
            yield from _layers(layer, f"{name}.{key}" if name else key)
    else:
        yield name, model


def _kind(layer: nn.Module) -> type[nn.Module] | None:
    """The supported type that a layer is, or whose forward pass it inherits."""
    for kind in type(layer).__mro__:
        if (kind is nn.Sequential or kind in _RULES) and type(layer).forward is kind.forward:
            return kind
    return None


def _through(layers: list[tuple[str, Any]], low: Tensor, high: Tensor, unit: float) -> Box:
    for name, layer in layers:
        kind = _kind(layer)
        if kind is None:
            raise _unboundable(name, layer, "has no interval bounds")
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and (layer.training or layer.running_mean is None):
            raise _unboundable(name, layer, "mixes the records of a batch, and has bounds only in evaluation mode")
        if isinstance(layer, nn.LeakyReLU) and layer.negative_slope < 0:
            raise _unboundable(name, layer, f"falls where its slope is {layer.negative_slope}, and must rise")
        low, high = _RULES[kind](layer, low, high, unit)
    return low, high


def _unboundable(name: str, layer: nn.Module, why: str) -> UnboundableError:
    where = f"layer {name!r}" if name else "the model"
    supported = ", ".join(kind.__name__ for kind in _RULES)
    return UnboundableError(f"{where} ({type(layer).__name__}) {why}; supported: nn.Sequential of {supported}")


def _slack(weight: Tensor, unit: float) -> float:
    """Greatest relative error of a row's products and of their sum with the bias, in any order."""
    return unit * (weight[0].numel() + 2)


def _absolute(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.abs()


def _centred(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and radius."""
    return (low + high) / 2, (high - low) / 2


def _affine(
    apply: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    box: Box,
    weight: Tensor,
    bias: Tensor | None,
    slack: float,
) -> Box:
    """The centre goes through the weights and the radius through their absolute values.

    Rounding acts as if every weight, and the bias, were off by a factor of at most 1 ± ``slack``.
    """
    centre, radius = _centred(*box)
    middle = apply(centre, weight, bias)
    spread = apply(radius + slack * (centre.abs() + radius), weight.abs(), None if bias is None else slack * bias.abs())
    return middle - spread, middle + spread


def _linear(layer: nn.Linear, low: Tensor, high: Tensor, unit: float) -> Box:
    return _affine(F.linear, (low, high), layer.weight, layer.bias, _slack(layer.weight, unit))


def _convolution(layer: nn.Conv1d | nn.Conv2d, low: Tensor, high: Tensor, unit: float) -> Box:
    return _affine(layer._conv_forward, (low, high), layer.weight, layer.bias, _slack(layer.weight, unit))


def _batch_norm(layer: nn.BatchNorm1d | nn.BatchNorm2d, low: Tensor, high: Tensor, unit: float) -> Box:
    """In evaluation mode each channel has a factor and a shift of its own."""
    assert layer.running_mean is not None and layer.running_var is not None
    factor = (layer.running_var + layer.eps).rsqrt() * (1.0 if layer.weight is None else layer.weight)
    size = layer.running_mean.abs() * factor.abs() + (0.0 if layer.bias is None else layer.bias.abs())
    shape = (-1, *[1] * (low.dim() - 2))
    centre, radius = _centred(low, high)
    middle, spread = layer(centre), radius * factor.abs().view(shape)
    rounding = 8 * unit * (torch.maximum(low.abs(), high.abs()) * factor.abs().view(shape) + size.view(shape))
    return middle - spread - rounding, middle + spread + rounding


def _normalise(layer: Normalise, low: Tensor, high: Tensor, unit: float) -> Box:
    """Falls where a deviation is negative. Two operations, each off by no more than its share of what it gives."""
    ends = layer(low), layer(high)
    low, high = torch.minimum(*ends), torch.maximum(*ends)
    return low - 2 * unit * low.abs(), high + 2 * unit * high.abs()


def _average(layer: nn.Module, low: Tensor, high: Tensor, unit: float) -> Box:
    rounding = unit * (low[0, 0].numel() + 2) * layer(torch.maximum(low.abs(), high.abs()))
    return layer(low) - rounding, layer(high) + rounding


def _rising(layer: nn.Module, low: Tensor, high: Tensor, unit: float) -> Box:
    """No output falls when an input grows: each end leads to its own end, and nothing is rounded."""
    return layer(low), layer(high)


def _relu(layer: nn.ReLU, low: Tensor, high: Tensor, unit: float) -> Box:
    """Never in place: the ends may belong to the caller."""
    return F.relu(low), F.relu(high)


def _leaky_relu(layer: nn.LeakyReLU, low: Tensor, high: Tensor, unit: float) -> Box:
    low, high = F.leaky_relu(low, layer.negative_slope), F.leaky_relu(high, layer.negative_slope)
    return low - unit * low.abs(), high + unit * high.abs()


def _squashed(layer: nn.Sigmoid | nn.Tanh, low: Tensor, high: Tensor, unit: float) -> Box:
    return layer(low) - 8 * unit, layer(high) + 8 * unit


def _unchanged(layer: nn.Module, low: Tensor, high: Tensor, unit: float) -> Box:
    return low, high


_RULES: dict[type[nn.Module], Callable[[Any, Tensor, Tensor, float], Box]] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.AvgPool1d: _average,
    nn.AvgPool2d: _average,
    nn.AdaptiveAvgPool1d: _average,
    nn.AdaptiveAvgPool2d: _average,
    nn.MaxPool1d: _rising,
    nn.MaxPool2d: _rising,
    nn.Flatten: _rising,
    nn.ReLU: _relu,
    nn.LeakyReLU: _leaky_relu,
    nn.Sigmoid: _squashed,
    nn.Tanh: _squashed,
    nn.Identity: _unchanged,
    nn.Dropout: _unchanged,
    Normalise: _normalise,
}
"""From a layer and the box of its inputs to the box of its outputs. The last argument is what one operation of the
layer's arithmetic may be off by, relatively: 0 to leave rounding out."""
