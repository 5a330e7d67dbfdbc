"""What an input of a table is: of which column, of which kind, and what 1.0 of it is in the column's own unit."""

from dataclasses import dataclass
from typing import Literal

FeatureKind = Literal["number", "ordered", "category"]


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One input of a network. The value of the column is ``center + scale · input``."""

    name: str
    """Name of the input: the column's, and of a category ``column=category``."""
    column: str
    kind: FeatureKind
    unit: str = ""
    """Unit of the column; empty if it was not said."""
    center: float = 0.0
    """Value of the column where the input is 0."""
    scale: float = 1.0
    """Change of the column, in its own unit, that 1.0 of the input is, and so 1.0 of every ε."""
    source: str = ""
    """Where center and scale come from."""
