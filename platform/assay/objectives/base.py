"""Base class of objectives: the interface between an objective and the training loop."""

from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn

from assay.models.front import continuous, vector_bounds, word_vectors
from assay.registry import Method, Settings
from assay.seeds import Draw
from assay.tasks.base import Task
from assay.tasks.classification import CLASSIFICATION
from assay.threats import Bounds, Norm, Threat


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Records at one step of training, with everything that an objective may use besides the model."""

    x: Tensor
    """(n, ...) records."""
    y: Tensor
    """(n,) labels."""
    bounds: Bounds
    """Bounds of a valid input."""
    draw: Draw
    """Random numbers of this batch."""
    progress: float = 0.0
    """Fraction of all steps that are done, 0 at the first."""
    teacher: nn.Module | None = None
    """The network that the previous stage trained, in evaluation mode."""
    task: Task = CLASSIFICATION
    """The task: gives the loss of each record, and decides when an answer is wrong."""
    rollbacks: int = 0
    """How often training has been rolled back so far because of overfitting to its own attack; see ``Watch``."""

    def movable(self, model: nn.Module) -> tuple[Tensor, Bounds]:
        """Returns records that an attack can perturb, with their bounds; for text, the word vectors.

        Args:
            model: gives the word vectors.

        Returns:
            (n, ...) floating-point records, and the bounds of valid ones.
        """
        vectors = word_vectors(model)
        if vectors is None or self.x.is_floating_point():
            return self.x, self.bounds
        return continuous(model, self.x).detach(), vector_bounds(vectors)

    def threat(self, bounds: Bounds, *, epsilon: float, norm: Norm = "linf") -> Threat:
        """Returns the threat model of an attack on these records that wants wrong answers.

        Args:
            bounds: of valid records, as ``movable`` returns them.
            epsilon: radius, in the units of the data.
            norm: of the perturbation.

        Returns:
            The threat model.
        """
        return Threat(norm=norm, epsilon=epsilon, bounds=bounds, goal=self.task.criterion)

    def moved(self, model: nn.Module, crafted: Tensor) -> Tensor:
        """Returns perturbed records through which gradients reach the word vectors that they come from.

        Args:
            model: gives the word vectors.
            crafted: (n, ...) records made from ``movable``.

        Returns:
            (n, ...) the same values; other data than text are returned unchanged.
        """
        if self.x.is_floating_point() or not crafted.is_floating_point():
            return crafted
        start = continuous(model, self.x)
        return start + (crafted - start).detach()

    def both(self, model: nn.Module, crafted: Tensor) -> Tensor:
        """Joins the records with their perturbed copies, for a loss that needs the outputs for both.

        One forward pass computes both; per-record gradients are taken there: see ``privacy.clipping``.

        Args:
            model: gives the word vectors.
            crafted: (n, ...) perturbed records.

        Returns:
            (2n, ...) the records, then their perturbed copies.
        """
        if self.x.is_floating_point() or not crafted.is_floating_point():
            return torch.cat([self.x, crafted])
        start = continuous(model, self.x)
        return torch.cat([start, start + (crafted - start).detach()])


class Watch(Settings):
    """Settings of the overfitting guard: it compares the training's own attack with PGD on fixed training records.

    A network can learn to withstand one large step and nothing else ("catastrophic overfitting", Wong et al. 2020).
    Then
    accuracy under the training's own attack is far above that under PGD. Training rolls back to the last good weights
    and
    continues with a finer attack (after Li et al. 2020, arXiv:2006.03089).
    """

    every: int = Field(default=1, ge=1)
    """Epochs between two comparisons; the last epoch is always compared."""
    records: int = Field(default=128, ge=1)
    """Number of training records for the comparison, the same number of each class where possible."""
    steps: int = Field(default=10, ge=1)
    """Steps of PGD."""
    least_share: float = Field(default=0.5, gt=0, lt=1)
    """Least ratio of the balanced accuracy under PGD to that under the training's own attack."""


class Objective(Method):
    """Base class. Register with ``@register("objective")``; write ``losses``, and ``craft`` to change inputs first.

    ``craft`` runs outside the per-record gradients of private training. In a private recipe it may use only a record
    and
    the current weights: the example then belongs to its record and costs no extra ε.
    """

    @property
    def per_record(self) -> bool:
        """Whether the loss of a record depends on that record alone, as DP-SGD requires."""
        return True

    @property
    def through_layers(self) -> bool:
        """Whether the loss uses weights only in forward passes of layers, where per-record gradients are taken."""
        return True

    @property
    def teachers(self) -> tuple["Objective", ...]:
        """Objectives that are trained first on the same records; the last network is the teacher of this one."""
        return ()

    @property
    def watching(self) -> Watch | None:
        """Settings of the overfitting guard, or None; an objective with a guard writes ``verify`` and uses
        ``Batch.rollbacks``.
        """
        return None

    def craft(self, model: nn.Module, batch: Batch) -> Tensor:
        """Returns the inputs to train on.

        Args:
            model: in training mode.
            batch: the records.

        Returns:
            (n, ...) inputs; by default the records themselves.
        """
        return batch.x

    def verify(self, model: nn.Module, batch: Batch) -> Tensor:
        """Returns the records perturbed by PGD, the strong attack that ``craft`` approximates.

        Args:
            model: the network.
            batch: the records.

        Returns:
            (n, ...) perturbed records.
        """
        raise NotImplementedError

    def losses(self, model: nn.Module, batch: Batch, crafted: Tensor) -> Tensor:
        """Returns one loss for each record.

        Args:
            model: in training mode.
            batch: the records.
            crafted: (n, ...) inputs from ``craft``.

        Returns:
            (n,) losses.
        """
        raise NotImplementedError
