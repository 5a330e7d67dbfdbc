"""What an objective promises to the training loop."""

from dataclasses import dataclass

from torch import Tensor, nn

from assay.models.front import continuous, vector_bounds, word_vectors
from assay.registry import Method
from assay.seeds import Draw
from assay.threats import Bounds


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some records at one moment of training: all that an objective may look at beside the model."""

    x: Tensor
    """(n, ...) records."""
    y: Tensor
    """(n,) labels."""
    bounds: Bounds
    """Of a valid input."""
    draw: Draw
    """Random numbers of this batch."""
    progress: float = 0.0
    """Share of all steps that are done, 0 at the first."""
    teacher: nn.Module | None = None
    """The network that the stage before this one trained, in evaluation mode."""

    def movable(self, model: nn.Module) -> tuple[Tensor, Bounds]:
        """The records where an attack can move them, (n, ...), and what is valid there: of words, their vectors."""
        vectors = word_vectors(model)
        if vectors is None or self.x.is_floating_point():
            return self.x, self.bounds
        return continuous(model, self.x).detach(), vector_bounds(vectors)

    def moved(self, model: nn.Module, crafted: Tensor) -> Tensor:
        """What was crafted from ``movable``, with the gradient of the vectors that it was crafted from."""
        if self.x.is_floating_point() or not crafted.is_floating_point():
            return crafted
        start = continuous(model, self.x)
        return start + (crafted - start).detach()


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

    def craft(self, model: nn.Module, batch: Batch) -> Tensor:
        """The inputs to learn from, (n, ...)."""
        return batch.x

    def losses(self, model: nn.Module, batch: Batch, crafted: Tensor) -> Tensor:
        """One loss a record, (n,)."""
        raise NotImplementedError
