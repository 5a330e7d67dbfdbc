"""The layers of a network that is a plain chain, in the order in which they ran, each with its input.

Methods with a rule for each layer need to know that nothing else is computed. So each layer's input must be the output
of the layer before, unchanged but for a new shape: a functional ReLU, an addition or a permutation between two layers
is found and refused.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from assay.explain.base import ExplanationError


@dataclass(frozen=True, kw_only=True)
class Step:
    """A layer of the chain as it ran once."""

    name: str
    """Of the layer within the network."""
    layer: nn.Module
    given: Tensor
    """Its input."""


@dataclass(frozen=True, kw_only=True)
class _Ran:
    """What a hook saw of a layer."""

    name: str
    layer: nn.Module
    given: Any
    given_version: int
    """Changes of the input in place, up to then."""
    out: Any
    out_version: int


@torch.no_grad()
def layer_chain(
    model: nn.Module, x: Tensor, *, known: Collection[type[nn.Module]], method: str
) -> tuple[list[Step], Tensor]:
    """Runs a network and returns its layers and its logits.

    Args:
        model: in evaluation mode.
        x: (n, ...) records.
        known: types of layers that have a rule; derived types are others.
        method: name for messages.

    Returns:
        The layers, in the order in which they ran; a layer that ran twice is there twice; and the logits.

    Raises:
        ExplanationError: a layer has no rule, or something is computed between two layers; the message names them.
    """
    ran, logits = _run(model, x)
    if not ran:
        raise ExplanationError(f"{method} sees no layer of this network: its layers must be modules of PyTorch")
    if bad := next((each for each in ran if type(each.layer) not in known), None):
        raise ExplanationError(f"{method} has no rule for the layer {bad.name}")
    before, version, place = x, x._version, "the record"
    for each in ran:
        if not _is_reshaped(each.given, each.given_version, before, version):
            raise ExplanationError(_between(method, place, each.name))
        before, version, place = each.out, each.out_version, each.name
    if not _is_reshaped(logits, _version(logits), before, version):
        raise ExplanationError(_between(method, place, "the logits"))
    return [Step(name=each.name, layer=each.layer, given=each.given) for each in ran], logits


def _run(model: nn.Module, x: Tensor) -> tuple[list[_Ran], Tensor]:
    """Returns the calls of layers without layers of their own, in order, and the logits."""
    ran: list[_Ran] = []
    names = {layer: name for name, layer in model.named_modules() if not list(layer.children())}

    def see(layer: nn.Module, given: tuple[Any, ...], out: Any) -> None:
        first = given[0] if len(given) == 1 else None
        ran.append(
            _Ran(
                name=f"{names[layer] or 'the network'} ({type(layer).__name__})",
                layer=layer,
                given=first,
                given_version=_version(first),
                out=out,
                out_version=_version(out),
            )
        )

    with _not_in_place(names):
        hooks = [layer.register_forward_hook(see) for layer in names]
        try:
            logits = model(x)
        finally:
            for hook in hooks:
                hook.remove()
    return ran, logits


def _between(method: str, before: str, after: str) -> str:
    return (
        f"{method} cannot follow this network: between {before} and {after} something is computed that is no layer of "
        "its own, such as a functional ReLU, an addition of a shortcut, or a permutation of axes"
    )


def _version(value: Any) -> int:
    return value._version if isinstance(value, Tensor) else -1


def _is_reshaped(value: Any, version: int, before: Tensor, before_version: int) -> bool:
    """Returns whether a tensor holds the entries of the one before, in the same order and unchanged since."""
    if not isinstance(value, Tensor) or version != before_version:
        return False
    same_place = value.data_ptr() == before.data_ptr() and value.numel() == before.numel()
    return value is before or (same_place and value.is_contiguous() and before.is_contiguous())


@contextmanager
def _not_in_place(layers: Collection[nn.Module]) -> Iterator[None]:
    """Lets no layer write over its input, which the rules need, within the block."""
    changed = [layer for layer in layers if getattr(layer, "inplace", False)]
    try:
        for layer in changed:
            layer.inplace = False  # type: ignore[assignment]
        yield
    finally:
        for layer in changed:
            layer.inplace = True  # type: ignore[assignment]
