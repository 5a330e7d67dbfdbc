"""The update: how the gradients of a batch become the gradient of a step. The protocol, and the plain one."""

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
    """How batches are drawn and gradients become a step, plain or private. Steps are numbered from 0."""

    @property
    def notes(self) -> Sequence[str]:
        """Sentences that users of the model should read."""
        ...

    def batch(self, step: int) -> np.ndarray:
        """Returns the positions of the records of a step, the same on every worker.

        Args:
            step: number of the step, from 0.

        Returns:
            (n,) positions; a private update may draw none.
        """
        ...

    def crafting(self) -> AbstractContextManager[None]:
        """Returns a context without per-record gradients, for running the model outside the loss."""
        ...

    def gradients(self, losses: Tensor) -> list[Tensor]:
        """Returns the sum of the gradients of this worker's records, clipped where the update is private.

        Args:
            losses: (n,) of records, or patients, with their graph.

        Returns:
            One tensor a parameter, of its shape.
        """
        ...

    def finish(self, total: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        """Returns the gradient that the optimizer uses.

        Args:
            total: sum of the gradients over all workers, one tensor a parameter.
            batch: positions of the records of all workers.
            step: number of the step, from 0.

        Returns:
            One tensor a parameter, of its shape.
        """
        ...

    def mechanism(self, steps: int) -> Mechanism | None:
        """Returns the mechanism for the privacy accountants; None if training is not private.

        Args:
            steps: number of updates so far.

        Returns:
            The mechanism after so many steps.
        """
        ...

    def close(self) -> None:
        """Removes everything that the update has registered on the model."""
        ...


class PlainUpdate:
    """Mean gradient of shuffled batches; each record is used once an epoch.

    Args:
        model: the network.
        records: number of training records.
        batch_size: records in a batch; the last one of an epoch may be smaller.
        seed: of the order of the records.
    """

    notes: Sequence[str] = ()

    def __init__(self, model: nn.Module, *, records: int, batch_size: int, seed: int) -> None:
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._records = records
        self._batch_size = batch_size
        self._seed = seed
        self._epoch, self._order = -1, np.arange(0)

    def batch(self, step: int) -> np.ndarray:
        epoch, place = divmod(step, steps_per_epoch(self._records, self._batch_size))
        if epoch != self._epoch:  # drawn once an epoch
            self._epoch, self._order = epoch, seeds.stream(self._seed, "order", epoch).permutation(self._records)
        return self._order[place * self._batch_size : (place + 1) * self._batch_size]

    def crafting(self) -> AbstractContextManager[None]:
        return nullcontext()

    def gradients(self, losses: Tensor) -> list[Tensor]:
        # A parameter that the loss does not depend on has the gradient 0.
        return list(torch.autograd.grad(losses.sum(), self._parameters, materialize_grads=True))

    def finish(self, total: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        return [gradient.div_(len(batch)) for gradient in total]  # in place: the sum is not used again

    def mechanism(self, steps: int) -> None:
        return None

    def close(self) -> None:
        pass


def learning_rate_at(training: Training, step: int, steps: int) -> float:
    """Returns the learning rate of one step.

    Args:
        training: the initial rate, and its schedule.
        step: number of the step, from 0.
        steps: total number of steps.

    Returns:
        The learning rate.
    """
    if training.schedule == "constant":
        return training.learning_rate
    return training.learning_rate * 0.5 * (1 + float(np.cos(np.pi * step / steps)))
