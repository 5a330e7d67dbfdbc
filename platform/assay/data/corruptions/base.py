"""Corruptions of records between the patient and the model, such as noise, wear and human error, at five severities.

After Hendrycks & Dietterich 2019 (arXiv:1903.12261). The random draw decides which corruption a record gets, the
severity only its strength: with the same generator, a higher severity changes the same record in the same way, and
more.
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
"""Strengths at severities 1 to 5, in units of the corruption."""


class Corruption(Method):
    """A corruption. Register it with ``@register("corruption")``, set ``modality`` and write ``apply``."""

    modality: ClassVar[Modality]
    """Kind of records to which it applies."""
    strengths: Decibels
    """Strengths at severities 1 to 5, in units of this corruption; ascending."""

    @field_validator("strengths")
    @classmethod
    def _ascend(cls, strengths: tuple[float, ...]) -> tuple[float, ...]:
        if any(after < before for before, after in pairwise(strengths)):
            raise ValueError(f"a higher severity must not be milder; given: {list(strengths)}")
        return strengths

    def apply(self, x: np.ndarray, strength: float, *, dataset: Dataset, generator: np.random.Generator) -> np.ndarray:
        """Returns corrupted records; values outside the bounds are clipped afterwards.

        Args:
            x: (n, ...) records.
            strength: in units of this corruption.
            dataset: to which the records belong, for their bounds and typical values.
            generator: draws the corruption of each record.

        Returns:
            (n, ...).
        """
        raise NotImplementedError

    def run(self, dataset: Dataset, rows: np.ndarray, severity: int, *, generator: np.random.Generator) -> np.ndarray:
        """Returns corrupted records of a data set; see ``corrupted``.

        Args:
            dataset: to which the records belong.
            rows: positions of the records.
            severity: 1 to 5; 0 leaves the records unchanged.
            generator: draws the corruption of each record.

        Returns:
            (len(rows), ...) within the bounds.
        """
        x = dataset.x[rows]
        if severity == 0:
            return x
        changed = self.apply(x, self.strengths[severity - 1], dataset=dataset, generator=generator)
        assert changed.shape == x.shape, f"{self.name} turned records of shape {x.shape} into {changed.shape}"
        return np.clip(changed, dataset.low, dataset.high).astype(np.float32)


def names_for(modality: Modality) -> tuple[str, ...]:
    """Returns the names of the corruptions of one kind of records, sorted.

    Args:
        modality: kind of records.

    Returns:
        The names.
    """
    return tuple(name for name in names("corruption") if corruption(name).modality == modality)


def corruption(choice: object) -> Corruption:
    """Returns the corruption for a name, or for a mapping with a name and settings.

    Args:
        choice: name or mapping.

    Returns:
        The corruption.

    Raises:
        SpecError: the name is unknown, or a setting is impossible.
    """
    built = build("corruption", choice)
    assert isinstance(built, Corruption)
    return built


def corrupted(
    dataset: Dataset, rows: np.ndarray, name: str | Corruption, severity: int, *, generator: np.random.Generator
) -> np.ndarray:
    """Returns records as the data set stores them, after a corruption: same shape and type, within the bounds.

    Args:
        dataset: to which the records belong.
        rows: positions of the records; process a large data set in pieces, with one generator for all of them.
        name: one of ``names_for(dataset.modality)``, or a corruption with its own settings.
        severity: 1 to 5; 0 leaves the records unchanged.
        generator: draws the corruption of each record. A generator in the same state gives the same records, and at
            another severity the same corruption, stronger or weaker.

    Returns:
        (len(rows), ...) corrupted records.

    Raises:
        SpecError: the corruption is unknown, or of another kind of records, or there is no such severity.
        DataError: a text is not prepared, so that words cannot be converted to records.
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
