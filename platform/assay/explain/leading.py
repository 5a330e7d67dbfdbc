"""Splits a network into its first linear layers and the rest, where that is certain to change nothing."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from assay.models.front import Normalise

_RESHAPING = (nn.Flatten, nn.Identity, nn.Dropout, Normalise)
"""Cheap layers that are linear, up to a constant, in evaluation mode."""
_LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


Function = Callable[[Tensor], Tensor]


def without_leading_layers(model: nn.Module) -> tuple[Function | None, Function]:
    """Splits a network into its first layers, up to the first linear one, and the rest.

    Only ``nn.Sequential`` says in which order its layers run, and that the record goes nowhere else. Neither a
    subclass of a layer nor a layer with a hook is taken out: either may do something else.

    Args:
        model: in evaluation mode.

    Returns:
        The first layers, a linear function plus a constant, None where there are none; and the rest, which is the
        model itself then.
    """
    if not _is_plain(model, (nn.Sequential,)) or _hooks_of_all():
        return None, model
    layers = list(_in_order(model))
    for place, layer in enumerate(layers):
        if _is_plain(layer, _LINEAR) and len(layers) > place + 1:
            return partial(_through, layers[: place + 1]), partial(_through, layers[place + 1 :])
        if not _is_plain(layer, _RESHAPING) or getattr(layer, "start_dim", 1) != 1:
            break
    return None, model


def _through(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


def _in_order(model: nn.Module) -> Iterator[nn.Module]:
    """Yields the layers of a sequence, those of sequences within it too."""
    # Not ``children``, which leaves out a layer that comes again.
    for layer in model._modules.values():
        assert layer is not None
        if _is_plain(layer, (nn.Sequential,)):
            yield from _in_order(layer)
        else:
            yield layer


def _is_plain(layer: nn.Module, kinds: tuple[type[nn.Module], ...]) -> bool:
    """Whether a layer is exactly of one of these types, and nothing was added to it."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return type(layer) in kinds and not any(hooks) and "forward" not in vars(layer)


def _hooks_of_all() -> bool:
    """Whether there are hooks that run for every layer of this process."""
    names = ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks")
    return any(getattr(torch_module, name, None) for name in names)
