"""Weights and the optimizer's memory, as they are at one moment: tensors by name."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def snapshot(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Copies of all that a step of training changes."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {
        f"optimizer.{index}.{key}": value
        for index, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def put_back(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Bring both to the moment of a snapshot; settings of the optimizer stay."""
    model.load_state_dict(weights_of(tensors))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in under("optimizer", tensors).items():
        index, key = name.split(".")
        # The optimizer would go on with this very tensor, and the snapshot must stay what it is.
        moments.setdefault(int(index), {})[key] = tensor.clone()
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})


def weights_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The model's part of a snapshot."""
    return under("model", tensors)


def under(owner: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with ``owner`` and a dot, without that."""
    return {name.removeprefix(f"{owner}."): t for name, t in tensors.items() if name.startswith(f"{owner}.")}
