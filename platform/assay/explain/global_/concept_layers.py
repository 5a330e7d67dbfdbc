"""The layer at which concepts are measured, and what passes there.

It is one that everything passes, with a curved network behind it.

Behind a layer from which the answer is linear, all records have the same gradient, and every direction has a score of 0
or 1. Past a layer that only a part of the network passes, a concept may reach the answer unseen.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from assay.explain.base import ExplanationError
from assay.explain.scalars import Scalar, log_odds
from assay.explain.untouched import untouched
from assay.models.batches import places
from assay.models.recurrent import differentiable
from assay.registry import unknown_name

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


def activations_at(model: nn.Module, layer: str, x: Tensor, *, channels: int | None = None) -> np.ndarray:
    """Returns the output of a layer for each record.

    Args:
        model: from records to logits.
        layer: its name.
        x: (n, ...) records.
        channels: axis of the channels, over whose places the mean is taken; None for all entries.

    Returns:
        (n, d) float64.
    """
    with untouched(model), torch.no_grad():
        found = []
        for place in places(len(x), tuple(x.shape[1:])):
            with _Output(model, layer, len(x[place])) as output:
                model(x[place])
            found.append(by_channel(output.tensor, channels, mean=True).double().cpu())
    return torch.cat(found).numpy()


def gradients_at(
    model: nn.Module, layer: str, x: Tensor, target: Tensor, scalar: Scalar, *, channels: int | None = None
) -> np.ndarray:
    """Returns the gradient of the scalar of each record by the output of a layer.

    Args:
        model: from records to logits.
        layer: its name.
        x: (n, ...) records.
        target: (n,) class that is explained.
        scalar: that is explained.
        channels: axis of the channels, over whose places gradients are added up; None for all entries.

    Returns:
        (n, d) float64.
    """
    with untouched(model), differentiable(model), torch.enable_grad():
        found = []
        for place in places(len(x), tuple(x.shape[1:])):
            with _Output(model, layer, len(x[place])) as output:
                answers = scalar(model(x[place]), target[place])
            (gradient,) = torch.autograd.grad(answers.sum(), output.tensor, allow_unused=True)
            known = torch.zeros_like(output.tensor) if gradient is None else gradient
            found.append(by_channel(known, channels, mean=False).double().cpu())
    return torch.cat(found).numpy()


class _Output:
    """The output of a layer within the block, as a tensor of its own that gradients can be taken by.

    Args:
        model: that runs once within the block.
        layer: name.
        rows: number of records.
    """

    tensor: Tensor

    def __init__(self, model: nn.Module, layer: str, rows: int) -> None:
        layers = dict(model.named_modules())
        if layer not in layers:
            raise unknown_name("layer", layer, [name for name in layers if name])
        self._layer, self._name, self._rows, self._runs = layers[layer], layer, rows, 0

    def __enter__(self) -> "_Output":
        self._hook = self._layer.register_forward_hook(self._see)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._hook.remove()
        if kind is None and self._runs != 1:
            raise ExplanationError(
                f"the layer {self._name} runs {self._runs} times for a record: choose one that runs once"
            )

    def _see(self, _: nn.Module, __: object, out: object) -> Tensor:
        if not isinstance(out, Tensor) or out.dim() < 2 or len(out) != self._rows:
            raise ExplanationError(f"the output of the layer {self._name} is no tensor with one row a record")
        self._runs += 1
        self.tensor = out.detach().requires_grad_(torch.is_grad_enabled())
        # What follows may change it in place.
        return self.tensor.clone()
