"""The coordinate-wise median (Yin et al. 2018, arXiv:1803.01498)."""

from typing import ClassVar, Literal

from torch import Tensor

from assay.federated.strategies.base import Cohort, Strategy
from assay.registry import register


@register("strategy")
class FedMedian(Strategy):
    """Each parameter changes by the median of the updates; all clients count the same.

    Fewer than half of the clients cannot move it beyond the others. Of one or two clients it is the mean, which resists
    nobody, so at least three are needed.
    """

    name: Literal["fedmedian"] = "fedmedian"
    paper: ClassVar[str] = "Yin et al. 2018, arXiv:1803.01498"
    needs_single_updates: ClassVar[bool] = True

    @property
    def least_clients(self) -> int:
        return 3

    def combine(self, updates: Tensor, cohort: Cohort) -> Tensor:
        self._refuse_few(updates, cohort)
        return median(updates)


def median(rows: Tensor) -> Tensor:
    """Returns the median of each column; the mean of the middle two of an even number of rows.

    Args:
        rows: (m, d).

    Returns:
        (d,)
    """
    middle = rows.sort(dim=0).values[(len(rows) - 1) // 2 : len(rows) // 2 + 1]
    return middle.mean(dim=0)
