"""Label-flipping attack."""

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from assay.data.poisoning.drawing import drawn
from assay.data.treatment import TrainingRecords, Treatment, Workbench
from assay.errors import DataError
from assay.registry import register


@register("treatment")
class LabelFlips(Treatment):
    """Gives a random fraction of the records another label (Biggio et al. 2011).

    After another attack it draws only records that are unchanged: a second flip of one record could restore its true
    label.
    """

    attacks: ClassVar[bool] = True
    name: Literal["label_flips"] = "label_flips"
    share: float = Field(default=0.2, gt=0, lt=1)
    """Fraction of the training records that is flipped."""

    @property
    def per_record(self) -> bool:
        # An exact fraction of all records is drawn: another record changes which others are flipped.
        return False

    def apply(self, records: TrainingRecords, bench: Workbench) -> TrainingRecords:
        if bench.classes < 2:
            message = "label_flips: there is 1 class, and a flip needs another label; leave label_flips out"
            raise DataError(message, setting="data", given=self.name, allowed=2)
        untouched, among = np.flatnonzero(~records.tampered), "that no attack has changed"
        chosen = drawn(self.name, self.share, untouched, len(records.y), among=among, generator=bench.generator)
        y, tampered = records.y.copy(), records.tampered.copy()
        y[chosen] = (y[chosen] + bench.generator.integers(1, bench.classes, size=len(chosen))) % bench.classes
        tampered[chosen] = True
        return replace(records, y=y, tampered=tampered)
