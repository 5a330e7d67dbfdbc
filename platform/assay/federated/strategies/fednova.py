"""FedNova, normalised averaging (Wang et al. 2020, arXiv:2007.07481)."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from assay.errors import IncompatibleRecipeError
from assay.federated.strategies.base import Cohort, Contribution, PlainStep, ServerState, Strategy, Sums
from assay.recipes import Recipe
from assay.registry import register


@register("strategy")
class FedNova(Strategy):
    """Divides each update by the local progress τ_i that it took, so that clients with more steps do not count more.

    With p_i in proportion to records, the weights change by η (Σ p_i τ_i) Σ p_i u_i / τ_i. τ_i is the weight of all
    gradients in the update: the sum of the steps' learning rates with plain SGD, for any schedule; with momentum ρ and
    a constant rate, that sum times (k - ρ (1 - ρᵏ) / (1 - ρ)) / (k (1 - ρ)) for k steps. Where all τ_i are equal, this
    is federated averaging.
    """

    name: Literal["fednova"] = "fednova"
    paper: ClassVar[str] = "Wang et al. 2020, arXiv:2007.07481"
    learning_rate: float = Field(default=1.0, gt=0)
    """η of the server."""
    momentum: float = Field(default=0.0, ge=0, lt=1)
    """ρ, the momentum of the local SGD, from rest in each round: must equal ``training.momentum``."""

    def refuse(self, clients_in_round: int, recipe: Recipe) -> None:
        super().refuse(clients_in_round, recipe)
        training = recipe.training
        if training.optimizer == "adam":
            raise IncompatibleRecipeError(
                "strategy fednova divides updates by the weight of their gradients, and Adam's steps have none: their "
                "length does not depend on the gradients'; train with optimizer: sgd",
                setting="training.optimizer",
                given="adam",
                allowed="sgd",
            )
        if training.momentum != self.momentum:
            raise IncompatibleRecipeError(
                f"strategy fednova has momentum {self.momentum}, and clients train with momentum {training.momentum}, "
                f"so it would divide by the wrong number; set both to the same",
                setting="federation.strategy.momentum",
                given=self.momentum,
                allowed=training.momentum,
            )
        if training.momentum and recipe.federation is not None and recipe.federation.optimizer_state == "kept":
            raise IncompatibleRecipeError(
                "strategy fednova knows the weight of gradients for a momentum that begins at rest in each round, and "
                "federation.optimizer_state is kept; set it to fresh, or momentum to 0",
                setting="federation.optimizer_state",
                given="kept",
                allowed="fresh",
            )
        if training.momentum and training.schedule != "constant":
            raise IncompatibleRecipeError(
                f"strategy fednova knows the weight of gradients under momentum for a constant learning rate only, and "
                f"training.schedule is {training.schedule}; set it to constant, or momentum to 0",
                setting="training.schedule",
                given=training.schedule,
                allowed="constant",
            )

    def progress(self, contribution: Contribution) -> float:
        """Returns τ_i.

        Args:
            contribution: of the client.

        Returns:
            The weight of all gradients in the update; 0 without a step.
        """
        steps, rho = contribution.steps, self.momentum
        if not rho or not steps:
            return contribution.learning_rate_sum
        return contribution.learning_rate_sum * (steps - rho * (1 - rho**steps) / (1 - rho)) / (steps * (1 - rho))

    def divisor(self, contribution: Contribution) -> float:
        return self.progress(contribution) or 1.0  # without a step there is no update

    def combine_sum(self, sums: Sums, cohort: Cohort) -> Tensor:
        records = sum(contribution.records for contribution in cohort.contributions)
        if not records:
            return super().combine_sum(sums, cohort)
        progress = sum(contribution.records * self.progress(contribution) for contribution in cohort.contributions)
        return sums.changes * (progress / records**2)

    def server(self) -> ServerState:
        return PlainStep(self.learning_rate)
