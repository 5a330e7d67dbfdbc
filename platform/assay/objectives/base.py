"""What an objective promises to the training loop."""

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
    """Some records at one moment of training: all that an objective may look at beside the model."""

    x: Tensor
    """(n, ...) records."""
    y: Tensor
    """(n,) labels."""
    bounds: Bounds
    """Bounds of a valid input."""
    draw: Draw
    """Random numbers of this batch."""
    progress: float = 0.0
    """Share of all steps that are done, 0 at the first."""
    teacher: nn.Module | None = None
    """The network that the stage before this one trained, in evaluation mode."""
    task: Task = CLASSIFICATION
    """What the labels are: gives the loss of each record, and says when an answer is wrong."""
    rollbacks: int = 0
    """How often training has gone back so far, because its examples had become harmless; see ``Watch``."""

    def movable(self, model: nn.Module) -> tuple[Tensor, Bounds]:
        """The records where an attack can move them, (n, ...), and what is valid there: of words, their vectors."""
        vectors = word_vectors(model)
        if vectors is None or self.x.is_floating_point():
            return self.x, self.bounds
        return continuous(model, self.x).detach(), vector_bounds(vectors)

    def threat(self, bounds: Bounds, *, epsilon: float, norm: Norm = "linf") -> Threat:
        """Changes of the records of up to ``epsilon``, made to get wrong answers.

        Args:
            bounds: of valid records, as ``movable`` gives them.
        """
        return Threat(norm=norm, epsilon=epsilon, bounds=bounds, goal=self.task.criterion)

    def moved(self, model: nn.Module, crafted: Tensor) -> Tensor:
        """What was crafted from ``movable``, with the gradient of the vectors that it was crafted from."""
        if self.x.is_floating_point() or not crafted.is_floating_point():
            return crafted
        start = continuous(model, self.x)
        return start + (crafted - start).detach()

    def both(self, model: nn.Module, crafted: Tensor) -> Tensor:
        """(2n, ...) the records and then what was crafted from them, for a loss that needs the answers to both.

        One forward pass of both, where per-record gradients are taken: see ``privacy.clipping``.
        """
        if self.x.is_floating_point() or not crafted.is_floating_point():
            return torch.cat([self.x, crafted])
        start = continuous(model, self.x)
        return torch.cat([start, start + (crafted - start).detach()])


class Watch(Settings):
    """Looks at fixed training records now and then: do the examples still stand for the attack that they replace?

    A network can learn to withstand one large step and nothing else ("catastrophic overfitting", Wong et al. 2020).
    It shows as accuracy under the training's own examples far above that under PGD; training then goes back to the
    last look that was in order, and on with a finer attack (after Li et al. 2020, arXiv:2006.03089).
    """

    every: int = Field(default=1, ge=1)
    """Epochs between looks; the last epoch is always looked at."""
    records: int = Field(default=128, ge=1)
    """Training records that are looked at, as many of each class where there are."""
    steps: int = Field(default=10, ge=1)
    """Steps of PGD."""
    least_share: float = Field(default=0.5, gt=0, lt=1)
    """Share of the balanced accuracy under the training's own examples that must be left under PGD."""


class Objective(Method):
    """Register with ``@register("objective")``; write ``losses``, and ``craft`` if inputs are to be changed first.

    ``craft`` runs outside the per-record machinery of private training. In a private recipe it may look at a
    record and the current weights only: then the example belongs to its record and costs no ε of its own.
    """

    @property
    def per_record(self) -> bool:
        """Whether the loss of a record depends on that record alone, as record-level privacy demands."""
        return True

    @property
    def through_layers(self) -> bool:
        """Whether the loss sees weights through forward passes only, where per-record gradients are taken."""
        return True

    @property
    def teachers(self) -> tuple["Objective", ...]:
        """Objectives that are trained first, each on the same records; the last network is the teacher of this one."""
        return ()

    @property
    def watching(self) -> Watch | None:
        """How training is watched; an objective that says so writes ``verify``, and heeds ``Batch.rollbacks``."""
        return None

    def craft(self, model: nn.Module, batch: Batch) -> Tensor:
        """The inputs to learn from, (n, ...)."""
        return batch.x

    def verify(self, model: nn.Module, batch: Batch) -> Tensor:
        """The records, (n, ...), as the attack leaves them that ``craft`` stands for."""
        raise NotImplementedError

    def losses(self, model: nn.Module, batch: Batch, crafted: Tensor) -> Tensor:
        """One loss a record, (n,)."""
        raise NotImplementedError
