"""Values of other records in place of removed features."""

from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from assay.explain.measures.base import MeasuredRecords, Modalities
from assay.explain.measures.replacements.base import Fill, Replacement, donors
from assay.explain.measures.replacements.regression import Regression
from assay.registry import register


@register("replacement")
class Donor(Replacement):
    """All removed features have the values of one other record, drawn for each record."""

    name: Literal["donor"] = "donor"
    title: ClassVar[str] = "another record's values"
    modalities: ClassVar[Modalities] = frozenset({"tabular", "image", "signal"})

    def prepare(self, records: MeasuredRecords) -> Fill:
        others = records.pool[donors(records, "donor")].to(records.x)
        return lambda rows, removed: torch.where(removed, others[rows], records.x[rows])


@register("replacement")
class Marginal(Replacement):
    """Each removed feature has the value of an own other record: its distribution, and no relation between features."""

    name: Literal["marginal"] = "marginal"
    title: ClassVar[str] = "each feature from another record"
    modalities: ClassVar[Modalities] = frozenset({"tabular"})

    def prepare(self, records: MeasuredRecords) -> Fill:
        pool = records.pool.to(records.x).flatten(1)
        width = torch.arange(pool.shape[1], device=pool.device)
        drawn = [generator.integers(len(pool), size=pool.shape[1]) for generator in records.generators("marginal")]
        others = pool[torch.from_numpy(np.stack(drawn)).to(pool.device), width].view_as(records.x)
        return lambda rows, removed: torch.where(removed, others[rows], records.x[rows])


@register("replacement")
class Conditional(Replacement):
    """Removed features have values that fit those that are left: a donor, corrected by linear regression.

    The donor z is moved by the regression of the removed features on the others: z_R + C_RK C_KK⁻¹ (x_K − z_K), with
    the correlations C of the pool. For normal features that is a draw from their distribution given the others
    (Matheron's rule). With ``shrinkage``, C is well-conditioned however few records the pool has.
    """

    name: Literal["conditional"] = "conditional"
    title: ClassVar[str] = "values that fit the remaining ones"
    modalities: ClassVar[Modalities] = frozenset({"tabular"})
    imputes: ClassVar[bool] = True
    shrinkage: float = 0.05
    """Share of the covariance that is that of independent features."""

    def prepare(self, records: MeasuredRecords) -> Fill:
        pool = records.pool.to(records.x).flatten(1)
        middle = pool.mean(0)
        # In standard deviations, so that features of all sizes are solved for alike.
        deviation = pool.std(0, correction=0).clamp_min(1e-6 * pool.abs().amax().clamp_min(1e-30))
        standard = (pool - middle) / deviation
        covariance = (1 - self.shrinkage) * (standard.T @ standard) / len(pool)
        covariance += torch.diag(1 - covariance.diagonal())
        others = standard[donors(records, "conditional")]
        x = (records.x.flatten(1) - middle) / deviation

        regression = Regression(covariance)

        def fill(rows: Tensor, removed: Tensor) -> Tensor:
            concerned, record = rows.unique(return_inverse=True)
            apart = x[concerned] - others[concerned]
            weights = regression.weights(record, ~removed.flatten(1), apart)
            moved = (others[rows] + weights @ covariance) * deviation + middle
            return torch.where(removed.flatten(1), moved, records.x[rows].flatten(1)).view(-1, *records.x.shape[1:])

        return fill
