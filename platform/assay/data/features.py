"""Metadata of a table's inputs: the column, its kind, and what 1.0 of the input means in the column's own unit."""

from dataclasses import dataclass
from typing import Literal

FeatureKind = Literal["number", "ordered", "category"]


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One input of a network. The value of the column is ``center + scale · input``.

    The value of an ordered column is the position of its category, that of a category 1 where the record is of it.
    """

    name: str
    """Name of the input: the column's, or ``column=category`` for a category."""
    column: str
    kind: FeatureKind
    unit: str = ""
    """Unit of the column; empty if unknown."""
    center: float = 0.0
    """Value of the column where the input is 0."""
    scale: float = 1.0
    """Change of the column, in its own unit, for a change of 1.0 of the input, and so for 1.0 of every ε."""
    source: str = ""
    """Source of center and scale."""
    categories: tuple[str, ...] = ()
    """All categories of the column: of an ordered one from the least to the greatest; of others in the order of their
    inputs, of which the first may have none."""
    fill: float | str | None = None
    """Replacement of a missing value of the column, in its own unit or as a category; None if none is stated."""
    missing: tuple[str, ...] = ()
    """Values of the column that mean a missing one, such as ``0`` of a blood pressure."""
    valid: tuple[float, float] | None = None
    """Least and greatest possible value of a number, in its own unit, as stated; None if unknown. Infinite ends are
    unknown too."""
