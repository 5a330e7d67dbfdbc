"""What becomes of buffers, such as the statistics of batch norm, when clients' networks are joined."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from assay.errors import IncompatibleRecipeError

BufferRule = Literal["pooled", "local", "refused"]

LARGEST_MOMENT = 2.0**24
"""Greatest absolute mean, or mean square, of a batch-norm layer that can be pooled."""


class BatchNormMoments:
    """Pools the running means and variances of batch norm over clients.

    The average of variances is not the variance of all records: clients whose features are -1 and +1 throughout have
    variance 0 each and 1 together. So means and mean squares are averaged, weighted by records, and the variance is
    the difference.

    A running statistic r after k batches is a r₀ + (1 - a) s, where r₀ is what the client was sent, s the mean
    statistic of its batches, and a = (1 - momentum)ᵏ. Only s is the client's, so s is what is pooled; the server then
    moves its own statistics towards the pooled ones by the clients' mean of a, as one training on all records would.

    Counters of batches take the greatest value of all clients: they count and are never averaged.

    Args:
        network: whose layers of batch norm keep running statistics.
    """

    def __init__(self, network: nn.Module) -> None:
        self._layers = {
            name: module
            for name, module in network.named_modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None
        }
        self._known = {f"{name}.{key}" for name in self._layers for key in _KEYS}
        self._sizes = [layer.num_features for layer in self._layers.values()]

    @property
    def size(self) -> int:
        """Length of the vector of moments; 0 for a network without such layers."""
        return 2 * sum(self._sizes) + len(self._sizes)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers."""
        return tuple(self._layers)

    def refuse_others(self, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
        """Raises if a buffer of another layer has changed in training: no rule says how to join it.

        Args:
            before: buffers that the client was sent.
            after: buffers after its training.

        Raises:
            IncompatibleRecipeError: names the buffer.
        """
        for name, tensor in after.items():
            if name not in self._known and not torch.equal(tensor, before[name]):
                raise IncompatibleRecipeError(
                    f"buffer {name!r} of the network changes in training, and no rule says how to join those of "
                    "several clients; set federation.buffers to local, so that each client keeps its own",
                    setting="federation.buffers",
                    given="pooled",
                    allowed="local",
                )

    def vector(self, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> Tensor:
        """Returns means and mean squares of a client's batches, and how much of what it was sent is left.

        Args:
            before: buffers that the client was sent.
            after: buffers after its training.

        Returns:
            (size,) float64: means of all layers, mean squares of all layers, one share a layer.
        """
        means, squares, shares = [], [], []
        for name, layer in self._layers.items():
            left = _left(layer, before[f"{name}.num_batches_tracked"], after[f"{name}.num_batches_tracked"])
            mean, variance = (
                _of_batches(before[f"{name}.{key}"].double(), after[f"{name}.{key}"].double(), left) for key in _MOMENTS
            )
            means.append(mean)
            squares.append(variance + mean**2)
            shares.append(mean.new_tensor([left]))
        return torch.cat([*means, *squares, *shares])

    def counters(self, buffers: Mapping[str, Tensor]) -> list[int]:
        """Returns the number of batches that each layer has seen.

        Args:
            buffers: of a client's network.

        Returns:
            One count a layer.
        """
        return [int(buffers[f"{name}.num_batches_tracked"]) for name in self._layers]

    def joined(self, mean: Tensor, counters: list[int], before: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns the statistics of all clients together.

        Args:
            mean: (size,) weighted mean of the clients' vectors.
            counters: greatest counter of each layer.
            before: buffers that the clients were sent.

        Returns:
            The buffers of the layers by name.
        """
        whole = sum(self._sizes)
        means, squares, shares = mean.split([whole, whole, len(self._sizes)])
        joined: dict[str, Tensor] = {}
        for name, first, second, left, count in zip(
            self._layers, means.split(self._sizes), squares.split(self._sizes), shares, counters, strict=True
        ):
            pooled = {"running_mean": first, "running_var": (second - first**2).clamp(min=0)}
            for key, values in pooled.items():
                own = before[f"{name}.{key}"]
                joined[f"{name}.{key}"] = (left * own.double() + (1 - left) * values).to(own)
            joined[f"{name}.num_batches_tracked"] = torch.full_like(before[f"{name}.num_batches_tracked"], count)
        return joined


def _left(layer: nn.modules.batchnorm._BatchNorm, before: Tensor, after: Tensor) -> float:
    """Returns the share of what a client was sent in its running statistics: 1 if it has seen no batch."""
    batches = int(after) - int(before)
    if layer.momentum is None:  # the mean of all batches
        return int(before) / int(after) if int(after) else 1.0
    return float((1 - layer.momentum) ** batches)


def _of_batches(before: Tensor, after: Tensor, left: float) -> Tensor:
    """Returns the mean statistic of a client's own batches."""
    return before if left == 1.0 else (after - left * before) / (1 - left)


_MOMENTS = ("running_mean", "running_var")
_KEYS = (*_MOMENTS, "num_batches_tracked")


def refuse_buffers(network: nn.Module) -> None:
    """Raises if a network has layers of batch norm that keep running statistics.

    Args:
        network: of a federation whose ``buffers`` are ``refused``.

    Raises:
        IncompatibleRecipeError: names a layer.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            raise IncompatibleRecipeError(
                f"layer {name!r} ({type(module).__name__}) keeps statistics of the records of each client, and "
                "federation.buffers is refused; pool them, keep them local, or normalise each record by itself "
                "(norm: group)",
                setting="federation.buffers",
                given="refused",
                allowed=("pooled", "local"),
            )


def refuse_single_records(network: nn.Module, parts: Sequence[np.ndarray], batch_size: int) -> None:
    """Raises if a client's last batch of an epoch has one record, of which batch norm has no variance.

    Args:
        network: of the recipe.
        parts: positions of each client's records.
        batch_size: of the recipe.

    Raises:
        IncompatibleRecipeError: names the client.
    """
    if not BatchNormMoments(network).layers:
        return
    for number, rows in enumerate(parts, start=1):
        if len(rows) % batch_size == 1 or len(rows) == 1:
            raise IncompatibleRecipeError(
                f"client {number} has {len(rows)} records, so that batches of {batch_size} leave one alone, and batch "
                "norm has no variance of one record; choose another training.batch_size, or norm: group",
                setting="training.batch_size",
                given=batch_size,
            )


def refuse_local_statistics(network: nn.Module) -> None:
    """Raises if each client is to keep its statistics of batch norm and no client has a model of its own.

    Args:
        network: of the recipe.

    Raises:
        IncompatibleRecipeError: names a layer.
    """
    layers = BatchNormMoments(network).layers
    if layers:
        raise IncompatibleRecipeError(
            f"federation.buffers is local, and layer {layers[0]!r} then has statistics at the clients alone: the "
            "shared network would be tested with those before training; choose personalisation: fedbn, or buffers: "
            "pooled",
            setting="federation.buffers",
            given="local",
            allowed="pooled",
        )
