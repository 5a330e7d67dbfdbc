"""Federated averaging with server momentum (Hsu et al. 2019, arXiv:1909.06335)."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from assay.federated.strategies.base import Cohort, ServerState
from assay.federated.strategies.fedavg import Averaging
from assay.registry import register


@register("strategy")
class FedAvgM(Averaging):
    """The average of the updates enters a momentum v ← β v + Δ, and the weights move by η v."""

    name: Literal["fedavgm"] = "fedavgm"
    paper: ClassVar[str] = "Hsu et al. 2019, arXiv:1909.06335"
    learning_rate: float = Field(default=1.0, gt=0)
    """η of the server."""
    server_momentum: float = Field(default=0.9, ge=0, lt=1)
    """β; 0 is federated averaging."""

    def server(self) -> ServerState:
        return MomentumStep(self.learning_rate, self.server_momentum)


class MomentumStep(ServerState):
    """The server's momentum.

    Args:
        learning_rate: η.
        momentum: β.
    """

    def __init__(self, learning_rate: float, momentum: float) -> None:
        self._learning_rate, self._momentum = learning_rate, momentum
        self._velocity: Tensor | None = None

    def step(self, weights: Tensor, change: Tensor, cohort: Cohort) -> Tensor:
        self._velocity = change.clone() if self._velocity is None else self._momentum * self._velocity + change
        return weights + self._learning_rate * self._velocity

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {} if self._velocity is None else {"velocity": self._velocity}, {}

    def restore(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        self._velocity = tensors.get("velocity")
