"""Independent random draws from a space (Bergstra and Bengio 2012, JMLR 13)."""

from collections.abc import Mapping, Sequence

from assay import seeds
from assay.study.search.base import Settings
from assay.study.search.space import Axis


class Random:
    """Proposes points of which each setting is drawn on its own.

    Point n depends on the seed and n alone, so more samples keep all earlier points.

    Args:
        axes: by setting.
        samples: number of points.
        seed: of the draws.
    """

    learns = False

    def __init__(self, axes: Mapping[str, Axis], *, samples: int, seed: int) -> None:
        self._axes, self._seed, self.total, self._next = axes, seed, samples, 0

    def propose(self) -> Settings | None:
        """Returns the next draw; see ``Search.propose``."""
        if self._next == self.total:
            return None
        generator = seeds.stream(self._seed, "random search", self._next)
        self._next += 1
        return {key: axis.draw(generator) for key, axis in self._axes.items()}

    def tell(self, number: int, values: Sequence[float] | None) -> None:
        """Does nothing: draws do not depend on outcomes."""
