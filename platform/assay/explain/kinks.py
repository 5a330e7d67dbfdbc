"""Slopes of kinks, averaged between neighbouring points of a line, instead of taken at the points.

Along a line the gradient of a network with ReLU is piecewise constant: it jumps wherever a unit switches on or off.
Midpoints meet each jump with an error of the order of a step, so the mean gradient needs a hundred points for 1 %. Yet
between two points a unit's input is nearly linear, so the share of the step on which the unit is on is known from its
values at the neighbouring points. With this share as its slope, the error falls with the square of the step. DeepLIFT's
multiplier (Shrikumar et al. 2017, arXiv:1704.02685) is the same quotient for one step from the baseline to the record.
The same holds for maxima, such as poolings: the share of the step on which each entry is the greatest.

Smooth operations keep their slopes at the points, which are midpoints of the steps and so have the same order.

Example:
    >>> rows = torch.cat([start + (number + 0.5) / 4 * difference for number in range(4)]).requires_grad_(True)
    >>> with averaged_slopes(4, len(rows)):
    ...     answers = model(rows)
    >>> (gradient,) = torch.autograd.grad(answers[:, 0].sum(), rows)
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from assay.explain.plain_layers import is_plain
from assay.models.front import Normalise

_KNOWN = (
    *(nn.Sequential, nn.ModuleList, nn.Identity, nn.Dropout, nn.Flatten, nn.Linear, nn.Conv1d, nn.Conv2d, Normalise),
    *(nn.ReLU, nn.LeakyReLU, nn.ReLU6, nn.Hardtanh, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm),
)
"""Layers that certainly keep rows in their order."""
_ROWS = (0, 1, 2, 3, 0, 2, 1)
"""Which of four rows stand in a batch that tells whether a network keeps their order."""
_EQUAL = 1e-3
"""Greatest difference of equal records in two rows of a batch, relative to the greatest entry: rounding is far less."""


@contextmanager
def averaged_slopes(points: int, rows: int) -> Iterator[None]:
    """Averages the slopes of ReLU and its kin, of clamps, absolute values, maxima over one axis and max pooling.

    Answers stay what they are; only gradients of what is computed within the block differ, and in this thread alone.

    Args:
        points: neighbouring points of each line among the rows of a batch; all rows of one point follow each other. One
            point has no neighbour, and keeps its slopes.
        rows: of the batch.
    """
    if points == 1:
        yield
        return
    with _Slopes(points, rows):
        yield


@torch.no_grad()
def keeps_rows(model: nn.Module, start: Tensor, difference: Tensor) -> bool:
    """Returns whether the first axis is that of the rows, in their order, wherever a network has a kink.

    Where it is not, for instance with time first, neighbours in a tensor are no neighbours on a line, and averaging
    between them would be wrong. Common layers of PyTorch in a sequence keep their rows, and so do networks whose class
    says so by ``keeps_rows = True``. Any other network is asked for seven rows, of which some are equal: each kink must
    find equal parts just there. Each entry of these rows lies at another place of its line, so that no two parts of
    them are alike by chance. Compiled networks are not asked: they keep the slopes at the points.

    Args:
        model: from records to logits, in evaluation mode.
        start: (n, ...) where lines begin.
        difference: (n, ...) from there to the records.

    Returns:
        Whether slopes may be averaged.
    """
    layers = list(model.modules())
    if all(is_known(layer) for layer in layers):
        return True
    if any(hasattr(layer, "_orig_mod") for layer in layers):
        return False
    longest = difference.flatten(1).abs().sum(1).argmax()
    places = torch.rand(1 + max(_ROWS), *start.shape[1:], generator=torch.Generator().manual_seed(0)).to(start)
    rows = start[longest] + places * difference[longest]
    probe = _Probe()
    with torch.enable_grad(), probe:
        model(rows[list(_ROWS)].requires_grad_(True))
    return probe.kept


def is_known(layer: nn.Module) -> bool:
    """Returns whether a layer certainly keeps its rows: one of PyTorch's, or of a class that itself says so.

    Args:
        layer: of a network, or the network.

    Returns:
        Whether it does.
    """
    declared = vars(type(layer)).get("keeps_rows", False)
    return is_plain(layer, *_KNOWN, *((type(layer),) if declared else ())) and getattr(layer, "start_dim", 1) == 1


class _Slopes(TorchFunctionMode):
    """Replaces the gradient of functions with kinks.

    Args:
        points: neighbouring points of each line.
        rows: of the batch.
    """

    def __init__(self, points: int, rows: int) -> None:
        super().__init__()
        self._points, self._rows = points, rows

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = _KINKS.get(func)
        # Parts of the batch, as of a network that goes through it piece by piece, have other neighbours.
        if found is None or not _depends_on_rows(args) or len(args[0]) % self._rows or not _keeps_what_it_saves():
            return func(*args, **(kwargs or {}))
        return found(self._points, func, *args, **(kwargs or {}))


class _Probe(TorchFunctionMode):
    """Finds out whether functions with kinks see the rows of ``_ROWS`` in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = True

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in _KINKS and args and isinstance(args[0], Tensor):
            inside = torch._C._functorch.is_functorch_wrapped_tensor(args[0])  # of vmap: rows are hidden
            self.kept = self.kept and not inside and (not args[0].requires_grad or _in_order(args[0]))
        return func(*args, **(kwargs or {}))


def _depends_on_rows(args: tuple[Any, ...]) -> bool:
    """Whether an operation is asked of numbers that depend on the records, along an axis of their own."""
    given = args[0] if args else None
    if not isinstance(given, Tensor) or not given.requires_grad or not given.is_floating_point():
        return False
    return given.dim() > 0 and given.numel() > 0


def _keeps_what_it_saves() -> bool:
    """Whether a backward pass gets what the forward pass saved: not within a checkpoint, which computes it anew."""
    return torch._C._autograd._top_saved_tensors_default_hooks(True) is None


def _in_order(given: Tensor) -> bool:
    """Whether parts of a tensor are equal where, and only where, the rows of the batch are."""
    if not given.dim() or len(given) % len(_ROWS) or not given.numel() or not given.is_floating_point():
        return False
    parts = given.detach().nan_to_num(posinf=0, neginf=0).unflatten(0, (len(_ROWS), -1)).flatten(1)
    most = _EQUAL * parts.abs().max()
    apart = torch.stack([(parts - part).abs().amax(1) for part in parts])
    same = torch.tensor([[one == other for other in _ROWS] for one in _ROWS], device=apart.device)
    return bool((apart[same] <= most).all()) and bool((apart[~same] > 0).all())


class _Scaled(torch.autograd.Function):
    """A function of single entries, with given slopes."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, function: Callable[[Tensor], Tensor], slopes: Tensor) -> Tensor:
        ctx.save_for_backward(slopes)
        out = function(given)
        if out is given:
            ctx.mark_dirty(given)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        return gradients[0] * slopes, None, None


class _Spread(torch.autograd.Function):
    """A maximum over an axis, whose gradient goes to the entries by their shares."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, axis: int, keep: bool, shares: Tensor) -> Tensor:
        ctx.save_for_backward(shares)
        ctx.axis, ctx.keep = axis, keep
        return given.amax(axis, keepdim=keep)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (shares,) = ctx.saved_tensors
        gradient = gradients[0] if ctx.keep else gradients[0].unsqueeze(ctx.axis)
        return gradient * shares, None, None, None


class _Pooled(torch.autograd.Function):
    """A max pooling, whose gradient goes to the greatest entries at both ends of a step, by their shares."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, pool: Callable[[Tensor], tuple[Tensor, Tensor]], step: Tensor) -> Tensor:
        before, after = given - step / 2, given + step / 2
        (_, first), (_, last) = pool(before), pool(after)
        ahead = _at(before, first) - _at(before, last)
        behind = _at(after, last) - _at(after, first)
        ctx.save_for_backward(first, last, _crossing(ahead, behind))
        ctx.shape = given.shape
        return pool(given)[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        first, last, share = ctx.saved_tensors
        spread = gradients[0].new_zeros(ctx.shape).flatten(2)
        spread.scatter_add_(2, first.flatten(2), (gradients[0] * share).flatten(2))
        spread.scatter_add_(2, last.flatten(2), (gradients[0] * (1 - share)).flatten(2))
        return spread.view(ctx.shape), None, None


def _at(given: Tensor, places: Tensor) -> Tensor:
    """Returns the entries (n, channels, ...) at places of pooling, which count the positions of a channel."""
    return given.flatten(2).gather(2, places.flatten(2)).view_as(places)


def _crossing(ahead: Tensor, behind: Tensor) -> Tensor:
    """Returns when a line that starts ``ahead`` of another and ends ``behind`` it crosses it, from 0 to 1."""
    tiny = torch.finfo(ahead.dtype).tiny
    return ((ahead + tiny) / (ahead + behind + 2 * tiny)).nan_to_num_(0.5)


def _step(given: Tensor, points: int) -> Tensor:
    """Returns by how much each entry changes within the step round its point, estimated from its neighbours."""
    given, matrix = given.detach(), _differences(points, given.dtype, given.device)
    if given.is_contiguous():
        return torch.mm(matrix, given.view(points, -1)).view_as(given)
    # Axes in their order in memory, which is not that of the shape where channels come last.
    strides = given.stride()
    axes = sorted(range(given.dim()), key=lambda axis: -strides[axis])
    dense = given.permute(axes)
    if axes[0] != 0 or not dense.is_contiguous():
        return torch.mm(matrix, given.reshape(points, -1)).view(given.shape)
    step = torch.mm(matrix, dense.view(points, -1)).view(dense.shape)
    return step.permute([axes.index(axis) for axis in range(given.dim())])


@lru_cache(maxsize=64)
def _differences(points: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Returns the matrix (points, points) that takes half the difference of both neighbours, or that of the one."""
    matrix = torch.zeros(points, points, dtype=dtype, device=device)
    for point in range(points):
        before, after = max(point - 1, 0), min(point + 1, points - 1)
        matrix[point, after] += 1 / (after - before)
        matrix[point, before] -= 1 / (after - before)
    return matrix


def _share_above(given: Tensor, step: Tensor, limit: float = 0.0, *, at_limit: bool = False) -> Tensor:
    """Returns the share of a step on which an entry is above a limit.

    Args:
        given: entries in the middle of their steps.
        step: their absolute changes.
        limit: of which the slope changes.
        at_limit: whether an entry that stays at the limit counts as above it.
    """
    tiny = torch.finfo(given.dtype).tiny
    beyond = given - limit if limit else given
    return torch.add(beyond, tiny if at_limit else -tiny).div_(step + tiny).add_(0.5).clamp_(0, 1)


@torch.no_grad()
def _slopes(given: Tensor, points: int, kind: "_Kind") -> Tensor:
    """Returns the mean slope of each entry's step; PyTorch's own where an entry does not change."""
    step = _step(given, points).abs_()
    if kind.symmetric:
        return _share_above(given, step).sub_(_share_above(-given, step))
    if kind.limits is None:
        share = _share_above(given, step)
        return share if kind.below == 0 else share.mul_(1 - kind.below).add_(kind.below)
    low, high = kind.limits
    above = torch.ones_like(step) if low == -math.inf else _share_above(given, step, low)
    return above if high == math.inf else above.sub_(_share_above(given, step, high, at_limit=True))


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """Slopes of a function of single entries with kinks."""

    below: float = 0.0
    """Slope below 0; above, it is 1."""
    symmetric: bool = False
    """Whether the slope is −1 below 0 instead, and 0 at it."""
    limits: tuple[float, float] | None = None
    """Between these the slope is 1; elsewhere, and at them, 0."""


def _bent(points: int, func: Any, given: Tensor, *settings: Any, kind: _Kind = _Kind(), **named: Any) -> Any:
    """Applies a function of single entries with kinks."""
    return _Scaled.apply(given, lambda entries: func(entries, *settings, **named), _slopes(given, points, kind))


def _leaky(points: int, func: Any, given: Tensor, negative_slope: float = 0.01, *settings: Any, **named: Any) -> Any:
    return _bent(points, func, given, negative_slope, *settings, kind=_Kind(below=negative_slope), **named)


def _limited(points: int, func: Any, given: Tensor, *settings: Any, **named: Any) -> Any:
    named = dict(zip(("min_val", "max_val", "inplace"), settings, strict=False)) | named
    limits = named.get("min_val", -1.0), named.get("max_val", 1.0)
    return _bent(points, func, given, kind=_Kind(limits=limits), **named)


def _clamped(points: int, func: Any, given: Tensor, *settings: Any, **named: Any) -> Any:
    """Applies limits that are numbers; limits that are tensors, as they are."""
    named = dict(zip(("max",) if func in _UPPER else ("min", "max"), settings, strict=False)) | named
    low, high = named.get("min"), named.get("max")
    if any(isinstance(limit, Tensor) for limit in (low, high)):
        return func(given, **named)
    limits = -math.inf if low is None else float(low), math.inf if high is None else float(high)
    return _bent(points, func, given, kind=_Kind(limits=limits), **named)


def _greatest(points: int, func: Any, given: Tensor, *settings: Any, **named: Any) -> Any:
    """Applies a maximum over one axis; over several, and over the rows, as it is."""
    named = dict(zip(("dim", "keepdim"), settings, strict=False)) | named
    axis = named.get("dim")
    if not isinstance(axis, int) or axis % given.dim() == 0:
        return func(given, **named)
    shares = _shares(given, points, axis)
    return _Spread.apply(given, axis % given.dim(), named.get("keepdim", False), shares)


def _greatest_and_where(points: int, func: Any, given: Tensor, *settings: Any, **named: Any) -> Any:
    """Applies a maximum that tells its position, too; one of two tensors or of all entries, as it is."""
    out = func(given, *settings, **named)
    known = dict(zip(("dim", "keepdim"), settings, strict=False)) | named
    if not isinstance(known.get("dim"), int) or "out" in known or known["dim"] % given.dim() == 0:
        return out
    return torch.return_types.max((_greatest(points, torch.amax, given, **known), out.indices))


@torch.no_grad()
def _shares(given: Tensor, points: int, axis: int) -> Tensor:
    """Returns on which share of its step each entry is the greatest along an axis; equal ones share equally."""
    # Padding is at minus infinity, and stays there.
    step = _step(given, points).nan_to_num_(0).div_(2)
    before, after = given - step, given + step
    first, last = (each == each.amax(axis, keepdim=True) for each in (before, after))
    ahead = before.amax(axis, keepdim=True) - _mean_of(before, last, axis)
    behind = after.amax(axis, keepdim=True) - _mean_of(after, first, axis)
    share = _crossing(ahead, behind)
    return share * first / first.sum(axis, keepdim=True) + (1 - share) * last / last.sum(axis, keepdim=True)


def _mean_of(given: Tensor, chosen: Tensor, axis: int) -> Tensor:
    return given.where(chosen, 0).sum(axis, keepdim=True) / chosen.sum(axis, keepdim=True)


def _pooled(points: int, func: Any, given: Tensor, *settings: Any, **named: Any) -> Any:
    """Applies a max pooling over records (n, channels, ...); one that returns positions too, as it is."""
    axes = 3 if func in (torch.max_pool1d, functional.max_pool1d) else 4
    if given.dim() != axes or named.get("return_indices") or len(settings) > len(_POOLING):
        return func(given, *settings, **named)
    named = dict(zip(_POOLING, settings, strict=False)) | named
    named.pop("return_indices", None)
    pool = partial(_POOLS.get(func, func), **named, return_indices=True)
    with torch.no_grad():
        step = _step(given, points).nan_to_num_(0)
    return _Pooled.apply(given, pool, step)


_POOLING = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
_POOLS = {torch.max_pool1d: functional.max_pool1d, torch.max_pool2d: functional.max_pool2d}
_UPPER = (torch.clamp_max, Tensor.clamp_max)
_CLAMPS = (torch.clamp, Tensor.clamp, torch.clip, Tensor.clip, torch.clamp_min, Tensor.clamp_min, *_UPPER)
_KINKS: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys((functional.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_), _bent),
    functional.relu6: partial(_bent, kind=_Kind(limits=(0.0, 6.0))),
    **dict.fromkeys((torch.abs, Tensor.abs, Tensor.__abs__), partial(_bent, kind=_Kind(symmetric=True))),
    **dict.fromkeys(_CLAMPS, _clamped),
    functional.leaky_relu: _leaky,
    functional.hardtanh: _limited,
    **dict.fromkeys((torch.amax, Tensor.amax), _greatest),
    **dict.fromkeys((torch.max, Tensor.max), _greatest_and_where),
    **dict.fromkeys((*_POOLS, functional.max_pool1d, functional.max_pool2d), _pooled),
}
"""Functions with kinks whose slopes are averaged. Others keep their slopes at the points."""
