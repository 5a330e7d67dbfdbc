"""What the adaptive server optimisers share (Reddi et al. 2021, arXiv:2003.00295, algorithm 2)."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from assay.federated.strategies.base import Cohort, ServerState
from assay.federated.strategies.fedavg import Averaging


class Adaptive(Averaging):
    """Base class: m ← β₁ m + (1 - β₁) Δ, v by a rule of the method, and the weights move by η m / (√v + τ).

    Δ is the average of the updates. The optimiser sees trainable parameters only.
    """

    paper: ClassVar[str] = "Reddi et al. 2021, arXiv:2003.00295"
    learning_rate: float = Field(default=0.1, gt=0)
    """η of the server."""
    tau: float = Field(default=1e-3, ge=0)
    """τ, the degree of adaptivity: the smaller, the more the step size of each parameter is its own."""
    beta_1: float = Field(default=0.9, ge=0, lt=1)
    """β₁, the decay of m."""

    @property
    def initial_variance(self) -> float:
        """v before the first round; τ², as in the paper."""
        return self.tau**2

    @abstractmethod
    def variance(self, before: Tensor, squared: Tensor) -> Tensor:
        """Returns v after a round.

        Args:
            before: (d,) v before the round.
            squared: (d,) Δ².

        Returns:
            (d,) at least 0.
        """

    def corrections(self, rounds: int) -> tuple[float, float]:
        """Returns the divisors of m and v that correct their bias after so many rounds.

        Args:
            rounds: number of rounds so far, this one included.

        Returns:
            Both 1 by default: algorithm 2 of the paper corrects nothing.
        """
        return 1.0, 1.0

    def server(self) -> ServerState:
        return AdaptiveStep(self)


class AdaptiveStep(ServerState):
    """m, v and the number of rounds that they have seen, which a resumed training continues.

    Args:
        settings: of the strategy.
    """

    def __init__(self, settings: Adaptive) -> None:
        self._settings = settings
        self._rounds = 0
        self._mean: Tensor | None = None
        self._variance: Tensor | None = None

    def step(self, weights: Tensor, change: Tensor, cohort: Cohort) -> Tensor:
        settings = self._settings
        mean = torch.zeros_like(change) if self._mean is None else self._mean
        if self._variance is None:
            self._variance = torch.full_like(change, settings.initial_variance)
        self._rounds += 1
        self._mean = settings.beta_1 * mean + (1 - settings.beta_1) * change
        self._variance = settings.variance(self._variance, change.square())
        of_mean, of_variance = settings.corrections(self._rounds)
        divisor = (self._variance / of_variance).sqrt() + settings.tau
        # With τ = 0, a parameter that has never changed has m = v = 0 and stays.
        direction = torch.where(divisor > 0, self._mean / of_mean / divisor, 0.0)
        return weights + settings.learning_rate * direction

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        if self._mean is None or self._variance is None:
            return {}, {"rounds": 0}
        return {"mean": self._mean, "variance": self._variance}, {"rounds": self._rounds}

    def restore(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        self._mean, self._variance = tensors.get("mean"), tensors.get("variance")
        self._rounds = int(about["rounds"])
