"""Checks during training that all of a model's gradient is recorded, and separately for each record.

A layer that compares records would let one record change the gradients of others, which clipping does not bound. A
weight that is used where nothing records it would silently not learn. Some layers are known to do this. All others are
tested at the first update, the second, the tenth, the hundredth and so on, and at the last.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from assay import seeds
from assay.errors import IncompatibleRecipeError
from assay.privacy.precision import HALVES, SumsInFloat64, at_least_float32
from assay.privacy.separation import KEEP_APART
from assay.privacy.shares import Share

_MIXING = (nn.modules.batchnorm._BatchNorm, nn.SyncBatchNorm)


def is_due(update: int) -> bool:
    """Returns whether the model is tested at an update.

    Args:
        update: its number, from 1.

    Returns:
        True at 1, 2, 10, 100 and so on.
    """
    return update == 2 or update == 10 ** round(math.log10(update))


def refuse_kinds(model: nn.Module) -> None:
    """Raises if a model has a layer that is known to mix records, or to store figures of them without noise.

    Args:
        model: the network.

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
    """Returns a random half of the records.

    Args:
        n: number of records.
        draw: numbers that select the random draw.

    Returns:
        (n,) bool, with n // 2 true entries.
    """
    chosen = np.zeros(n, dtype=bool)
    chosen[seeds.stream(0, "which half", *draw).permutation(n)[: n // 2]] = True
    return chosen


def refuse_mixed_losses(losses: Tensor, recorded: Sequence[tuple[str, GradientEdge]], update: int) -> None:
    """Raises if the loss of one record depends on what a layer computed from other records; the graph is kept.

    Args:
        losses: (n,) one loss a record, with its graph.
        recorded: name and gradient edge of each layer's output.
        update: number of the update, which selects the records that are tested.

    Raises:
        IncompatibleRecipeError: names the layer at which it was seen.
    """
    n = len(losses)
    chosen = torch.from_numpy(half(n, update)).to(losses.device)
    recorded = list(recorded)
    edges = [edge for _, edge in recorded]

    def back(rows: Tensor) -> Sequence[Tensor | None]:
        return torch.autograd.grad(losses[rows].sum(), edges, retain_graph=True, allow_unused=True)

    for (name, _), one, other, whole in zip(
        recorded, back(chosen), back(~chosen), back(torch.ones_like(chosen)), strict=True
    ):
        if _is_mixed(one, chosen, whole) or _is_mixed(other, ~chosen, whole):
            raise IncompatibleRecipeError(
                f"the loss of one record depends on other records (seen at layer {name!r}): {KEEP_APART}, at axis 0",
                setting=name,
            )


def _is_mixed(back: Tensor | None, chosen: Tensor, whole: Tensor | None) -> bool:
    """Returns whether the losses of some records have gradients at the rows of other records."""
    if back is None or whole is None:
        return False
    if len(back) % len(chosen):
        return True
    rows, all_rows = (one.unflatten(0, (-1, len(chosen))) for one in (back, whole))
    # NaN is ignored: an infinite derivative of a record causes it even where a loss does not depend on the record.
    if bool((rows[:, ~chosen].abs() > 0).any()):
        return True
    gradients, expected_gradients = at_least_float32(rows[:, chosen]), at_least_float32(all_rows[:, chosen])
    finite = gradients.isfinite() & expected_gradients.isfinite()
    if not bool(finite.any()):
        return False
    tolerance = 0.05 if back.dtype in HALVES else 1e-4
    return float((gradients - expected_gradients)[finite].abs().max()) > tolerance * float(
        gradients[finite].abs().max()
    )


class Expected(NamedTuple):
    """Autograd's own gradient of some records, for comparison."""

    records: Tensor
    """(n,) bool: the records."""
    gradients: tuple[Tensor | None, ...]
    """Gradient of the sum of their losses, one a parameter; None where there is none."""


def expected(losses: Tensor, parameters: Sequence[Tensor], update: int) -> list[Expected]:
    """Returns autograd's gradients of both halves of the records, or of the only record; the graph is kept.

    Args:
        losses: (n,) one loss a record, with its graph.
        parameters: trainable ones.
        update: number of the update, which selects the halves.

    Returns:
        One entry for each half.
    """
    chosen = torch.from_numpy(half(len(losses), update)).to(losses.device)
    return [
        Expected(records, torch.autograd.grad(losses[records].sum(), parameters, retain_graph=True, allow_unused=True))
        for records in (chosen, ~chosen)
        if len(losses) > 1 or bool(records.any())
    ]


def refuse_unrecorded(
    names: Mapping[Tensor, str],
    found: Mapping[Tensor, Share],
    halves: Sequence[Expected],
    again: Callable[[Sequence[Tensor]], Sequence[Expected]],
    *,
    rough: bool,
) -> None:
    """Raises if what was recorded is not the gradient of the model.

    Both halves of the records must show a difference. So a single record in which autograd's sum is lost to rounding
    does not end training. Nor does the rounding of all records: parameters that seem to differ are compared once more,
    with all sums in float64.

    Args:
        names: of each parameter.
        found: recorded share of each parameter.
        halves: autograd's gradients.
        again: returns autograd's gradients once more, of the given parameters alone.
        rough: whether some of it was computed in float16 or bfloat16, which leaves two digits.

    Raises:
        IncompatibleRecipeError: names the parameter.
    """
    tolerance = 0.05 if rough else 1e-4
    suspected = _unrecorded(list(names), found, halves, tolerance)
    if suspected:
        with SumsInFloat64():
            suspected = _unrecorded(suspected, found, again(suspected), tolerance)
    if suspected:
        raise IncompatibleRecipeError(
            f"parameter {names[suspected[0]]!r} is used where per-record gradients cannot record it: use it only in "
            "the forward pass of the layer that holds it"
        )


@torch.no_grad()
def _unrecorded(
    parameters: Sequence[Tensor], found: Mapping[Tensor, Share], halves: Sequence[Expected], tolerance: float
) -> list[Tensor]:
    """Returns the parameters whose recorded gradient differs from autograd's in both halves of the records."""
    lengths = {parameter: share.norms for parameter, share in found.items()}

    def differs(parameter: Tensor, gradient: Tensor | None, records: Tensor) -> bool:
        missing = torch.zeros_like(parameter) if gradient is None else gradient.to_dense()
        limit = 1e-6 * max([float(norms[records].sum()) for norms in lengths.values()], default=0.0)
        if parameter in found:
            norms = lengths[parameter]
            missing = missing - found[parameter].weighted(torch.ones_like(norms), records)
            limit += tolerance * float(norms[records].sum())
        return bool(missing.norm() > limit)

    return [
        parameter
        for place, parameter in enumerate(parameters)
        if all(differs(parameter, of.gradients[place], of.records) for of in halves)
    ]
