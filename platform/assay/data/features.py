"""What an input of a table is: of which column, of which kind, and what 1.0 of it is in the column's own unit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["number", "ordered", "category"]


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One input of a network. The value of the column is ``center + scale · input``."""

    name: str
    """Name of the input: the column's, and of a category ``column=category``."""
    column: str
    kind: Kind
    unit: str = ""
    """Unit of the column; empty if it was not said."""
    center: float = 0.0
    """Value of the column where the input is 0."""
    scale: float = 1.0
    """Change of the column, in its own unit, that 1.0 of the input is, and so 1.0 of every ε."""
    source: str = ""
    """Where center and scale come from."""

    def radius(self, epsilon: float) -> str:
        """A change of ε in the column's own unit."""
        return f"{self.name} ± {epsilon * self.scale:.3g}{' ' if self.unit else ''}{self.unit}"


def radii(features: Sequence[Feature], movable: Sequence[bool], epsilon: float) -> str:
    """What ε is of each feature that may be moved, in its own unit, in words."""
    moved = [feature.radius(epsilon) for feature, free in zip(features, movable, strict=True) if free]
    return f"ε = {epsilon:g}: {', '.join(moved)}" if moved else "no feature may be moved"
