"""Time of a training, and records a second of its steps, by the number of workers that took them."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch


@dataclass(kw_only=True)
class Speed:
    """What some workers did together in steps that were timed: all steps of a run but its first one."""

    steps: int = 0
    records: int = 0
    """Over all workers."""
    seconds: float = 0.0


class Pace:
    """Clock of a training. Checkpoints and reports do not count; the first step of a run does not count for its speed.

    The first step builds kernels, fills caches and starts whatever reads records, so it says nothing of those to come.

    Args:
        workers: number of workers that share every batch.
        device: of the training; a GPU has finished its steps when they are timed.
    """

    def __init__(self, workers: int, device: torch.device) -> None:
        self.seconds = 0.0
        """Wall time of training."""
        self.worker_seconds = 0.0
        """The same, summed over workers."""
        self.speeds: dict[int, Speed] = {}
        """By number of workers."""
        self._workers, self._device = workers, device
        self._is_first = True
        self._since = self._timed_since = 0.0
        self._steps = self._records = 0

    def begin(self) -> None:
        """Begins a run, whose first step is left out of the speed."""
        self._is_first = True

    def start(self) -> None:
        """Starts the clock."""
        self._since = self._timed_since = time.perf_counter()

    def step(self, records: int) -> None:
        """Counts a step.

        Args:
            records: of its batch, over all workers.
        """
        if self._is_first:
            self._is_first = False
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            self._timed_since = time.perf_counter()
            return
        self._steps, self._records = self._steps + 1, self._records + records

    def lap(self) -> None:
        """Ends a row of steps, all of which have finished on the device; what follows is no step."""
        if self._steps:
            speed = self.speeds.setdefault(self._workers, Speed())
            speed.steps += self._steps
            speed.records += self._records
            speed.seconds += time.perf_counter() - self._timed_since
        self._steps = self._records = 0

    def stop(self) -> None:
        """Stops the clock."""
        passed = time.perf_counter() - self._since
        self.seconds += passed
        self.worker_seconds += passed * self._workers

    def state(self) -> dict[str, Any]:
        """Returns times and speeds so far, JSON-able."""
        speeds = {str(workers): asdict(speed) for workers, speed in self.speeds.items()}
        return {"seconds": self.seconds, "worker_seconds": self.worker_seconds, "speeds": speeds}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores what ``state`` returned, perhaps of another number of workers.

        Args:
            state: times and speeds.
        """
        self.seconds, self.worker_seconds = state["seconds"], state["worker_seconds"]
        self.speeds = {int(workers): Speed(**speed) for workers, speed in state["speeds"].items()}
