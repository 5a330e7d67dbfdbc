"""q-FedAvg (Li et al. 2020, arXiv:1905.10497)."""

import math
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from assay.errors import FederationError, IncompatibleRecipeError
from assay.federated.strategies.base import Cohort, Contribution, Strategy, Sums
from assay.recipes import Recipe
from assay.registry import register

_LEAST_LOSS = 1e-10
"""Added to every loss, as in the authors' code: a loss of 0 has no power q - 1."""
_LARGEST_WEIGHT = 1e3
"""Greatest F^q: greater losses count as the loss that has it, so that sums have a public bound. A larger one would make
sums of small losses coarse; at q = 5 it is that of a loss of 4."""


@register("strategy")
class QFedAvg(Strategy):
    """Clients with a greater loss count more, so that accuracy differs less between them.

    With L = 1 / (local learning rate), update u and loss F of a client, the weights change by
    L Σ F^q u / Σ (q F^(q-1) L² ‖u‖² + L F^q). At q = 0 this is the plain mean. Clients are not weighted by records.
    Losses are means over a client's first local epoch; the paper's are those of the weights that it was sent.
    """

    name: Literal["qfedavg"] = "qfedavg"
    paper: ClassVar[str] = "Li et al. 2020, arXiv:1905.10497"
    needs_losses: ClassVar[bool] = True
    q: float = Field(default=0.1, ge=0)
    """How strongly losses count; 0 is the plain mean."""
    client_learning_rate: float | None = Field(default=None, gt=0)
    """1/L, the inverse of the Lipschitz constant of the gradients; by default the mean learning rate of the round's
    local steps, as in the paper."""

    def refuse(self, clients_in_round: int, recipe: Recipe) -> None:
        super().refuse(clients_in_round, recipe)
        if recipe.training.optimizer == "adam" and self.client_learning_rate is None:
            raise IncompatibleRecipeError(
                "strategy qfedavg takes 1 / (local learning rate) for the Lipschitz constant of the gradients, and "
                "Adam's learning rate says nothing about it; train with optimizer: sgd, or set client_learning_rate",
                setting="training.optimizer",
                given="adam",
                allowed="sgd",
            )

    def scale(self, contribution: Contribution) -> float:
        return min(self._loss(contribution) ** self.q, _LARGEST_WEIGHT)  # a power of the cap may round above it

    def scale_limit(self, records: int, recipe: Recipe) -> float:
        return _LARGEST_WEIGHT if self.q else 1.0

    def scalars(self, contribution: Contribution, update: Tensor) -> dict[str, float]:
        return {"curvature": self._loss(contribution) ** (self.q - 1) * float(update.double().square().sum())}

    def combine_sum(self, sums: Sums, cohort: Cohort) -> Tensor:
        return sums.changes / (self.q * self._lipschitz(cohort) * sums.scalars["curvature"] + sums.scales)

    def _lipschitz(self, cohort: Cohort) -> float:
        if self.client_learning_rate is not None:
            return 1 / self.client_learning_rate
        rates = sum(contribution.learning_rate_sum for contribution in cohort.contributions)
        if not rates > 0:
            raise FederationError(f"round {cohort.number}: no client took a step, so qfedavg knows no learning rate")
        return sum(contribution.steps for contribution in cohort.contributions) / rates

    def _loss(self, contribution: Contribution) -> float:
        if contribution.loss is None or not contribution.loss >= 0:
            raise FederationError(
                f"client {contribution.client} sends {contribution.loss} for its training loss; qfedavg needs a number "
                "of at least 0 from every client"
            )
        largest = _LARGEST_WEIGHT ** (1 / self.q) if self.q > 0.02 else math.inf  # beyond the range of floats
        return min(contribution.loss + _LEAST_LOSS, largest)
