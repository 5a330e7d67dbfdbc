"""FedYogi (Reddi et al. 2021, arXiv:2003.00295)."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from assay.federated.strategies.adaptive import Adaptive
from assay.registry import register


@register("strategy")
class FedYogi(Adaptive):
    """Yogi at the server: v ← v - (1 - β₂) Δ² sign(v - Δ²), from τ²."""

    name: Literal["fedyogi"] = "fedyogi"
    learning_rate: float = Field(default=0.01, gt=0)
    """η of the server."""
    beta_2: float = Field(default=0.99, ge=0, lt=1)
    """β₂, how slowly v changes."""

    def variance(self, before: Tensor, squared: Tensor) -> Tensor:
        return before - (1 - self.beta_2) * squared * (before - squared).sign()
