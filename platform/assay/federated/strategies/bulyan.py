"""Bulyan of Krum (El Mhamdi et al. 2018, arXiv:1802.07927)."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from assay.federated.strategies.base import Cohort, Strategy
from assay.federated.strategies.distances import krum_scores, squared_distances
from assay.federated.strategies.fedmedian import median
from assay.registry import register


@register("strategy")
class Bulyan(Strategy):
    """Krum selects θ = n - 2f updates, one after the other; each parameter then changes by a mean around their median.

    The selection is iterated: after each choice Krum scores the remaining updates anew, by their n' - f - 2 nearest
    others among the n' that remain, but at least two: by one alone, two mutual neighbours would always tie, and the
    order of the clients would decide. For each parameter, the mean is over the θ - 2f selected values that
    are nearest to their median. Needs n ≥ 4f + 3 clients.
    """

    name: Literal["bulyan"] = "bulyan"
    paper: ClassVar[str] = "El Mhamdi et al. 2018, arXiv:1802.07927"
    needs_single_updates: ClassVar[bool] = True
    malicious: int = Field(ge=0)
    """f, the number of clients of a round that may be malicious."""

    @property
    def least_clients(self) -> int:
        return 4 * self.malicious + 3

    def combine(self, updates: Tensor, cohort: Cohort) -> Tensor:
        self._refuse_few(updates, cohort)
        selected = updates[self.selection(updates)]
        around = (selected - median(selected)).abs().argsort(dim=0, stable=True)
        return selected.gather(0, around[: len(selected) - 2 * self.malicious]).mean(dim=0)

    def selection(self, updates: Tensor) -> list[int]:
        """Returns the rows that Krum selects, iterated.

        Args:
            updates: (n, d) float64.

        Returns:
            n - 2f rows in ascending order.
        """
        distances = squared_distances(updates)
        remaining = list(range(len(updates)))
        chosen: list[int] = []
        while len(chosen) < len(updates) - 2 * self.malicious:
            rows = torch.tensor(remaining, device=distances.device)
            scores = krum_scores(distances[rows][:, rows], neighbours=max(2, len(remaining) - self.malicious - 2))
            chosen.append(remaining.pop(int(scores.argsort(stable=True)[0])))
        return sorted(chosen)
