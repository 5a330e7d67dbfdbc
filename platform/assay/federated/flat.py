"""A network whose trainable parameters lie in one vector, so that weights are sent and summed as one array."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn


class FlatNetwork:
    """A network, its trainable parameters as one vector, and its buffers.

    Parameters that all clients share come first in the vector, those of each client alone after them. Only the shared
    part travels.

    Args:
        network: its parameters become views of the vector.
        is_shared: whether a parameter, by its name, is shared; all are by default.
    """

    def __init__(self, network: nn.Module, is_shared: Callable[[str], bool] = lambda name: True) -> None:
        self.network = network
        trainable = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self.names = sorted(trainable, key=lambda name: not is_shared(name))  # stable: the model's order within each
        self.shapes = [tuple(trainable[name].shape) for name in self.names]
        sizes = [trainable[name].numel() for name in self.names]
        self.vector = torch.cat([trainable[name].detach().flatten() for name in self.names])
        """(d,) all trainable parameters; a change of it is a change of the network."""
        self.initial = self.vector.clone()
        """(d,) the parameters before any training."""
        self.initial_buffers = self.buffers()
        self.shared = sum(size for name, size in zip(self.names, sizes, strict=True) if is_shared(name))
        """Number of elements, from the first, that all clients share."""
        self.shared_names = frozenset(filter(is_shared, self.names))
        for name, part, shape in zip(self.names, self.vector.split(sizes), self.shapes, strict=True):
            trainable[name].data = part.view(shape)

    @property
    def shared_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the shared parameters, in the order of the vector."""
        shapes, seen = [], 0
        for shape in self.shapes:
            if seen < self.shared:
                shapes.append(shape)
            seen += int(np.prod(shape, dtype=np.int64))
        return shapes

    def parameters(self) -> list[Tensor]:
        """Returns copies of the trainable parameters, in the order of the network.

        Returns:
            One tensor a parameter, of its shape.
        """
        return [p.detach().clone() for p in self.network.parameters() if p.requires_grad]

    def buffers(self) -> dict[str, Tensor]:
        """Returns copies of the network's buffers.

        Returns:
            Tensors by name, such as the statistics of batch norm.
        """
        return {name: buffer.detach().clone() for name, buffer in self.network.named_buffers()}

    def load(self, weights: Tensor, buffers: Mapping[str, Tensor]) -> None:
        """Sets the first parameters and some buffers.

        Args:
            weights: (k,) with k at most the length of the vector: the shared part, or all.
            buffers: by name; all others stay.
        """
        with torch.no_grad():
            self.vector[: len(weights)].copy_(weights)
            own = dict(self.network.named_buffers())
            for name, buffer in buffers.items():
                own[name].copy_(buffer)
