"""Does a model keep the records of a batch apart, and is all of its gradient heard? Asked of the model as it runs.

A layer that compares records would let one record move the gradients of others, past any clipping; and a weight that
is used where nobody listens would silently not learn. Some layers are known for it; of all others it is asked at the
first update, the tenth, the hundredth and so on, since a gate that starts at 0 hides what is behind it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from assay import seeds
from assay.errors import IncompatibleRecipeError
from assay.privacy.bookkeeping import Share

_MIXING = (nn.modules.batchnorm._BatchNorm, nn.SyncBatchNorm)
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

    Raises:
        IncompatibleRecipeError: it does.
    """
    modes = {layer: layer.training for layer in model.modules()}
    model.eval()
    try:
        together, again = model(x.clone()), model(x.clone())
        if not isinstance(together, Tensor) or len(together) != len(x) or not torch.equal(together, again):
            return  # of an answer by chance nothing can be said
        tolerance = 0.05 if together.dtype in (torch.float16, torch.bfloat16) else 1e-3
        most = tolerance * together.abs().max().clamp_min(1e-6)
        for draw in range(_HALVES):
            rows = torch.from_numpy(half(len(x), update, draw)).to(x.device)
            if bool((together[rows] - model(x[rows])).abs().max() > most):
                raise IncompatibleRecipeError(
                    f"the model's answer to one record depends on other records: {_KEEP_APART}"
                )
    finally:
        for layer, training in modes.items():
            layer.training = training


def refuse_mixed_losses(losses: Tensor, heard: Sequence[tuple[str, GradientEdge]], update: int) -> None:
    """Refuse losses that depend on what a layer said of other records; the graph stays.

    Raises:
        IncompatibleRecipeError: names the layer at which it was seen.
    """
    n = len(losses)
    chosen = torch.from_numpy(half(n, update)).to(losses.device)
    edges = [edge for _, edge in heard]
    backs = torch.autograd.grad(losses[chosen].sum(), edges, retain_graph=True, allow_unused=True)
    for (name, _), back in zip(heard, backs, strict=True):
        # NaN is no answer: a record whose own derivative is infinite gives it to a loss that does not depend on it.
        if back is not None and (len(back) % n or bool((back.unflatten(0, (-1, n))[:, ~chosen].abs() > 0).any())):
            raise IncompatibleRecipeError(
                f"the loss of one record depends on other records (seen at layer {name!r}): {_KEEP_APART}, at axis 0"
            )


@torch.no_grad()
def refuse_unheard(
    names: Mapping[Tensor, str], found: Mapping[Tensor, Share], expected: Sequence[Tensor | None], *, halves: bool
) -> None:
    """Refuse a model in which what was heard is not the gradient.

    Args:
        names: of each parameter.
        found: what was heard of it.
        expected: the gradient of the sum of losses, by autograd; None where there is none.
        halves: whether some of it was computed in half precision, which leaves two digits.

    Raises:
        IncompatibleRecipeError: names the parameter.
    """
    lengths = {parameter: share.squared_norms.sqrt() for parameter, share in found.items()}
    whole = max([float(own.sum()) for own in lengths.values()], default=0.0)
    for (parameter, name), gradient in zip(names.items(), expected, strict=True):
        missing = torch.zeros_like(parameter) if gradient is None else gradient.to_dense()
        limit = 1e-6 * whole
        if parameter in found:
            own = lengths[parameter]
            missing = missing - found[parameter].weighted(torch.ones_like(own))
            limit += (0.05 if halves else 1e-4) * float(own.sum())
        if bool(missing.norm() > limit):
            raise IncompatibleRecipeError(
                f"parameter {name!r} is used where per-record gradients cannot hear it: use it only in the forward "
                "pass of the layer that holds it"
            )


def state(model: nn.Module) -> tuple[Any, ...]:
    """Changes when a forward pass writes to a weight or a buffer: how often each was written to."""
    return tuple(one._version for one in (*model.parameters(), *model.buffers()))
