"""FedAdam (Reddi et al. 2021, arXiv:2003.00295)."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from assay.federated.strategies.adaptive import Adaptive
from assay.registry import register


@register("strategy")
class FedAdam(Adaptive):
    """Adam at the server: v ← β₂ v + (1 - β₂) Δ², from 0, with bias correction.

    m and v are divided by 1 - β₁ᵗ and 1 - β₂ᵗ before use, where t is the number of rounds that *they* have seen (Kingma
    & Ba 2015, arXiv:1412.6980). So the first round moves every parameter by η Δ / (|Δ| + τ), and a resumed training
    continues t.
    """

    name: Literal["fedadam"] = "fedadam"
    beta_2: float = Field(default=0.99, ge=0, lt=1)
    """β₂, the decay of v."""

    @property
    def initial_variance(self) -> float:
        return 0.0

    def variance(self, before: Tensor, squared: Tensor) -> Tensor:
        return self.beta_2 * before + (1 - self.beta_2) * squared

    def corrections(self, rounds: int) -> tuple[float, float]:
        return 1 - self.beta_1**rounds, 1 - self.beta_2**rounds
