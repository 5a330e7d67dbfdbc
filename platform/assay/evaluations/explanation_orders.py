"""Do replacements rank methods alike? Pure functions of the scores.

Two methods whose maps differ by a rounding have an order, too, and it is chance. Methods that differ by little by each
replacement have an order, and nobody would choose by it. So an order counts only where the paired differences of the
scores show that it is worth something, and replacements disagree only where two of them show opposite orders.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from assay import intervals
from assay.statistics import holm

ALPHA = 0.05
Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Orders:
    """Pairs of methods that replacements tell apart."""

    separated: tuple[Pair, ...]
    """That at least one replacement tells apart."""
    contradicted: tuple[Pair, ...]
    """That two replacements tell apart in opposite orders."""

    @property
    def agreement(self) -> float:
        """Share of the separated pairs that no replacement contradicts; 1 where none is separated."""
        return 1 - len(self.contradicted) / len(self.separated) if self.separated else 1.0


def orders(scores: Sequence[Mapping[str, np.ndarray]], clusters: np.ndarray | None, *, margin: float) -> Orders:
    """Compares the orders of methods by several replacements.

    A replacement tells two methods apart where t-tests of their paired differences show that these are beyond the
    margin on one side: at 5 % for both sides together, after Holm's correction over all pairs and replacements.

    Args:
        scores: of each method, (n,) by replacement.
        clusters: (n,) records that count as one; None where each counts by itself.
        margin: difference of two scores that is worth nothing, above 0.

    Returns:
        The pairs, as positions of ``scores``.
    """
    pairs = list(combinations(range(len(scores)), 2))
    asked = [(pair, name) for pair in pairs for name in scores[0]]
    apart = [scores[one][name] - scores[other][name] for (one, other), name in asked]
    sides = np.array([[intervals.mean(sign * each - margin, clusters).p_above for sign in (1, -1)] for each in apart])
    sides = np.nan_to_num(sides.reshape(-1, 2), nan=1.0)
    corrected = holm(np.minimum(1, 2 * sides.min(1)).tolist())
    signs: dict[Pair, set[bool]] = {pair: set() for pair in pairs}
    for (pair, _), (above, below), p in zip(asked, sides.tolist(), corrected, strict=True):
        if p < ALPHA:
            signs[pair].add(above < below)
    return Orders(
        separated=tuple(pair for pair in pairs if signs[pair]),
        contradicted=tuple(pair for pair in pairs if len(signs[pair]) == 2),
    )
