"""The layer at which concepts are measured, and what passes there.

It is one that everything passes, whose output is one vector a record, and behind which the architecture bends.

Behind a layer from which the answer is linear, all records have the same gradient, and every direction has a score of 0
or 1. Past a layer that only a part of the network passes, a concept may reach the answer unseen. Where the output has
places (a map of a convolution, the states of a sequence), a mean over them forgets where the concept lies: the network
may ignore that very place.

These are properties of the architecture: they are found with random weights and random records, so that all recipes of
one architecture are measured at the same layer.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from assay.explain.base import ExplanationError
from assay.explain.scalars import Scalar, log_odds
from assay.explain.untouched import untouched
from assay.models.batches import places
from assay.models.recurrent import differentiable
from assay.registry import unknown_name

_NARROWEST = 4
"""Channels below which a layer has no room for directions."""
_TRIED = 32
"""Random records by which the architecture is tried."""
_SAME = 1e-4
"""Greatest relative difference between gradients of two records that count as equal."""


@dataclass(frozen=True, kw_only=True)
class ConceptLayer:
    """A layer, and how its output is read."""

    name: str
    curved: bool
    """Whether the architecture bends behind it, so that records have different gradients."""


def layer_for_concepts(model: nn.Module, x: Tensor, target: Tensor, *, wanted: str | None = None) -> ConceptLayer:
    """Returns the layer nearest to the answer that everything passes, that has no places, and behind which it bends.

    Trained weights have no influence.

    Args:
        model: from records to logits, with a gradient.
        x: (n, ...) a record or more.
        target: (n,) class that is explained.
        wanted: name of the layer, where the user chose one; what is behind it may be linear.

    Returns:
        The layer.

    Raises:
        ExplanationError: no layer is suitable, or the wanted one is not.
    """
    seen, with_places = _seen(model, x, target)
    if wanted is not None:
        if wanted in with_places:
            raise ExplanationError(
                f"layer {wanted!r} is not suitable: its output has places, and a mean over them forgets where a "
                f"concept lies; give a layer behind pooling or flattening: {', '.join(seen) or 'this network has none'}"
            )
        if wanted not in seen:
            raise ExplanationError(
                f"layer {wanted!r} is not suitable: it must run once, have one row a record and {_NARROWEST} channels "
                f"or more, and everything must pass it; suitable are {', '.join(seen) or 'none'}"
            )
        return seen[wanted]
    curved = [layer for layer in seen.values() if layer.curved]
    if curved:
        return curved[-1]
    raise ExplanationError(_why_none(list(seen), with_places))


def _why_none(linear: list[str], with_places: list[str]) -> str:
    """Returns why no layer is suitable.

    Args:
        linear: layers without places, from which the answer is linear.
        with_places: layers whose output has places.
    """
    if linear:
        return (
            f"no layer of this network is suitable: from the layers with one vector a record ({', '.join(linear)}) the "
            "answer is linear, so that every direction has a score of 0 or 1"
            + (
                ", and in front of them outputs have places, whose mean forgets where a concept lies"
                * bool(with_places)
            )
            + f"; to measure there all the same, set layer: {linear[-1]}"
        )
    if with_places:
        return (
            "no layer of this network is suitable: the outputs of all that everything passes have places "
            f"({', '.join(with_places)}), whose mean forgets where a concept lies, and none has one vector a record"
        )
    return (
        "no layer of this network is suitable: none runs once for a record, has "
        f"{_NARROWEST} channels or more, and is passed by everything"
    )


def _seen(model: nn.Module, x: Tensor, target: Tensor) -> tuple[dict[str, ConceptLayer], list[str]]:
    """Returns the suitable layers in the order in which they run, and those that would be but for their places."""
    found: dict[str, ConceptLayer] = {}
    with_places: list[str] = []
    points, classes = _random_records(x), target[:1].expand(_TRIED)
    with untouched(model), differentiable(model), torch.enable_grad():
        weights = _random_weights(model)
        for name in _order(model, x):
            layer = dict(model.named_modules())[name]
            kept = _Cut(_TRIED)
            point = points.clone().requires_grad_(True)
            hook = layer.register_forward_hook(kept.cut)
            try:
                answer = log_odds(functional_call(model, weights, (point,)), classes).sum()
            finally:
                hook.remove()
            if kept.output is None or not answer.requires_grad:
                continue
            inside, outside = torch.autograd.grad(answer, [kept.output, point], allow_unused=True)
            if inside is None or (outside is not None and bool((outside != 0).any())):
                continue
            if any(side > 1 for side in inside.shape[2:]):
                with_places.append(name)
            elif inside.shape[1] >= _NARROWEST:
                found[name] = ConceptLayer(name=name, curved=_differ(inside.flatten(1)))
    return found, with_places


def _random_records(x: Tensor) -> Tensor:
    """Returns records of many sizes and means, in the shape of the given ones, always the same."""
    draw = torch.Generator().manual_seed(0)
    per_record = (_TRIED, *[1] * (x.dim() - 1))
    size = 10 ** (2 * torch.rand(per_record, generator=draw) - 1)
    middle = torch.randn(per_record, generator=draw)
    return (size * (torch.randn((_TRIED, *x.shape[1:]), generator=draw) + middle)).to(x)


def _random_weights(model: nn.Module) -> dict[str, Tensor]:
    """Returns weights that keep the size of activations, and statistics of normalisation that change nothing."""
    draw = torch.Generator().manual_seed(0)
    found: dict[str, Tensor] = {}
    if isinstance(model, torch.jit.ScriptModule):
        return found  # its weights cannot be replaced for a call: the trained ones stay
    for name, weight in model.named_parameters():
        if not weight.is_floating_point():
            continue
        drawn = torch.randn(weight.shape, generator=draw)
        if weight.dim() > 1:
            drawn *= weight[0].numel() ** -0.5
        elif name.endswith("weight"):
            drawn = 1 + 0.1 * drawn
        found[name] = drawn.to(weight)
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            found[name] = torch.full_like(buffer, float(name.endswith("running_var")))
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


def _differ(gradient: Tensor) -> bool:
    size = gradient.abs().amax().clamp_min(torch.finfo(gradient.dtype).tiny)
    # The sign of the target turns the gradient of two classes round; that is no bend.
    turned = torch.minimum((gradient - gradient[:1]).abs().amax(1), (gradient + gradient[:1]).abs().amax(1))
    return bool((turned / size > _SAME).any())


def activations_at(model: nn.Module, layer: str, x: Tensor) -> np.ndarray:
    """Returns the output of a layer for each record.

    Args:
        model: from records to logits.
        layer: its name.
        x: (n, ...) records.

    Returns:
        (n, d) float64, of all entries of the output.
    """
    with untouched(model), torch.no_grad():
        found = []
        for place in places(len(x), tuple(x.shape[1:])):
            with _Output(model, layer, len(x[place])) as output:
                model(x[place])
            found.append(output.tensor.flatten(1).double().cpu())
    return torch.cat(found).numpy()


def gradients_at(model: nn.Module, layer: str, x: Tensor, target: Tensor, scalar: Scalar) -> np.ndarray:
    """Returns the gradient of the scalar of each record by the output of a layer.

    Args:
        model: from records to logits.
        layer: its name.
        x: (n, ...) records.
        target: (n,) class that is explained.
        scalar: that is explained.

    Returns:
        (n, d) float64, by all entries of the output.
    """
    with untouched(model), differentiable(model), torch.enable_grad():
        found = []
        for place in places(len(x), tuple(x.shape[1:])):
            with _Output(model, layer, len(x[place])) as output:
                answers = scalar(model(x[place]), target[place])
            (gradient,) = torch.autograd.grad(answers.sum(), output.tensor, allow_unused=True)
            known = torch.zeros_like(output.tensor) if gradient is None else gradient
            found.append(known.flatten(1).double().cpu())
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
