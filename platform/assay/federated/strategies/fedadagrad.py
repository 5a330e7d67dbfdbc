"""FedAdagrad (Reddi et al. 2021, arXiv:2003.00295)."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from assay.federated.strategies.adaptive import Adaptive
from assay.registry import register


@register("strategy")
class FedAdagrad(Adaptive):
    """Adagrad at the server: v ← v + Δ², from τ²."""

    name: Literal["fedadagrad"] = "fedadagrad"
    beta_1: float = Field(default=0.0, ge=0, lt=1)
    """β₁, the decay of m; the paper uses 0 here."""

    def variance(self, before: Tensor, squared: Tensor) -> Tensor:
        return before + squared
