"""Every combination of a space of lists."""

import math
from collections.abc import Mapping, Sequence
from itertools import product

from assay.errors import SpecError
from assay.study.search.base import Settings
from assay.study.search.space import Axis, Values


class Grid:
    """Proposes every combination once; the last setting varies fastest.

    Args:
        space: its name, for errors.
        axes: by setting.

    Raises:
        SpecError: a setting is a range, not a list.
    """

    learns = False

    def __init__(self, space: str, axes: Mapping[str, Axis]) -> None:
        lists = {key: axis.values for key, axis in axes.items() if isinstance(axis, Values)}
        if ranges := [key for key in axes if key not in lists]:
            raise SpecError(
                f"space {space!r} draws {', '.join(ranges)} from a range, which has no grid; use --search random or "
                "optuna, or tune.grid_search in the space",
                setting="--search",
                given="grid",
                allowed=("random", "optuna"),
            )
        self._keys, self.total = tuple(lists), math.prod(map(len, lists.values()))
        self._points = product(*lists.values())

    def propose(self) -> Settings | None:
        """Returns the next combination; see ``Search.propose``."""
        point = next(self._points, None)
        return None if point is None else dict(zip(self._keys, point, strict=True))

    def tell(self, number: int, values: Sequence[float] | None) -> None:
        """Does nothing: the grid is fixed."""
