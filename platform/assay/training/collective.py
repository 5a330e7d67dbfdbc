"""The workers that train one model together. Most trainings have one worker."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from assay.privacy.precision import at_least_float32


class Collective(Protocol):
    """What data-parallel training needs: the number of this worker, and sums over all workers."""

    rank: int
    size: int

    def sum(self, tensors: list[Tensor]) -> list[Tensor]:
        """Returns each tensor summed over all workers. Every worker calls it at every step, with or without records.

        Args:
            tensors: of this worker; of the same shapes and types on all workers.

        Returns:
            The sums, in the same order. Sums of float16 and bfloat16 are float32, so that they are not rounded.
        """
        ...

    def start(self, flat: Tensor) -> Callable[[], None]:
        """Starts to sum a tensor over all workers, in place. All workers start the same sums in the same order.

        Args:
            flat: of this worker, float32 or float64; of the same shape and type on all workers. Neither read nor
                changed until the sum is there.

        Returns:
            A function that waits for the sum.
        """
        ...

    def agree(self, seed: int) -> int:
        """Returns the first worker's seed, for draws that must be equal on all workers.

        Args:
            seed: this worker's, of 128 bits.

        Returns:
            The seed of the worker with rank 0.
        """
        ...


class Alone:
    """A single worker."""

    rank = 0
    size = 1

    def sum(self, tensors: list[Tensor]) -> list[Tensor]:
        return tensors

    def start(self, flat: Tensor) -> Callable[[], None]:
        return lambda: None

    def agree(self, seed: int) -> int:
        return seed


class Distributed:
    """All workers of the default ``torch.distributed`` group, over gloo or NCCL.

    Private gradients are summed explicitly, in one flat message for each type, without DDP's hooks; plain ones while
    they are computed, see ``overlap``. Either way a worker with fewer records, or none, cannot block the others, and
    all workers take the same step.

    Args:
        device: on which messages are built: a CPU for gloo, a GPU for NCCL.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.rank = torch.distributed.get_rank()
        self.size = torch.distributed.get_world_size()

    def sum(self, tensors: list[Tensor]) -> list[Tensor]:
        tensors = [at_least_float32(tensor) for tensor in tensors]
        sums: dict[int, Tensor] = {}
        # One message for each type, so that no type is widened; tensors have the same order on all workers.
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            places = [place for place, tensor in enumerate(tensors) if tensor.dtype == dtype]
            flat = torch.cat([tensors[place].reshape(-1) for place in places])
            torch.distributed.all_reduce(flat)
            parts = flat.split([tensors[place].numel() for place in places])
            sums |= {place: part.view_as(tensors[place]) for place, part in zip(places, parts, strict=True)}
        return [sums[place] for place in range(len(tensors))]

    def start(self, flat: Tensor) -> Callable[[], None]:
        work = torch.distributed.all_reduce(flat, async_op=True)

        def wait() -> None:
            work.wait()

        return wait

    def agree(self, seed: int) -> int:
        shared = seed if self.rank == 0 else 0
        digits = torch.tensor(list(shared.to_bytes(16, "big")), dtype=torch.int64, device=self._device)
        torch.distributed.all_reduce(digits)
        return int.from_bytes(bytes(digits.tolist()), "big")
