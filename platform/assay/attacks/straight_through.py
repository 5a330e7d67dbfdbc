"""Backward-pass approximation (BPDA; Athalye et al. 2018, arXiv:1802.00420), for networks that mask their gradient.

The forward pass stays bit for bit the same. In the backward pass, a function without a gradient is replaced by a
similar smooth one: rounding by the identity, a threshold by the distance to it, a saturated softmax by a softer one, a
whole layer by a linear map.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from assay.attacks.gradients import input_gradient

BLIND = 0.9
"""A layer counts as masked if at least this share of its inputs has no gradient; a ReLU stays far below."""
WIDEST = 1024
"""Greatest number of inputs of a layer for which a linear map is fitted where output and input differ in shape."""
_LEAK = 0.01
"""Slope that a saturated sigmoid keeps: small against its slope of 1/4 in the middle, but not lost to rounding."""
_MILD = 8.0
"""Greatest difference between two inputs of a softmax for which it is not replaced."""


def straight_through(model: nn.Module, x: Tensor) -> nn.Module:
    """Returns a substitute for ``model`` with the same outputs and another backward pass.

    Functions of PyTorch that round, bin, threshold, clamp, saturate or detach are replaced wherever they are called. A
    value
    that went to numpy and came back in the same shape gets the gradient of the line fitted between the two. A layer
    that
    still has no gradient is replaced as a whole: by a multiple of the identity where output and input have the same
    shape,
    otherwise by the linear map that fits best, up to ``WIDEST`` inputs. Layers of ``torch.nn`` are not probed.

    Args:
        model: in evaluation mode; not changed.
        x: (n, ...) valid records, on which each layer is probed for a gradient.

    Returns:
        The substitute.
    """
    fitted = {name: _line(model.get_submodule(name), seen) for name, seen in _inputs(model, x).items()}
    lines = {name: line for name, line in fitted.items() if line is not None}
    return StraightThrough(_with_bridges(model, lines))


class StraightThrough(nn.Module):
    """Network in which calls of functions without a gradient get an approximate backward pass."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        # The outer block restores the gradient mode that the model may have switched inside.
        with torch.set_grad_enabled(torch.is_grad_enabled()), _Bridging():
            return self.model(x)


class _Bridged(torch.autograd.Function):
    """Returns the first argument in the forward pass; passes the gradient to the second one."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, surrogate: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


def _bridged(value: Tensor, surrogate: Tensor) -> Tensor:
    return _Bridged.apply(value.detach(), surrogate.to(value.dtype).expand_as(value))


def _identity(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return x


def _quotient(x: Tensor, other: Any, **_: Any) -> Tensor:
    return torch.true_divide(x, other)


def _leak(x: Tensor, *_: Any, **__: Any) -> Tensor:
    """Returns almost nothing: ``x`` minus its remainder is a staircase that rises like ``x``."""
    return _LEAK * x


def _mild_softmax(x: Tensor, dim: int | None = None, *_: Any, **__: Any) -> Tensor:
    """Returns the softmax at a temperature at which no entry underflows."""
    along = -1 if dim is None else dim
    spread = (x.amax(along, keepdim=True) - x.amin(along, keepdim=True)).detach()
    return torch.softmax(x / (spread / _MILD).clamp_min(1.0), along)


_SURROGATES: dict[str, Callable[..., Tensor]] = {
    **dict.fromkeys(("round", "floor", "ceil", "trunc", "fix", "sign", "sgn", "heaviside", "detach"), _identity),
    **dict.fromkeys(("floor_divide", "floordiv", "div", "divide"), _quotient),
    **dict.fromkeys(("remainder", "fmod", "mod"), _leak),
    **dict.fromkeys(("clamp", "clip", "hardtanh", "relu6", "hardsigmoid", "threshold"), _identity),
    **dict.fromkeys(("fake_quantize_per_tensor_affine", "fake_quantize_per_channel_affine"), _identity),
    "sigmoid": lambda x, *_, **__: torch.sigmoid(x) + _LEAK * x,
    "tanh": lambda x, *_, **__: torch.tanh(x) + _LEAK * x,
    **dict.fromkeys(("softmax", "special_softmax"), _mild_softmax),
}
"""From the name of a function of PyTorch to its replacement in the backward pass, with the same arguments."""

_ABOVE, _BELOW = ("gt", "ge", "greater", "greater_equal"), ("lt", "le", "less", "less_equal")
_TO_NUMBERS = ("float", "double", "half", "bfloat16", "to", "type", "type_as", "mul", "div", "add", "sub", "matmul")
_TO_INTEGERS = ("to", "type", "byte", "char", "short", "int", "long")
_AMONG_INTEGERS = ("add", "sub", "mul", "rsub", "neg")
_LOOKED_UP = ("getitem", "take")
_TO_NUMPY = ("numpy", "array", "tolist")
_FROM_NUMPY = ("tensor", "as_tensor", "asarray", "from_numpy")


class _Bridging(TorchFunctionMode):
    """Within it, neither the functions above nor ``no_grad``, comparisons or casts to integers stop a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self._smooth: dict[int, tuple[Tensor, Tensor]] = {}
        """From the id of a tensor without a gradient to the tensor (kept alive) and its differentiable source."""
        self._left: Tensor | None = None
        """The tensor that was last converted to numpy."""
        self._made: dict[int, Tensor] = {}
        """Tensors that PyTorch has created since then, by id (kept alive)."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "").strip("_")
        if name == "set_grad_enabled" and args == (False,):
            return None
        if self._left is not None:
            args = tuple(self._returned(argument) for argument in args)
        true_division = name in ("div", "divide") and kwargs.get("rounding_mode") is None
        if name in _SURROGATES and args and _moves(args[0]) and not true_division:
            return self._replaced(func, name, args, kwargs)
        if name in _TO_NUMPY:
            # numpy conversions refuse a tensor with a gradient, and here a detached tensor still has one.
            self._left = args[0] if _moves(args[0]) else self._left
            args = (args[0].detach(), *args[1:])
        value = func(*args, **kwargs)
        if self._left is not None and isinstance(value, Tensor) and name not in _FROM_NUMPY:
            self._made[id(value)] = value
        return self._revived(func, name, value, args, kwargs) if isinstance(value, Tensor) else value

    def _revived(
        self, func: Callable[..., Any], name: str, value: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Returns the value of a function, with the gradient of the sources of its integers and comparisons."""
        if not value.is_floating_point():
            self._remember(name, value, args)
        elif name == "where" and len(args) == 3 and self._knows(args[:1]) and not value.requires_grad:
            # A choice between two constants is a threshold; between differentiable branches it is a ReLU.
            return _bridged(value, self._smooth[id(args[0])][1] * (args[1] - args[2]))
        elif name in _LOOKED_UP and self._knows(args[1:]):
            return self._looked_up(value, args[1])
        elif name in _TO_NUMBERS and self._knows(args):
            return func(*(self._alive(argument) for argument in args), **kwargs)
        return value

    def _replaced(self, func: Callable[..., Any], name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
        source, *rest = args
        surrogate = _SURROGATES[name](*args, **kwargs)
        if func.__name__.endswith("_") and not func.__name__.startswith("_"):
            return source.copy_(_bridged(func(source.detach().clone(), *rest, **kwargs), surrogate))
        return _bridged(func(*args, **kwargs), surrogate)

    def _remember(self, name: str, value: Tensor, args: Sequence[Any]) -> None:
        """Stores the differentiable source of an integer or boolean value, with its sign."""
        if name in ("clamp", "clip") and self._knows(args[:1]):
            self._smooth[id(value)] = (value, self._smooth[id(args[0])][1])
        elif name in _AMONG_INTEGERS and self._knows(args):
            smooth = [self._smooth[id(a)][1] if self._knows((a,)) else a for a in args]
            self._smooth[id(value)] = (value, getattr(torch, name)(*smooth))
        if name == "searchsorted":
            args = args[1:]
        if not args or not _moves(args[0]):
            return
        if name in _ABOVE + _BELOW and len(args) == 2:
            self._smooth[id(value)] = (value, (args[0] - args[1]) * (1 if name in _ABOVE else -1))
        elif name in (*_TO_INTEGERS, "bucketize", "searchsorted"):
            self._smooth[id(value)] = (value, args[0])

    def _looked_up(self, value: Tensor, index: Tensor) -> Tensor:
        """Returns an entry of a table, with the gradient of the line fitted through all entries that were looked up."""
        smooth = self._smooth[id(index)][1]
        if value.shape != smooth.shape:
            return value
        with torch.no_grad():
            steepness = _slope(smooth, value)
        return _bridged(value, steepness * smooth)

    def _alive(self, argument: Any) -> Any:
        """Returns an argument with the gradient of its source; other arguments unchanged."""
        if not self._knows((argument,)):
            return argument
        value, smooth = self._smooth[id(argument)]
        return _bridged(value.to(smooth.dtype), smooth)

    def _returned(self, argument: Any) -> Any:
        """Returns a tensor that came back from numpy, with the gradient of its source; anything else unchanged."""
        left = self._left
        foreign = isinstance(argument, Tensor) and not isinstance(argument, nn.Parameter) and not argument.requires_grad
        if not foreign or left is None or argument.shape != left.shape or id(argument) in (*self._made, *self._smooth):
            return argument
        with torch.no_grad():
            smooth_slope = _slope(left, argument.to(left))
        if argument.is_floating_point():
            return _bridged(argument, smooth_slope * left)
        self._smooth[id(argument)] = (argument, smooth_slope * left)
        return argument

    def _knows(self, args: Sequence[Any]) -> bool:
        return any(id(argument) in self._smooth for argument in args)


def _moves(x: Any) -> bool:
    """Returns whether a gradient can reach the records through this value."""
    return isinstance(x, Tensor) and x.is_floating_point() and x.requires_grad


class _Bridge(nn.Module):
    """Layer with a linear backward pass."""

    def __init__(self, layer: nn.Module, line: Tensor) -> None:
        super().__init__()
        self.layer = layer
        self.line: Tensor
        self.register_buffer("line", line)

    def forward(self, x: Tensor) -> Tensor:
        value = self.layer(x)
        line = self.line.to(x)
        surrogate = line * x if line.dim() == 0 else (x.flatten(1) @ line).view_as(value)
        return _bridged(value, surrogate)


def _inputs(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Returns the input of each custom layer that takes one tensor, by the layer's name."""
    seen: dict[str, Tensor] = {}
    custom = {
        layer: name
        for name, layer in model.named_modules()
        if not any(layer.children()) and not type(layer).__module__.startswith("torch.nn.")
    }

    def keep(layer: nn.Module, args: tuple[Any, ...]) -> None:
        if len(args) == 1 and isinstance(args[0], Tensor) and args[0].is_floating_point():
            seen.setdefault(custom[layer], args[0].detach().clone())

    hooks = [layer.register_forward_pre_hook(keep) for layer in custom]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _line(layer: nn.Module, x: Tensor) -> Tensor | None:
    """Returns the replacement of a layer: a slope (), a matrix (inputs, outputs), or None if it has a gradient."""
    generator = torch.Generator(device=x.device).manual_seed(0)
    with torch.enable_grad(), _Bridging():
        point = x.clone().requires_grad_(True)
        # Multiplied by 1, because a leaf tensor may not be changed in place.
        value = layer(point * 1)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return None
    # Random weights: with a plain sum the gradient of a softmax would be 0.
    weights = torch.randn(value.shape, generator=generator, device=x.device, dtype=value.dtype)
    gradient = input_gradient(value, point, weights=weights)
    if float(((gradient == 0) | ~gradient.isfinite()).double().mean()) < BLIND:
        return None
    with torch.no_grad():
        return _slope(x, value) if value.shape == x.shape else _matrix(layer, x, generator)


def _slope(x: Tensor, value: Tensor) -> Tensor:
    """Returns the least-squares slope of outputs over inputs: about 1 for rounding, negative for a negation."""
    x, value = x - x.mean(), (value - value.mean()).nan_to_num()
    return (x * value).sum() / x.square().sum().clamp_min(torch.finfo(x.dtype).tiny)


def _matrix(layer: nn.Module, x: Tensor, generator: torch.Generator) -> Tensor | None:
    """Returns the least-squares linear map between an input and an output of other shapes, fitted on noisy records."""
    inputs = x.flatten(1).shape[1]
    if inputs > WIDEST:
        return None
    many = x.repeat(1 + 4 * inputs // len(x), *[1] * (x.dim() - 1))
    spread = x.std(0, keepdim=True, correction=0)
    many = many + spread * torch.randn(many.shape, generator=generator, device=x.device, dtype=x.dtype)
    outputs = layer(many).flatten(1).nan_to_num()
    centred = many.flatten(1) - many.flatten(1).mean(0)
    # A small ridge term: an input that never varies has no slope.
    square = centred.T @ centred + 1e-3 * len(many) * torch.eye(inputs, device=x.device, dtype=x.dtype)
    return torch.linalg.solve(square, centred.T @ (outputs - outputs.mean(0)))


def _with_bridges(model: nn.Module, lines: Mapping[str, Tensor]) -> nn.Module:
    """Returns a copy with the named layers replaced; the model itself where there are none."""
    if "" in lines:
        return _Bridge(model, lines[""])
    if not lines:
        return model
    bridged = copy.deepcopy(model)
    for name, line in lines.items():
        parent, _, child = name.rpartition(".")
        setattr(bridged.get_submodule(parent), child, _Bridge(bridged.get_submodule(name), line))
    return bridged
