"""What an objective promises to the training loop."""

from torch import Tensor, nn

from assay.registry import Method
from assay.seeds import Draw
from assay.threats import Bounds


class Objective(Method):
    """Register with ``@register("objective")``; write ``losses``, and ``craft`` if inputs are to be changed first.

    ``craft`` runs outside the per-record machinery of private training. In a private recipe it may look at a
    record and the current weights only: then the example belongs to its record and costs no ε of its own.
    """

    @property
    def per_record(self) -> bool:
        """Whether the loss of a record depends on that record alone, as record-level privacy demands."""
        return True

    def craft(self, model: nn.Module, x: Tensor, y: Tensor, *, bounds: Bounds, draw: Draw) -> Tensor:
        """The inputs to learn from, (n, ...)."""
        return x

    def losses(self, model: nn.Module, x: Tensor, crafted: Tensor, y: Tensor) -> Tensor:
        """One loss a record, (n,)."""
        raise NotImplementedError
