"""Workers of one training that are threads of this process, as a ``Collective``."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from assay.training.loop import Trainer


class Group:
    """Workers that are threads of this process."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.barrier = threading.Barrier(size, timeout=20)
        self.given: list[list[Tensor]] = [[] for _ in range(size)]
        self.seeds = [0] * size


class Member:
    """One of a group, as a ``Collective``."""

    def __init__(self, group: Group, rank: int) -> None:
        self._group, self.rank, self.size = group, rank, group.size

    def sum(self, tensors: list[Tensor]) -> list[Tensor]:
        self._group.given[self.rank] = tensors
        self._group.barrier.wait()
        total = [torch.stack(each).sum(0) for each in zip(*self._group.given, strict=True)]
        self._group.barrier.wait()
        return total

    def start(self, flat: Tensor) -> Callable[[], None]:
        flat.copy_(self.sum([flat])[0])
        return lambda: None

    def agree(self, seed: int) -> int:
        self._group.seeds[self.rank] = seed
        self._group.barrier.wait()
        agreed = self._group.seeds[0]
        self._group.barrier.wait()
        return agreed


def together(size: int, make: Callable[[Member], Trainer]) -> list[Trainer]:
    """Every worker's trainer, after all have trained."""
    group = Group(size)

    def work(rank: int) -> Trainer:
        trainer = make(Member(group, rank))
        trainer.run()
        return trainer

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(work, range(size)))


def apart(one: Trainer, other: Trainer) -> float:
    """Greatest difference of any weight."""
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


def in_threads(size: int, go: Callable[[int], Any]) -> list[Any]:
    """What each worker of a group returns, by rank."""
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(go, range(size)))
