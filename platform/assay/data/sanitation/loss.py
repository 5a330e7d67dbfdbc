"""Sanitation by the loss of a record under a trained network."""

from typing import ClassVar, Literal

import torch
from pydantic import Field

from assay.data.sanitation.ranking import without_greatest
from assay.data.treatment import TrainingRecords, Treatment, Workbench
from assay.registry import register


@register("treatment")
class LossSanitation(Treatment):
    """Removes the records of each class with the greatest losses under a network that is trained on all of them.

    The loss defence of Koh, Steinhardt & Liang (2018, arXiv:1811.00741). Difficult clean records are removed too.
    """

    defends: ClassVar[bool] = True
    name: Literal["loss_sanitation"] = "loss_sanitation"
    share: float = Field(default=0.1, gt=0, lt=1)
    """Fraction of the records of each class that is removed."""
    epochs: int = Field(default=5, ge=1)
    """Number of training passes. Keep it small: a network that has memorised its records has a small loss on all of
    them."""

    @property
    def per_record(self) -> bool:
        return False

    def apply(self, records: TrainingRecords, bench: Workbench) -> TrainingRecords:
        learnt = bench.fit(records, epochs=self.epochs)
        with torch.no_grad():
            logits = learnt.logits(torch.from_numpy(records.x))
            losses = bench.task.losses(logits, torch.from_numpy(records.y))
        return records.only(without_greatest(losses.numpy(), records.y, self.share))
