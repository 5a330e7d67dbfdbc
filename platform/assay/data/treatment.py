"""What happens to the training records: poisoning and sanitation before anything is learnt, augmentation while."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from assay import seeds
from assay.errors import DataError
from assay.registry import Method
from assay.seeds import Draw


@dataclass(frozen=True, kw_only=True)
class Records:
    """Training records on their way through treatments."""

    x: np.ndarray
    """(n, ...) float32."""
    y: np.ndarray
    """(n,) int64."""
    tampered: np.ndarray
    """(n,) bool: changed by an attacker. For the evidence alone: no defence may look at it."""


class Treatment(Method):
    """Register with ``@register("treatment")`` and write ``apply``, or ``augment``."""

    @property
    def per_record(self) -> bool:
        """Whether what becomes of a record depends on that record alone, as record-level privacy demands."""
        return True

    def apply(self, records: Records, *, classes: int, generator: np.random.Generator) -> Records:
        """The records as this treatment leaves them, once and before anything is learnt."""
        return records

    def augment(self, x: Tensor, draw: Draw) -> Tensor:
        """Each record of a batch, (n, ...), as training sees it this time; a record must not depend on another."""
        return x

    @property
    def augments(self) -> bool:
        """Whether this changes batches as they are drawn, and leaves the records themselves alone."""
        return type(self).augment is not Treatment.augment


@dataclass(frozen=True, kw_only=True)
class Treated:
    """What is left to learn from, and what happened on the way."""

    x: np.ndarray
    y: np.ndarray
    given: int
    """Records before the first treatment."""
    tampered: int
    """Records that an attacker changed."""
    removed: int
    removed_tampered: int
    """How many of the removed an attacker had changed."""

    @property
    def counts(self) -> dict[str, int]:
        """The numbers alone, JSON-able."""
        return {
            "given": self.given,
            "tampered": self.tampered,
            "removed": self.removed,
            "removed_tampered": self.removed_tampered,
        }


def treat(treatments: Sequence[Treatment], x: np.ndarray, y: np.ndarray, *, classes: int, seed: int) -> Treated:
    """Apply treatments one after the other.

    Raises:
        DataError: no record is left, or only one class is where there were several.
    """
    records = Records(x=x, y=y, tampered=np.zeros(len(y), bool))
    tampered = removed = removed_tampered = 0
    for place, treatment in enumerate(treatments):
        if treatment.augments:
            continue
        generator = seeds.stream(seed, "treatment", place, treatment.name)
        after = treatment.apply(records, classes=classes, generator=generator)
        gone = len(records.y) - len(after.y)
        removed += gone
        if gone:
            removed_tampered += int(records.tampered.sum()) - int(after.tampered.sum())
        else:
            tampered += int(after.tampered.sum()) - int(records.tampered.sum())
        records = after
        if len(np.unique(records.y)) < min(2, len(np.unique(y))):
            raise DataError(
                f"{treatment.name} leaves {len(records.y)} of {len(y)} training records, of "
                f"{len(np.unique(records.y))} class; soften its settings"
            )
    return Treated(
        x=records.x, y=records.y, given=len(y), tampered=tampered, removed=removed, removed_tampered=removed_tampered
    )
