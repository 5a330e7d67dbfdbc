"""Krum (Blanchard et al. 2017, arXiv:1703.02757)."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from assay.federated.strategies.base import Cohort, Strategy
from assay.federated.strategies.distances import krum_scores, squared_distances
from assay.registry import register


@register("strategy")
class Krum(Strategy):
    """The change is the one update whose n - f - 2 nearest others are nearest; needs n ≥ 2f + 3 clients.

    Of equal scores, the client with the lower number wins.
    """

    name: Literal["krum"] = "krum"
    paper: ClassVar[str] = "Blanchard et al. 2017, arXiv:1703.02757"
    needs_single_updates: ClassVar[bool] = True
    malicious: int = Field(ge=0)
    """f, the number of clients of a round that may be malicious."""

    @property
    def least_clients(self) -> int:
        return 2 * self.malicious + 3

    def combine(self, updates: Tensor, cohort: Cohort) -> Tensor:
        self._refuse_few(updates, cohort)
        scores = krum_scores(squared_distances(updates), neighbours=len(updates) - self.malicious - 2)
        return updates[int(scores.argsort(stable=True)[0])].clone()
