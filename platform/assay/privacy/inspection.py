"""Is all of a model's gradient recorded, each record's by itself? Asked of the model as it trains.

A layer that compares records would let one record move the gradients of others, past any clipping; and a weight that
is used where nothing records it would silently not learn. Some layers are known for it; of all others it is asked at
the first update, the second, the tenth, the hundredth and so on, and at the last.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from assay import seeds
from assay.errors import IncompatibleRecipeError
from assay.privacy.bookkeeping import Share
from assay.privacy.precision import HALVES, at_least_float32
from assay.privacy.separation import KEEP_APART

_MIXING = (nn.modules.batchnorm._BatchNorm, nn.SyncBatchNorm)


def is_due(update: int) -> bool:
    """Whether to ask at this update, the first being 1."""
    return update == 2 or update == 10 ** round(math.log10(update))


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


def refuse_mixed_losses(losses: Tensor, recorded: Sequence[tuple[str, GradientEdge]], update: int) -> None:
    """Refuse losses that depend on what a layer said of other records; the graph stays.

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
    """Whether the losses of some records say anything of other rows, or of their own otherwise than all losses do."""
    if back is None or whole is None:
        return False
    if len(back) % len(chosen):
        return True
    rows, all_rows = (one.unflatten(0, (-1, len(chosen))) for one in (back, whole))
    # NaN is no answer: a record whose own derivative is infinite gives it to a loss that does not depend on it.
    if bool((rows[:, ~chosen].abs() > 0).any()):
        return True
    own, beside = at_least_float32(rows[:, chosen]), at_least_float32(all_rows[:, chosen])
    known = own.isfinite() & beside.isfinite()
    if not bool(known.any()):
        return False
    tolerance = 0.05 if back.dtype in HALVES else 1e-4
    return float((own - beside)[known].abs().max()) > tolerance * float(own[known].abs().max())


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
    lengths = {parameter: share.norms for parameter, share in found.items()}

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
