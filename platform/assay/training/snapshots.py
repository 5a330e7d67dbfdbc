"""Snapshots of the weights and the optimizer's state: tensors by name."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def snapshot(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Returns copies of everything that a training step changes.

    Args:
        model: its state dict is copied, as ``model.NAME``.
        optimizer: the tensors of its state are copied, as ``optimizer.INDEX.NAME``.

    Returns:
        The tensors by name.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {
        f"optimizer.{index}.{key}": value
        for index, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def put_back(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restores a model and its optimizer from a snapshot; settings of the optimizer, such as its learning rate, stay.

    Args:
        model: changed in place.
        optimizer: changed in place.
        tensors: what ``snapshot`` returned; left unchanged.
    """
    model.load_state_dict(weights_of(tensors))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in under("optimizer", tensors).items():
        index, key = name.split(".")
        # Cloned, because the optimizer changes its tensors in place and the snapshot must not change.
        moments.setdefault(int(index), {})[key] = tensor.clone()
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})


def weights_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the model's part of a snapshot.

    Args:
        tensors: what ``snapshot`` returned.

    Returns:
        A state dict.
    """
    return under("model", tensors)


def under(owner: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors whose names begin with a prefix and a dot, without this prefix.

    Args:
        owner: the prefix.
        tensors: by name.

    Returns:
        The tensors by the rest of their names.
    """
    return {name.removeprefix(f"{owner}."): t for name, t in tensors.items() if name.startswith(f"{owner}.")}
