"""Cross-entropy on the unchanged records."""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from assay.objectives.base import Batch, Objective
from assay.registry import register


@register("objective")
class Standard(Objective):
    """Empirical risk minimisation."""

    name: Literal["standard"] = "standard"
    temperature: float = Field(default=1.0, gt=0)
    """Divides the logits during training; above 1 a teacher's probabilities become softer."""

    def losses(self, model: nn.Module, batch: Batch, crafted: Tensor) -> Tensor:
        return batch.task.losses(model(crafted) / self.temperature, batch.y)
