"""Labels that are wrong."""

from dataclasses import replace
from typing import Literal

from pydantic import Field

from assay.data.treatment import Records, Treatment, Workbench
from assay.registry import register


@register("treatment")
class LabelFlips(Treatment):
    """Gives a share of the records, drawn without regard to what they hold, another label (Biggio et al. 2011)."""

    name: Literal["label_flips"] = "label_flips"
    share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the training records that is flipped."""

    @property
    def per_record(self) -> bool:
        # An exact share is drawn among all records: one more of them changes which others are flipped.
        return False

    def apply(self, records: Records, bench: Workbench) -> Records:
        chosen = bench.generator.permutation(len(records.y))[: round(self.share * len(records.y))]
        y, tampered = records.y.copy(), records.tampered.copy()
        y[chosen] = (y[chosen] + bench.generator.integers(1, bench.classes, size=len(chosen))) % bench.classes
        tampered[chosen] = True
        return replace(records, y=y, tampered=tampered)
