"""What becomes of buffers, such as the statistics of batch norm, when clients' networks are joined."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from assay.errors import IncompatibleRecipeError

BufferRule = Literal["pooled", "local", "refused"]

LARGEST_MOMENT = 2.0**20
"""Greatest absolute mean, or mean square, of a batch-norm layer that can be pooled."""


class BatchNormMoments:
    """Pools the running means and variances of batch norm over clients.

    The average of variances is not the variance of all records: clients whose features are -1 and +1 throughout have
    variance 0 each and 1 together. So means and mean squares are averaged, weighted by records, and the variance is
    the difference. Counters of batches take the greatest value of all clients: they count and are never averaged.

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
        return 2 * sum(self._sizes)

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

    def vector(self, buffers: Mapping[str, Tensor]) -> Tensor:
        """Returns means and mean squares of all layers.

        Args:
            buffers: of a client's network.

        Returns:
            (size,) float64.
        """
        means = [buffers[f"{name}.running_mean"].double() for name in self._layers]
        variances = [buffers[f"{name}.running_var"].double() for name in self._layers]
        return torch.cat([*means, *(var + mean**2 for var, mean in zip(variances, means, strict=True))])

    def counters(self, buffers: Mapping[str, Tensor]) -> list[int]:
        """Returns the number of batches that each layer has seen.

        Args:
            buffers: of a client's network.

        Returns:
            One count a layer.
        """
        return [int(buffers[f"{name}.num_batches_tracked"]) for name in self._layers]

    def joined(self, mean: Tensor, counters: list[int], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns the statistics of all clients together.

        Args:
            mean: (size,) weighted mean of the clients' vectors.
            counters: greatest counter of each layer.
            like: buffers whose types the result has.

        Returns:
            The buffers of the layers by name.
        """
        means, squares = mean.split(self.size // 2)
        joined: dict[str, Tensor] = {}
        for name, first, second, count in zip(
            self._layers, means.split(self._sizes), squares.split(self._sizes), counters, strict=True
        ):
            joined[f"{name}.running_mean"] = first.to(like[f"{name}.running_mean"])
            joined[f"{name}.running_var"] = (second - first**2).clamp(min=0).to(like[f"{name}.running_var"])
            joined[f"{name}.num_batches_tracked"] = torch.full_like(like[f"{name}.num_batches_tracked"], count)
        return joined


_KEYS = ("running_mean", "running_var", "num_batches_tracked")


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
