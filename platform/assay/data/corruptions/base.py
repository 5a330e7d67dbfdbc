"""What happens to a record between the patient and the model: wear, noise and haste, at five severities.

After Hendrycks & Dietterich 2019 (arXiv:1903.12261). A draw decides what befalls a record, the severity only how much
of it: from the same generator a higher severity changes the same record in the same way, and more.
"""

from itertools import pairwise
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, NonNegativeFloat, field_validator

from assay.data.base import Dataset, Modality
from assay.errors import SpecError
from assay.registry import Method, build, names

SEVERITIES = (1, 2, 3, 4, 5)

_ONE_EACH = Field(min_length=len(SEVERITIES), max_length=len(SEVERITIES))
Decibels = Annotated[tuple[float, ...], _ONE_EACH]
Sizes = Annotated[tuple[NonNegativeFloat, ...], _ONE_EACH]
Factors = Annotated[tuple[Annotated[float, Field(ge=1)], ...], _ONE_EACH]
StrengthShares = Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], ...], _ONE_EACH]
"""What severities 1 to 5 mean, in a corruption's own terms."""


class Corruption(Method):
    """Register with ``@register("corruption")``, set ``modality`` and write ``apply``."""

    modality: ClassVar[Modality]
    """The kind of records that this happens to."""
    strengths: Decibels
    """What severities 1 to 5 mean, in this corruption's own terms; ascending."""

    @field_validator("strengths")
    @classmethod
    def _ascend(cls, strengths: tuple[float, ...]) -> tuple[float, ...]:
        if any(after < before for before, after in pairwise(strengths)):
            raise ValueError(f"a higher severity must not be milder; given: {list(strengths)}")
        return strengths

    def apply(self, x: np.ndarray, strength: float, *, dataset: Dataset, generator: np.random.Generator) -> np.ndarray:
        """The records (n, ...) as they arrive; what leaves the bounds is clipped afterwards.

        Args:
            dataset: whose records they are, for their bounds and what is typical of them.
        """
        raise NotImplementedError

    def run(self, dataset: Dataset, rows: np.ndarray, severity: int, *, generator: np.random.Generator) -> np.ndarray:
        """See ``corrupted``."""
        x = dataset.x[rows]
        if severity == 0:
            return x
        changed = self.apply(x, self.strengths[severity - 1], dataset=dataset, generator=generator)
        assert changed.shape == x.shape, f"{self.name} turned records of shape {x.shape} into {changed.shape}"
        return np.clip(changed, dataset.low, dataset.high).astype(np.float32)


def names_for(modality: Modality) -> tuple[str, ...]:
    """The corruptions of one kind of records, sorted."""
    return tuple(name for name in names("corruption") if corruption(name).modality == modality)


def corruption(choice: object) -> Corruption:
    """The corruption that a name, or a mapping with a name, means.

    Raises:
        SpecError: the name is unknown, or a setting is impossible.
    """
    built = build("corruption", choice)
    assert isinstance(built, Corruption)
    return built


def corrupted(
    dataset: Dataset, rows: np.ndarray, name: str | Corruption, severity: int, *, generator: np.random.Generator
) -> np.ndarray:
    """Records as the data set stores them, after a corruption: same shape and type, within the bounds.

    Args:
        rows: positions of the records; give a large data set's in pieces, one generator for all of them.
        name: one of ``names_for(dataset.modality)``, or a corruption with settings of its own.
        severity: 1 to 5; 0 leaves the records as they are.
        generator: decides what befalls each record. A generator of the same state gives the same records, and at
            another severity the same mishap, stronger or weaker.

    Raises:
        SpecError: the corruption is unknown, or of another kind of records, or there is no such severity.
        DataError: text that is not prepared, so that nobody knows how words become records.
    """
    chosen = corruption(name)
    if chosen.modality != dataset.modality:
        raise SpecError(
            f"corruption {chosen.name!r} happens to records of modality {chosen.modality}, those of {dataset.name} are "
            f"{dataset.modality}; allowed: {', '.join(names_for(dataset.modality))}"
        )
    if severity not in (0, *SEVERITIES):
        raise SpecError(f"severity {severity!r} of {chosen.name} is unknown; allowed: 0 (none) to {SEVERITIES[-1]}")
    return chosen.run(dataset, rows, severity, generator=generator)
