"""The layer at which concepts are measured: one that everything passes, with a curved network behind it.

Behind a layer from which the answer is linear, all records have the same gradient, and every direction has a score of 0
or 1. Past a layer that only a part of the network passes, a concept may reach the answer unseen.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from assay.explain.base import ExplanationError
from assay.explain.scalars import log_odds
from assay.explain.untouched import untouched
from assay.models.recurrent import differentiable

_NARROWEST = 4
"""Channels below which a layer has no room for directions."""
_SAME = 1e-4
"""Greatest relative difference between gradients of two records that count as equal."""


@dataclass(frozen=True, kw_only=True)
class ConceptLayer:
    """A layer, and how its output is read."""

    name: str
    channels: int | None
    """The axis of its channels, over whose places activations are averaged; None where it has no places."""
    curved: bool
    """Whether the network behind it bends, so that records have different gradients."""


def layer_for_concepts(model: nn.Module, x: Tensor, target: Tensor, *, wanted: str | None = None) -> ConceptLayer:
    """Returns the layer nearest to the answer that everything passes and behind which the network bends.

    Where none has a curved network behind it, it is the last one that everything passes.

    Args:
        model: from records to logits, with a gradient.
        x: (n, ...) some records, two or more.
        target: (n,) class that is explained.
        wanted: name of the layer, where the user chose one.

    Returns:
        The layer.

    Raises:
        ExplanationError: no layer is suitable, or the wanted one is not.
    """
    seen = _seen(model, x, target)
    if wanted is not None:
        if wanted not in seen:
            raise ExplanationError(
                f"layer {wanted!r} is not suitable: it must run once, have one row a record and {_NARROWEST} channels "
                f"or more, and everything must pass it; suitable are {', '.join(seen) or 'none'}"
            )
        return seen[wanted]
    if not seen:
        raise ExplanationError(
            "no layer of this network is suitable: none runs once for a record, has "
            f"{_NARROWEST} channels or more, and is passed by everything"
        )
    curved = [layer for layer in seen.values() if layer.curved]
    return (curved or list(seen.values()))[-1]


def _seen(model: nn.Module, x: Tensor, target: Tensor) -> dict[str, ConceptLayer]:
    """Returns the suitable layers in the order in which they run."""
    found: dict[str, ConceptLayer] = {}
    with untouched(model), differentiable(model), torch.enable_grad():
        for name in _order(model, x):
            layer = dict(model.named_modules())[name]
            kept = _Cut(len(x))
            point = x.detach().clone().requires_grad_(True)
            hook = layer.register_forward_hook(kept.cut)
            try:
                answer = log_odds(model(point), target).sum()
            finally:
                hook.remove()
            if kept.output is None or not answer.requires_grad:
                continue
            inside, outside = torch.autograd.grad(answer, [kept.output, point], allow_unused=True)
            if inside is None or (outside is not None and bool((outside != 0).any())):
                continue
            channels = _channel_axis(model, kept.output)
            gradient = by_channel(inside, channels, mean=False)
            if gradient.shape[1] >= _NARROWEST:
                found[name] = ConceptLayer(name=name, channels=channels, curved=_differ(gradient))
    return found


def _order(model: nn.Module, x: Tensor) -> list[str]:
    """Returns the layers that run once, in the order in which they end; a layer with others ends after them."""
    runs: dict[str, int] = {}

    def counted(name: str) -> Callable[..., None]:
        def count(*_: object) -> None:
            runs[name] = runs.get(name, 0) + 1

        return count

    hooks = [layer.register_forward_hook(counted(name)) for name, layer in model.named_modules() if name]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return [name for name, times in runs.items() if times == 1]


class _Cut:
    """The output of a layer, cut off from what is before it.

    Args:
        rows: number of records.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self.output: Tensor | None = None

    def cut(self, _: nn.Module, __: object, out: object) -> Tensor | None:
        if not isinstance(out, Tensor) or out.dim() < 2 or len(out) != self._rows or not out.is_floating_point():
            return None
        self.output = out.detach().requires_grad_(True)
        return self.output.clone()


def _channel_axis(model: nn.Module, output: Tensor) -> int | None:
    """Returns the axis of channels: the second of convolutions, the last of sequences of states or words."""
    if output.dim() == 2:
        return None
    convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return 1 if output.dim() > 3 or any(isinstance(layer, convolutions) for layer in model.modules()) else 2


def by_channel(values: Tensor, channels: int | None, *, mean: bool) -> Tensor:
    """Returns one value a channel: of activations the mean over places, of gradients the sum.

    Moving all places of a channel by 1 changes the answer by the sum of its gradients. Places where all channels are 0,
    such as padding, do not count in a mean.

    Args:
        values: (n, ...) at the output of a layer.
        channels: axis of the channels; None for all entries as they are.
        mean: whether the mean over places is wanted.

    Returns:
        (n, d).
    """
    if channels is None:
        return values.flatten(1)
    each = values.movedim(channels, -1).flatten(1, -2)
    if not mean:
        return each.sum(1)
    here = (each != 0).any(-1, keepdim=True)
    return each.sum(1) / here.sum(1).clamp_min(1)


def _differ(gradient: Tensor) -> bool:
    size = gradient.abs().amax().clamp_min(torch.finfo(gradient.dtype).tiny)
    # The sign of the target turns the gradient of two classes round; that is no bend.
    turned = torch.minimum((gradient - gradient[:1]).abs().amax(1), (gradient + gradient[:1]).abs().amax(1))
    return bool((turned / size > _SAME).any())
