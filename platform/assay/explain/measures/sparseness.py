"""Sparseness of a map: are few features named, or all a little?"""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from assay.explain.measures.base import ExplanationMeasure, MeasuredMap, MeasuredRecords
from assay.registry import register


@register("explanation_measure")
class Sparseness(ExplanationMeasure):
    """Gini index of the absolute values (Chalasani et al. 2020, arXiv:1810.06583)."""

    name: Literal["sparseness"] = "sparseness"
    title: ClassVar[str] = "Sparseness"
    meaning: ClassVar[str] = "Gini index of the absolute values: 0 where all are equal, near 1 where one is not 0."
    catches: ClassVar[str] = "Maps that a reader cannot use, because all features have some value."
    misses: ClassVar[str] = "Whether the map is right: a map that names one wrong feature is as sparse as can be."
    better: ClassVar[Literal["neither"]] = "neither"

    def score(self, records: MeasuredRecords, explained: MeasuredMap) -> Tensor:
        size = (explained.values.abs() * records.features).flatten(1).double()
        known = records.features.flatten(1)
        # Padding comes first in rising order and gets rank 0.
        ordered = size.masked_fill(~known, -1).sort(dim=1).values.clamp_min(0)
        count = records.count.double()
        rank = (torch.arange(size.shape[1], device=size.device) + 1) - (size.shape[1] - count)[:, None]
        total = size.sum(1)
        gini = 2 * (rank.clamp_min(0) * ordered).sum(1) / (count * total.clamp_min(1e-300)) - (count + 1) / count
        return torch.where(total > 0, gini, torch.nan).to(records.x)
