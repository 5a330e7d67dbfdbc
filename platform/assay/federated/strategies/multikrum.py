"""Multi-Krum (Blanchard et al. 2017, arXiv:1703.02757)."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from assay.errors import IncompatibleRecipeError
from assay.federated.strategies.base import Cohort, Strategy
from assay.federated.strategies.distances import krum_scores, squared_distances
from assay.recipes import Recipe
from assay.registry import register


@register("strategy")
class MultiKrum(Strategy):
    """The change is the plain mean of the m updates with the best scores of Krum; needs n ≥ 2f + 3 clients.

    m = 1 is Krum. More than n - f - 2 would let in updates that the proof does not cover (Damaskinos et al. 2019).
    """

    name: Literal["multikrum"] = "multikrum"
    paper: ClassVar[str] = "Blanchard et al. 2017, arXiv:1703.02757"
    needs_single_updates: ClassVar[bool] = True
    malicious: int = Field(ge=0)
    """f, the number of clients of a round that may be malicious."""
    selected: int | None = Field(default=None, ge=1)
    """m, the number of updates that are averaged; by default n - f - 2."""

    @property
    def least_clients(self) -> int:
        return max(2 * self.malicious + 3, (self.selected or 1) + self.malicious + 2)

    def refuse(self, clients_in_round: int, recipe: Recipe) -> None:
        if self.selected is not None and 2 * self.malicious + 3 <= clients_in_round < self.least_clients:
            most = clients_in_round - self.malicious - 2
            raise IncompatibleRecipeError(
                f"strategy multikrum selects {self.selected} updates, and of {clients_in_round} clients with "
                f"{self.malicious} malicious ones at most n - f - 2 = {most} may be; lower selected",
                setting="federation.strategy.selected",
                given=self.selected,
                allowed=most,
            )
        super().refuse(clients_in_round, recipe)

    def combine(self, updates: Tensor, cohort: Cohort) -> Tensor:
        self._refuse_few(updates, cohort)
        neighbours = len(updates) - self.malicious - 2
        scores = krum_scores(squared_distances(updates), neighbours=neighbours)
        best = scores.argsort(stable=True)[: self.selected or neighbours]
        return updates[best.sort().values].mean(dim=0)
