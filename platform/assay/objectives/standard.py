"""Cross-entropy on the records as they are."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from assay.objectives.base import Objective
from assay.registry import register


@register("objective")
class Standard(Objective):
    """Empirical risk minimisation."""

    name: Literal["standard"] = "standard"

    def losses(self, model: nn.Module, x: Tensor, crafted: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(crafted), y, reduction="none")
