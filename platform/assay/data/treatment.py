"""What happens to the training records before anything is learnt: poisoning, sanitation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assay import seeds
from assay.errors import DataError
from assay.registry import Method


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
    """Register with ``@register("treatment")`` and write ``apply``."""

    @property
    def per_record(self) -> bool:
        """Whether what becomes of a record depends on that record alone, as record-level privacy demands."""
        return True

    def apply(self, records: Records, *, classes: int, generator: np.random.Generator) -> Records:
        """The records as this treatment leaves them."""
        raise NotImplementedError


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
