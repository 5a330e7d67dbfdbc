"""Is a network surprised by a record's label?"""

from typing import ClassVar, Literal

import torch
from pydantic import Field

from assay.data.sanitation.ranking import without_greatest
from assay.data.treatment import TrainingRecords, Treatment, Workbench
from assay.registry import register


@register("treatment")
class LossSanitation(Treatment):
    """Drops the records of each class that a network, trained on all of them, fits worst.

    The loss defence of Koh, Steinhardt & Liang (2018, arXiv:1811.00741). Hard honest records are dropped too.
    """

    defends: ClassVar[bool] = True
    name: Literal["loss_sanitation"] = "loss_sanitation"
    share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the records of each class that is dropped."""
    epochs: int = Field(default=5, ge=1)
    """Passes of the network that judges. Few: one that has learnt its records by heart is surprised by none."""

    @property
    def per_record(self) -> bool:
        return False

    def apply(self, records: TrainingRecords, bench: Workbench) -> TrainingRecords:
        learnt = bench.fit(records, epochs=self.epochs)
        with torch.no_grad():
            logits = learnt.logits(torch.from_numpy(records.x))
            losses = bench.task.losses(logits, torch.from_numpy(records.y))
        return records.only(without_greatest(losses.numpy(), records.y, self.share))
