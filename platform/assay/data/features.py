"""Metadata of a table's inputs: the column, its kind, and what 1.0 of the input means in the column's own unit."""

from dataclasses import dataclass
from typing import Literal

FeatureKind = Literal["number", "ordered", "category"]


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One input of a network. The value of the column is ``center + scale · input``."""

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
