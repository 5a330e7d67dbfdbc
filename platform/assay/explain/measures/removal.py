"""ROAD: is the decision kept without the features of the highest values? (Rong et al. 2022, arXiv:2202.00449)"""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from assay.explain.measures.base import ExplanationMeasure, MeasuredMap, MeasuredRecords
from assay.explain.measures.curves import ranked
from assay.explain.measures.replacements.base import Fill, imputing, prepared
from assay.models.batches import respond
from assay.registry import register

_SHARES = tuple(number / 20 for number in range(1, 20))


@register("explanation_measure")
class Road(ExplanationMeasure):
    """Decisions that are kept without the least important features, minus those kept without the most important."""

    name: Literal["road"] = "road"
    title: ClassVar[str] = "ROAD"
    meaning: ClassVar[str] = (
        "Share of removals of the least important features that keep the decision, minus that of the most important "
        "ones; what is removed is imputed with noise. 0 for a map that knows nothing."
    )
    catches: ClassVar[str] = "Features that matter to the decision and are ranked low."
    misses: ClassVar[str] = "All that does not overturn a decision: of a sure one, most of the map."
    better: ClassVar[Literal["higher"]] = "higher"

    @torch.no_grad()
    def score(self, records: MeasuredRecords, explained: MeasuredMap) -> Tensor:
        fill = prepared(records, imputing(records.reference.modality))
        rank = ranked(records, explained.values)
        count = records.count.view(-1, *[1] * (rank.dim() - 1))
        kept = [
            self._kept(records, fill, rank >= count - (share * count).round())
            - self._kept(records, fill, rank < (share * count).round())
            for share in _SHARES
        ]
        return torch.stack(kept).mean(0)

    def _kept(self, records: MeasuredRecords, fill: Fill, removed: Tensor) -> Tensor:
        rows = torch.arange(len(records.x), device=records.x.device)
        answers = respond(records.reader, fill(rows, removed & records.features))
        return (records.decide(answers) == records.target).to(records.x)
