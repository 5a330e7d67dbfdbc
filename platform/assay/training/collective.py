"""The workers that train one model together. One worker is the ordinary case."""

from typing import Protocol

import torch
from torch import Tensor

from assay.privacy.precision import at_least_float32


class Collective(Protocol):
    """What data-parallel training needs: who am I, and the sum over everyone."""

    rank: int
    size: int

    def sum(self, tensors: list[Tensor]) -> list[Tensor]:
        """Each tensor summed over all workers. Called by every worker at every step, with or without records.

        Halves come back in float32: a sum over workers must not be rounded to them.
        """
        ...

    def agree(self, seed: int) -> int:
        """The first worker's 128-bit seed, for draws that all must share."""
        ...


class Alone:
    """One worker."""

    rank = 0
    size = 1

    def sum(self, tensors: list[Tensor]) -> list[Tensor]:
        return tensors

    def agree(self, seed: int) -> int:
        return seed


class Distributed:
    """All workers of the default ``torch.distributed`` group, over gloo or NCCL.

    Gradients are summed explicitly in one flat message, without hooks: an empty or shorter share cannot hang the
    others, clipped private gradients take the same path, and every worker takes the very same step.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.rank = torch.distributed.get_rank()
        self.size = torch.distributed.get_world_size()

    def sum(self, tensors: list[Tensor]) -> list[Tensor]:
        tensors = [at_least_float32(tensor) for tensor in tensors]
        found: dict[int, Tensor] = {}
        # One message a type, in the order of the tensors, which is alike on all workers: none is widened by another.
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            own = [place for place, tensor in enumerate(tensors) if tensor.dtype == dtype]
            flat = torch.cat([tensors[place].reshape(-1) for place in own])
            torch.distributed.all_reduce(flat)
            parts = flat.split([tensors[place].numel() for place in own])
            found |= {place: part.view_as(tensors[place]) for place, part in zip(own, parts, strict=True)}
        return [found[place] for place in range(len(tensors))]

    def agree(self, seed: int) -> int:
        own = seed if self.rank == 0 else 0
        digits = torch.tensor(list(own.to_bytes(16, "big")), dtype=torch.int64, device=self._device)
        torch.distributed.all_reduce(digits)
        return int.from_bytes(bytes(digits.tolist()), "big")
