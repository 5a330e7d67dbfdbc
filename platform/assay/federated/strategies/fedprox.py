"""FedProx (Li et al. 2020, arXiv:1812.06127)."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from assay.federated.strategies.fedavg import Averaging
from assay.registry import register
from assay.training.hooks.proximal_term import ProximalTerm
from assay.training.hooks.round_hook import RoundHook


@register("strategy")
class FedProx(Averaging):
    """Federated averaging; a client's loss also has μ/2 times the *squared* distance from the weights it was sent."""

    name: Literal["fedprox"] = "fedprox"
    paper: ClassVar[str] = "Li et al. 2020, arXiv:1812.06127"
    proximal_mu: float = Field(default=0.1, ge=0)
    """μ; 0 is federated averaging."""

    def hooks(self) -> Sequence[RoundHook]:
        return (ProximalTerm(self.proximal_mu),)
