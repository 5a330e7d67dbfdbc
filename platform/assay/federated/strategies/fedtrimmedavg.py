"""The coordinate-wise trimmed mean (Yin et al. 2018, arXiv:1803.01498)."""

import math
from fractions import Fraction
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from assay.federated.strategies.base import Cohort, Strategy
from assay.registry import Number, register

_DENOMINATOR = 10**6
"""Greatest denominator of β: 0.29 is 29/100, not the float below it."""


@register("strategy")
class FedTrimmedAvg(Strategy):
    """Each parameter changes by the mean of the updates without the ⌊βn⌋ smallest and the ⌊βn⌋ greatest.

    ⌊βn⌋ is computed with fractions: β = 0.29 of 100 clients is 29. At least one update must be trimmed at either end,
    or one liar would decide; that is checked before training. All clients count the same.
    """

    name: Literal["fedtrimmedavg"] = "fedtrimmedavg"
    paper: ClassVar[str] = "Yin et al. 2018, arXiv:1803.01498"
    needs_single_updates: ClassVar[bool] = True
    beta: Number = Field(default=0.2, gt=0, lt=0.5)
    """β, the fraction that is trimmed at either end; may be written as 1/5."""

    @property
    def least_clients(self) -> int:
        return math.ceil(1 / self._fraction)

    @property
    def _fraction(self) -> Fraction:
        return Fraction(self.beta).limit_denominator(_DENOMINATOR)

    def trimmed(self, clients: int) -> int:
        """Returns how many updates are trimmed at either end.

        Args:
            clients: number of updates.

        Returns:
            ⌊βn⌋.
        """
        return math.floor(self._fraction * clients)

    def combine(self, updates: Tensor, cohort: Cohort) -> Tensor:
        self._refuse_few(updates, cohort)
        cut = self.trimmed(len(updates))
        return updates.sort(dim=0).values[cut : len(updates) - cut].mean(dim=0)
