"""Do replacements rank methods alike? Pure functions of the scores.

Two methods whose maps differ by a rounding have an order, too, and it is chance. So an order counts only where the
paired differences of the scores show it, and replacements disagree only where two of them show opposite orders.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from assay import intervals
from assay.statistics import holm

ALPHA = 0.05
LEAST_APART = 0.01
"""Mean difference of two scores, as a share of the change, below which they are equal: no reader would prefer one."""
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


def orders(scores: Sequence[Mapping[str, np.ndarray]], clusters: np.ndarray | None) -> Orders:
    """Compares the orders of methods by several replacements.

    A replacement tells two methods apart where the two-sided t-test of their paired differences is below 5 % after
    Holm's correction over all pairs and replacements, and the mean difference is 1 % of the change or more.

    Args:
        scores: of each method, (n,) by replacement.
        clusters: (n,) records that count as one; None where each counts by itself.

    Returns:
        The pairs, as positions of ``scores``.
    """
    pairs = list(combinations(range(len(scores)), 2))
    asked = [(pair, name) for pair in pairs for name in scores[0]]
    found = [intervals.mean(scores[one][name] - scores[other][name], clusters) for (one, other), name in asked]
    above = np.nan_to_num([each.p_above for each in found], nan=0.5)
    corrected = holm((2 * np.minimum(above, 1 - above)).tolist())
    signs: dict[Pair, set[bool]] = {pair: set() for pair in pairs}
    for (pair, _), each, p in zip(asked, found, corrected, strict=True):
        difference = each.interval.value
        if p < ALPHA and abs(difference) >= LEAST_APART:
            signs[pair].add(difference > 0)
    return Orders(
        separated=tuple(pair for pair in pairs if signs[pair]),
        contradicted=tuple(pair for pair in pairs if len(signs[pair]) == 2),
    )
