"""How sure a difference of recipes is as far as the test records go: paired by record where both answered the same.

The records of a test split are a sample of patients, and on an official split all seeds of all recipes answer the same
ones. What tells recipes apart are then the records on which they differ. With ``c`` the contrast of one record in one
seed (hit of recipe A less hit of recipe B), the analysis is that of several readers and cases (Obuchowski and Rockette
1995; Hillis, Berbaum and Metz 2008), a seed for a reader:

- variance over records: of the mean of ``c`` over seeds, between clusters (patients, copies), less the part that is due
  to records which differ by seed, since the spread over seeds already holds this part;
- variance over seeds: as anywhere (``statistics``), on ``seeds − 1`` degrees of freedom.

A variance that is counted on few differing records is too small where by chance there are few. As in the score
interval of Tango (1998), the variance at a supposed difference therefore is the one that is likeliest there (of Poisson
counts, so that it has a closed form): where recipes agree on all of ``n`` records, the interval reaches ``z²/n``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import special

from assay.outcomes import Outcomes

_UNSEEN = 4
"""About z² at 95 %: as many may be expected at most where none was seen."""


class Reach(Protocol):
    """How far an interval over records reaches to either side of a figure."""

    def below(self, z: float) -> float:
        """At the level where a normal interval would reach ``z`` standard errors, a positive number."""
        ...

    def above(self, z: float) -> float:
        """The same on the other side."""
        ...


@dataclass(frozen=True, kw_only=True)
class NormalReach:
    """In proportion to the quantile of the normal distribution."""

    below_error: float = 0.0
    """Standard error where the truth lies below what was measured."""
    above_error: float = 0.0

    def below(self, z: float) -> float:
        return z * self.below_error

    def above(self, z: float) -> float:
        return z * self.above_error


@dataclass(frozen=True, kw_only=True)
class PairedReach:
    """Of a contrast of recipes that answered the same records."""

    difference: float
    """Mean contrast over records and seeds."""
    variance: float
    """Of this mean over samples of records; without what the spread over seeds holds."""
    unit: float
    """What one cluster in which recipes differ moves the difference by."""
    clusters: int
    """Independent records, or patients; the variance has one degree of freedom less."""

    def below(self, z: float) -> float:
        return self._reach(z, math.copysign(1.0, -self.difference))

    def above(self, z: float) -> float:
        return self._reach(z, math.copysign(1.0, self.difference))

    def _reach(self, z: float, side: float) -> float:
        """The larger root ``y`` of the score equation ``y² = t² · variance at y beyond the difference``.

        Args:
            side: 1 away from 0, where the variance grows, and −1 towards 0, where it shrinks.
        """
        squared = float(special.stdtrit(self.clusters - 1, special.ndtr(-abs(z)))) ** 2
        step = squared * self.unit
        # Fewer cannot have differed than make up the difference; of means over seeds less may be left.
        skew = side * step**2 * min(abs(self.difference), self.variance / self.unit)
        # y³ − p y − skew = 0 has three real roots; this is the largest.
        p = squared * self.variance + step**2
        angle = math.acos(min(1.0, max(-1.0, 1.5 * skew / p * math.sqrt(3 / p)))) if p > 0 else 0.0
        return 2 * math.sqrt(p / 3) * math.cos(angle / 3)


def paired_reach(sides: Sequence[Sequence[Outcomes | None]], weights: Sequence[float]) -> PairedReach | None:
    """The uncertainty over records of a weighed sum of shares of the same records.

    Args:
        sides: of each recipe, the outcomes of each seed; seeds are paired.
        weights: of the recipes: 1 and −1 of a difference.

    Returns:
        None where outcomes are missing, or not all of the same records, or there is a single cluster.
    """
    known = [[one for one in side if one is not None] for side in sides]
    seeds = len(sides[0])
    if not seeds or any(len(side) != seeds for side in known):
        return None
    if len({one.records for side in known for one in side}) > 1 or len(known[0][0].sizes) < 2:
        return None
    sizes = known[0][0].sizes
    contrasts = sum(weight * np.stack([one.hits for one in side]) for weight, side in zip(weights, known, strict=True))
    return _reach_of(np.asarray(contrasts), sizes, largest=sum(map(abs, weights)) / 2)


def differing_share(margin: float, records: int, level: float) -> float:
    """The share of records that two equally good recipes may answer differently, for a loss to be ruled out.

    Args:
        margin: the loss, a positive share of records.
        records: of the test split, at least 2; each of another patient.
        level: of the one-sided test, of one seed.

    Returns:
        NaN where not even recipes that answer all records alike would do.
    """
    squared = float(special.stdtrit(records - 1, level)) ** 2
    share = (margin**2 - (squared / records) ** 2) * (records - 1) / squared
    return min(share, 1.0) if share >= 0 else math.nan


def _reach_of(contrasts: np.ndarray, sizes: np.ndarray, *, largest: float) -> PairedReach:
    """The same of contrasts.

    Args:
        contrasts: (seeds, clusters) sums over the records of each cluster.
        sizes: (clusters,) records of each.
        largest: contrast that one record can have.
    """
    seeds, clusters = contrasts.shape
    n = float(sizes.sum())
    means = contrasts.sum(1) / n
    rest = contrasts - means[:, None] * sizes
    correction = clusters / (clusters - 1) / n**2
    variance = correction * float((rest.mean(0) ** 2).sum())
    if seeds > 1:
        by_seed = correction * float(((rest - rest.mean(0)) ** 2).sum()) / (seeds - 1)
        variance = max(variance - by_seed / seeds, 0.0)
    return PairedReach(
        difference=float(means.mean()),
        variance=variance,
        unit=_unit(np.abs(contrasts.mean(0)), largest * float((sizes**2).sum()) / n) / n,
        clusters=clusters,
    )


def _unit(contrasts: np.ndarray, largest: float) -> float:
    """The usual contrast of a cluster in which recipes differ, each counted by its size.

    Where few differ, what is not seen yet may be a whole cluster: as if ``_UNSEEN`` such had been.

    Args:
        contrasts: (clusters,) absolute sums over the records of each, mean over seeds.
        largest: what a whole cluster would be.
    """
    seen = float((contrasts**2).sum()), float(contrasts.sum())
    return (seen[0] + _UNSEEN * largest**2) / (seen[1] + _UNSEEN * largest)
