"""Does a model keep the records of a batch apart, and is all of its gradient recorded? Asked of the model as it runs.

A layer that compares records would let one record move the gradients of others, past any clipping; and a weight that
is used where nothing records it would silently not learn. Some layers are known for it; of all others it is asked at
the first update, the tenth, the hundredth and so on, since a gate that starts at 0 hides what is behind it.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from assay import seeds
from assay.errors import IncompatibleRecipeError
from assay.privacy.bookkeeping import Share

_MIXING = (nn.modules.batchnorm._BatchNorm, nn.SyncBatchNorm)
_DROPPING = (nn.modules.dropout._DropoutNd, nn.RNNBase, nn.MultiheadAttention)
_LISTS = (list, tuple, deque)
_PLUMBING = vars(nn.Module()).keys() - {"_parameters", "_buffers"}
"""Attributes of every module, in which no layer keeps anything."""
_HALVES = 2
"""Halves of a batch whose answers are asked for alone: one may happen to hold whole groups of what is mixed."""
_KEEP_APART = "record-level privacy clips the gradient of each record by itself; keep the records of a batch apart"


def is_due(update: int) -> bool:
    """Whether to ask at this update, the first being 1."""
    return update == 10 ** round(math.log10(update))


def refuse_kinds(model: nn.Module) -> None:
    """Refuse the layers that are known to mix records, or to remember them without noise.

    Raises:
        IncompatibleRecipeError: names the layer, and what to use instead.
    """
    for name, layer in model.named_modules():
        where = f"layer {name!r} is {type(layer).__name__}"
        if isinstance(layer, _MIXING):
            raise IncompatibleRecipeError(
                f"{where}, which mixes the records of a batch; record-level privacy needs GroupNorm or LayerNorm "
                "instead"
            )
        if getattr(layer, "track_running_stats", False):
            raise IncompatibleRecipeError(
                f"{where} with track_running_stats, which keeps averages over records without noise; set it to false"
            )
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag) and (
            layer.max_norm is not None or layer.scale_grad_by_freq
        ):
            raise IncompatibleRecipeError(
                f"{where} with max_norm or scale_grad_by_freq: the one changes the vectors of the words that a batch "
                "holds without noise, the other weighs a record's words by those of others; leave both out"
            )


def half(n: int, *draw: int) -> np.ndarray:
    """(n,) which records are asked about alone: half of them, others at every draw."""
    chosen = np.zeros(n, dtype=bool)
    chosen[seeds.stream(0, "which half", *draw).permutation(n)[: n // 2]] = True
    return chosen


@torch.no_grad()
def refuse_mixed_answers(model: nn.Module, x: Tensor, update: int) -> None:
    """Refuse a model whose answer to a record depends on the others: some of them are asked alone, without dropout.

    It is asked as it trains, then as it answers. Of an answer by chance nothing can be said: a model that draws by
    itself while it trains is judged as it answers, and one that draws then too is not judged.

    Raises:
        IncompatibleRecipeError: it does; names the innermost layer at which it was seen.
    """
    modes = {layer: layer.training for layer in model.modules()}
    devices = [x.device] if x.is_cuda else []
    try:
        with torch.random.fork_rng(devices):  # what a layer draws here must not change what it draws in training
            for layer in model.modules():
                if isinstance(layer, _DROPPING):
                    layer.training = False
            _refuse_mixed(model, x, update)
            model.eval()
            _refuse_mixed(model, x, update)
    finally:
        for layer, training in modes.items():
            layer.training = training


def _refuse_mixed(model: nn.Module, x: Tensor, update: int) -> None:
    """In the mode in which the model is."""
    together, again = model(x.clone()), model(x.clone())
    if not isinstance(together, Tensor) or len(together) != len(x) or not torch.equal(together, again):
        return
    for draw in range(_HALVES):
        rows = torch.from_numpy(half(len(x), update, draw)).to(x.device)
        if _differ(together[rows], model(x[rows]), together):
            raise IncompatibleRecipeError(
                f"the model's answer to one record depends on other records (seen at {_mixer(model, x, rows)}): "
                f"{_KEEP_APART}"
            )


def _differ(one: Tensor, other: Tensor, whole: Tensor) -> bool:
    """Whether two answers are apart by more than rounding, on the scale of all of them."""
    tolerance = 0.05 if whole.dtype in (torch.float16, torch.bfloat16) else 1e-3
    return bool((one - other).abs().max() > tolerance * whole.abs().max().clamp_min(1e-6))


def _mixer(model: nn.Module, x: Tensor, rows: Tensor) -> str:
    """Which layer is the first, and the innermost, to answer otherwise to some rows when it is asked for them alone."""
    said: list[tuple[str, Tensor]] = []

    def note(name: str, _layer: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.is_floating_point():
            said.append((name, output.clone()))

    hooks = [layer.register_forward_hook(partial(note, name)) for name, layer in model.named_modules()]
    try:
        model(x.clone())
        together, said = said, []
        model(x[rows])
    finally:
        for hook in hooks:
            hook.remove()
    for (name, whole), (_, alone) in zip(together, said, strict=False):
        if len(whole) == len(x) and whole[rows].shape == alone.shape and _differ(whole[rows], alone, whole):
            return _named(model, name)
    return "the model itself"


def _named(model: nn.Module, name: str) -> str:
    return f"layer {name!r} ({type(model.get_submodule(name)).__name__})" if name else "the model itself"


def refuse_mixed_losses(losses: Tensor, recorded: Sequence[tuple[str, GradientEdge]], update: int) -> None:
    """Refuse losses that depend on what a layer said of other records; the graph stays.

    Raises:
        IncompatibleRecipeError: names the layer at which it was seen.
    """
    n = len(losses)
    chosen = torch.from_numpy(half(n, update)).to(losses.device)
    edges = [edge for _, edge in recorded]
    backprops = torch.autograd.grad(losses[chosen].sum(), edges, retain_graph=True, allow_unused=True)
    for (name, _), back in zip(recorded, backprops, strict=True):
        # NaN is no answer: a record whose own derivative is infinite gives it to a loss that does not depend on it.
        if back is not None and (len(back) % n or bool((back.unflatten(0, (-1, n))[:, ~chosen].abs() > 0).any())):
            raise IncompatibleRecipeError(
                f"the loss of one record depends on other records (seen at layer {name!r}): {_KEEP_APART}, at axis 0"
            )


class Expected(NamedTuple):
    """Autograd's own gradient of some records."""

    records: Tensor
    """(n,) bool, which."""
    gradients: tuple[Tensor | None, ...]
    """One a parameter, of the sum of their losses; None where there is none."""


def expected(losses: Tensor, parameters: Sequence[Tensor], update: int) -> list[Expected]:
    """Autograd's gradients of either half of the records, or of the only one; the graph stays."""
    chosen = torch.from_numpy(half(len(losses), update)).to(losses.device)
    return [
        Expected(records, torch.autograd.grad(losses[records].sum(), parameters, retain_graph=True, allow_unused=True))
        for records in (chosen, ~chosen)
        if len(losses) > 1 or bool(records.any())
    ]


@torch.no_grad()
def refuse_unrecorded(
    names: Mapping[Tensor, str], found: Mapping[Tensor, Share], halves: Sequence[Expected], *, rough: bool
) -> None:
    """Refuse a model in which what was recorded is not the gradient.

    Both halves of the records must show it: one record, in which autograd's sum is lost to rounding, ends no training.

    Args:
        names: of each parameter.
        found: what was recorded of it.
        halves: what autograd finds.
        rough: whether some of it was computed in half precision, which leaves two digits.

    Raises:
        IncompatibleRecipeError: names the parameter.
    """
    lengths = {parameter: share.squared_norms.sqrt() for parameter, share in found.items()}

    def is_missing(parameter: Tensor, place: int, of: Expected) -> bool:
        gradient = of.gradients[place]
        missing = torch.zeros_like(parameter) if gradient is None else gradient.to_dense()
        limit = 1e-6 * max([float(own[of.records].sum()) for own in lengths.values()], default=0.0)
        if parameter in found:
            own = lengths[parameter]
            missing = missing - found[parameter].weighted(torch.ones_like(own), of.records)
            limit += (0.05 if rough else 1e-4) * float(own[of.records].sum())
        return bool(missing.norm() > limit)

    for place, (parameter, name) in enumerate(names.items()):
        if all(is_missing(parameter, place, of) for of in halves):
            raise IncompatibleRecipeError(
                f"parameter {name!r} is used where per-record gradients cannot record it: use it only in the forward "
                "pass of the layer that holds it"
            )


Held = dict[str, list[tuple[object, int]]]


def held(model: nn.Module) -> Held:
    """What each layer of a model holds, by the layer's name: tensors, with how often each was written to, NumPy arrays,
    with a hash of what is in them, and floating-point numbers.

    A forward pass that keeps something of what it saw writes to one of them, or puts another in its place. Attributes
    are looked at, and what lies in a dictionary or a list; what hides deeper, or outside the layers, is not seen.
    """
    return {
        name: [
            (thing, _state(thing))
            for attribute, own in vars(layer).items()
            if attribute not in _PLUMBING
            for thing in (own.values() if isinstance(own, dict) else own if isinstance(own, _LISTS) else (own,))
            if isinstance(thing, (Tensor, np.ndarray, float))
        ]
        for name, layer in model.named_modules()
    }


def refuse_changed(model: nn.Module, before: Held) -> None:
    """Refuse a model whose forward pass changed what it held before.

    Raises:
        IncompatibleRecipeError: names the layer.
    """
    after = held(model)
    for name, own in before.items():
        now = after.get(name, [])
        if len(own) != len(now) or not all(map(_same, own, now)):
            raise IncompatibleRecipeError(
                f"the forward pass changed a weight, a buffer or an attribute of {_named(model, name)}, by what it saw "
                "of records and without noise: record-level privacy cannot cover that; take the layer that does so "
                "out, and make constants, such as a table of positions, in __init__ and not at the first call"
            )


def _state(thing: object) -> int:
    if isinstance(thing, Tensor):
        return thing._version
    return hash(thing.tobytes()) if isinstance(thing, np.ndarray) else 0


def _same(one: tuple[object, int], other: tuple[object, int]) -> bool:
    return one[1] == other[1] and (one[0] is other[0] or (isinstance(one[0], float) and one[0] == other[0]))
