"""How gradients become an update: what the loop asks for, and the plain answer."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from assay import seeds
from assay.privacy.accounting import Mechanism
from assay.privacy.plan import steps_per_epoch
from assay.recipes import Training


class Update(Protocol):
    """The choices that make an update plain or private. Steps are numbered from 0."""

    @property
    def notes(self) -> Sequence[str]:
        """What whoever uses the model should know of it, a sentence each."""
        ...

    def batch(self, step: int) -> np.ndarray:
        """Positions of the records of this step, the same on every worker."""
        ...

    def crafting(self) -> AbstractContextManager[None]:
        """Around everything that runs the model outside the loss."""
        ...

    def gradients(self, losses: Tensor) -> list[Tensor]:
        """Sum of the (perhaps clipped) gradients of this worker's records, one tensor a parameter."""
        ...

    def finish(self, total: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        """The gradient to descend, from the sum over all workers."""
        ...

    def mechanism(self, steps: int) -> Mechanism | None:
        """What the privacy accountants must know after ``steps`` updates; None if nothing is private."""
        ...

    def close(self) -> None: ...


class PlainUpdate:
    """Shuffled batches, each record once an epoch; the mean gradient."""

    notes: Sequence[str] = ()

    def __init__(self, model: nn.Module, *, records: int, batch_size: int, seed: int) -> None:
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._records = records
        self._batch_size = batch_size
        self._seed = seed

    def batch(self, step: int) -> np.ndarray:
        epoch, place = divmod(step, steps_per_epoch(self._records, self._batch_size))
        order = seeds.stream(self._seed, "order", epoch).permutation(self._records)
        return order[place * self._batch_size : (place + 1) * self._batch_size]

    def crafting(self) -> AbstractContextManager[None]:
        return nullcontext()

    def gradients(self, losses: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(losses.sum(), self._parameters))

    def finish(self, total: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        return [gradient / len(batch) for gradient in total]

    def mechanism(self, steps: int) -> None:
        return None

    def close(self) -> None:
        pass


def learning_rate_at(training: Training, step: int, steps: int) -> float:
    """Returns the learning rate of one step.

    Args:
        training: the rate to begin with, and its schedule.
        step: number of the step, from 0.
        steps: how many there are.
    """
    if training.schedule == "constant":
        return training.learning_rate
    return training.learning_rate * 0.5 * (1 + float(np.cos(np.pi * step / steps)))
