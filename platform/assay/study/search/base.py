"""The protocol of search strategies."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

Settings = Mapping[str, Any]
"""A value for each varied setting, with dotted keys such as ``objective.epsilon``."""


class Search(Protocol):
    """Proposes the points of a sweep, one after the other.

    The n-th point depends on the seed, on n, and, where ``learns`` is true, on the outcomes that were told before. So a
    sweep that was killed proposes the same points again when the same outcomes are told in the same order.
    """

    learns: bool
    """Whether outcomes change later points."""

    @property
    def total(self) -> int:
        """Number of points that it proposes."""
        ...

    def propose(self) -> Settings | None:
        """Returns the next point.

        Returns:
            A value for each setting; None after the last point.
        """
        ...

    def tell(self, number: int, values: Sequence[float] | None) -> None:
        """Takes the outcome of a point, in the order of the points.

        Args:
            number: of the point, from 0, in the order in which it was proposed.
            values: one for each goal; None where the trial failed or lacks one of them.
        """
        ...
