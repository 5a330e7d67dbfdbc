"""Splits a network into its first linear layers and the rest, where that is certain to change nothing."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from assay.explain.plain_layers import is_plain, layers_in_order, through
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
    layers = layers_in_order(model) or []
    for place, layer in enumerate(layers):
        if is_plain(layer, *_LINEAR) and layers[place + 1 :]:
            return partial(through, layers[: place + 1]), partial(through, layers[place + 1 :])
        if not is_plain(layer, *_RESHAPING) or getattr(layer, "start_dim", 1) != 1:
            break
    return None, model
