"""Uncertainty over test records of a difference between recipes, paired by record where both used the same records.

The records of a test split are a sample of patients, and on an official split all seeds of all recipes use the same
ones. Then only the records on which the recipes differ distinguish them. With ``c`` the contrast of one record in one
seed (hit of recipe A minus hit of recipe B), the analysis is that of several readers and cases (Obuchowski and Rockette
1995; Hillis, Berbaum and Metz 2008), with seeds as readers:

- variance over records: of the mean of ``c`` over seeds, between clusters (patients, copies), minus the part that comes
  from records which differ by seed, since the variance over seeds contains this part already;
- variance over seeds: as elsewhere (``statistics``), on ``seeds − 1`` degrees of freedom.

A variance estimated from few differing records is too small if by chance there are few. So the variance at a supposed
difference is the most likely one there, as in the score interval of Tango (1998); counts are taken as Poisson, so that
it has a closed form. Where recipes agree on all of ``n`` records, the half width of the interval is ``z²/n``.

At a supposed difference that lies between 0 and the measured one, the most likely variance is smaller than the measured
one. It is not used there: with few differing records, their counts are skewed towards large values, and a test of
whether a recipe gains at least so much would say so too often. The variance is never taken as less than measured.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import special

from assay.outcomes import Outcomes

_UNSEEN = 4
"""About z² at 95 %: the greatest expected count that is compatible with a count of 0."""


class Reach(Protocol):
    """Half widths of an interval over records, below and above a figure."""

    def below(self, z: float) -> float:
        """Returns the half width below the figure.

        Args:
            z: quantile of the normal distribution that sets the level.

        Returns:
            A positive number, in the unit of the figure.
        """
        ...

    def above(self, z: float) -> float:
        """Returns the half width above the figure.

        Args:
            z: quantile of the normal distribution that sets the level.

        Returns:
            A positive number, in the unit of the figure.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class NormalReach:
    """Half widths proportional to the quantile of the normal distribution."""

    below_error: float = 0.0
    """Standard error towards values below the measured one."""
    above_error: float = 0.0

    def below(self, z: float) -> float:
        """Returns the half width below the figure; see ``Reach.below``."""
        return z * self.below_error

    def above(self, z: float) -> float:
        """Returns the half width above the figure; see ``Reach.above``."""
        return z * self.above_error


@dataclass(frozen=True, kw_only=True)
class PairedReach:
    """Half widths for a contrast of recipes on the same records."""

    difference: float
    """Mean contrast over records and seeds."""
    variance: float
    """Variance of this mean over samples of records, without the part that the variance over seeds contains."""
    unit: float
    """Change of the difference by one cluster in which the recipes differ."""
    clusters: int
    """Independent records, or patients; the variance has one degree of freedom less."""

    def below(self, z: float) -> float:
        """Returns the half width below the difference; see ``Reach.below``."""
        return self._reach(z, math.copysign(1.0, -self.difference))

    def above(self, z: float) -> float:
        """Returns the half width above the difference; see ``Reach.above``."""
        return self._reach(z, math.copysign(1.0, self.difference))

    def _reach(self, z: float, side: float) -> float:
        """Returns the largest root ``y`` of the score equation ``y² = t² · variance at y beyond the difference``.

        It is at least the root for the measured variance, which is larger where the limit is between 0 and the
        difference.

        Args:
            side: 1 away from 0, where the variance grows, and −1 towards 0, where it shrinks.
        """
        squared = float(special.stdtrit(self.clusters - 1, special.ndtr(-abs(z)))) ** 2
        step = squared * self.unit
        # At least as many clusters differ as the difference requires; for means over seeds it may be fewer.
        skew = side * step**2 * min(abs(self.difference), self.variance / self.unit)
        # y³ − p y − skew = 0 has three real roots; this is the largest.
        p = squared * self.variance + step**2
        angle = math.acos(min(1.0, max(-1.0, 1.5 * skew / p * math.sqrt(3 / p)))) if p > 0 else 0.0
        return max(2 * math.sqrt(p / 3) * math.cos(angle / 3), math.sqrt(squared * self.variance))


def paired_reach(sides: Sequence[Sequence[Outcomes | None]], weights: Sequence[float]) -> PairedReach | None:
    """Returns the uncertainty over records of a weighted sum of shares on the same records.

    Args:
        sides: for each recipe, the outcomes of each seed; seeds are paired.
        weights: of the recipes: 1 and −1 for a difference.

    Returns:
        The half widths; None where outcomes are missing or concern different records, or there is a single cluster.
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
    """Returns the share of records that two equally good recipes may answer differently for a loss to be ruled out.

    Args:
        margin: the loss, a positive share of records.
        records: number of test records, at least 2; each of another patient.
        level: of the one-sided test, for one seed.

    Returns:
        The share; NaN where even recipes that answer all records alike would not suffice.
    """
    squared = float(special.stdtrit(records - 1, level)) ** 2
    share = (margin**2 - (squared / records) ** 2) * (records - 1) / squared
    return min(share, 1.0) if share >= 0 else math.nan


def _reach_of(contrasts: np.ndarray, sizes: np.ndarray, *, largest: float) -> PairedReach:
    """Returns the half widths from contrasts.

    Args:
        contrasts: (seeds, clusters) sums over the records of each cluster.
        sizes: (clusters,) number of records of each.
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
    """Returns the typical contrast of a cluster in which recipes differ, weighted by its size.

    If few differ, an unseen one may be a whole cluster: the estimate adds ``_UNSEEN`` of these.

    Args:
        contrasts: (clusters,) absolute sums over the records of each, mean over seeds.
        largest: contrast of a whole cluster.
    """
    seen = float((contrasts**2).sum()), float(contrasts.sum())
    return (seen[0] + _UNSEEN * largest**2) / (seen[1] + _UNSEEN * largest)
