"""Layers of a network that certainly do what their type says, in the order in which they run."""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn
from torch.nn.modules import module as torch_module


def is_plain(layer: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Returns whether a layer is exactly of one of these types, and nothing was added to it.

    Args:
        layer: of a network.
        kinds: types; neither their subclasses nor layers with a hook or a ``forward`` of their own count.

    Returns:
        Whether it is.
    """
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return type(layer) in kinds and not any(hooks) and "forward" not in vars(layer)


def layers_in_order(model: nn.Module) -> list[nn.Module] | None:
    """Returns the layers of a sequence, those of sequences within it too.

    Only ``nn.Sequential`` says in which order its layers run, and that the record goes nowhere else.

    Args:
        model: a network.

    Returns:
        The layers; None where the network is no plain sequence, or hooks run for every layer of this process.
    """
    names = ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks")
    if not is_plain(model, nn.Sequential) or any(getattr(torch_module, name, None) for name in names):
        return None
    return list(_in_order(model))


def through(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    """Returns what layers make of records, one after the other.

    Args:
        layers: in their order.
        x: (n, ...) records.

    Returns:
        The output of the last layer.
    """
    for layer in layers:
        x = layer(x)
    return x


def _in_order(model: nn.Module) -> Iterator[nn.Module]:
    # Not ``children``, which leaves out a layer that comes again.
    for layer in model._modules.values():
        assert layer is not None
        if is_plain(layer, nn.Sequential):
            yield from _in_order(layer)
        else:
            yield layer
