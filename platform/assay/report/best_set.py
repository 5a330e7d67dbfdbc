"""Which of many points may be the best: a confidence set, and how much the best of many looks better than it is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
DRAWS = 1000
FEWEST_RECORDS = 30
"""Least number of records, or patients, from which a set is drawn: with fewer, draws of them repeat too few values."""
FEWEST_FOLDS = 5
"""Least number of folds, where no outcomes of records are stored."""


@dataclass(frozen=True, kw_only=True)
class FoldHits:
    """The outcomes of all points on the records of one fold, paired by record."""

    hits: np.ndarray
    """(points, units) number of records of each patient, or each record, that count."""
    sizes: np.ndarray
    """(units,) number of records of each."""

    @property
    def shares(self) -> np.ndarray:
        """(points,) the share of each point."""
        return self.hits.sum(1) / self.sizes.sum()

    def drawn(self, counts: np.ndarray) -> np.ndarray:
        """Returns the shares on draws of the units.

        Args:
            counts: (draws, units) how often each unit was drawn.

        Returns:
            (draws, points) shares; NaN where nothing was drawn.
        """
        with np.errstate(invalid="ignore"):
            return (counts @ self.hits.T) / (counts @ self.sizes)[:, None]


def counts_of(units: int, draws: int, generator: np.random.Generator) -> np.ndarray:
    """Returns how often each unit is drawn in each bootstrap sample.

    Args:
        units: records, or patients.
        draws: number of samples.
        generator: of the random numbers.

    Returns:
        (draws, units) counts; each row sums to ``units``.
    """
    drawn = generator.integers(units, size=(draws, units)) + units * np.arange(draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * units).reshape(draws, units).astype(np.float64)


def set_by_records(folds: Sequence[FoldHits], *, generator: np.random.Generator, level: float = LEVEL) -> np.ndarray:
    """Returns which points may be the best, by a bootstrap over paired records.

    A point is left out if the best one is ahead of it by more than chance would put the luckiest of all points ahead of
    it, if all were equal: the quantile, over bootstrap draws of the records, of the greatest deviation of any point
    minus that of the point itself. This is the one-step procedure for comparisons with the best (Hsu 1984; Mogstad,
    Romano, Shaikh and Wilhelm 2024, Rev. Econ. Stud. 91): the true best point is in the set with probability of at
    least ``level``, whatever the dependence between points. Points that are far behind count among the luckiest too,
    so the set may be larger than need be, and is never too small. Hansen, Lunde and Nason's model confidence set (2011)
    eliminates step by step, which takes as many bootstraps as there are points.

    It assumes records (or patients) that are independent draws from those to come. The trainings are taken as they are:
    another seed is not drawn. Records of several folds are drawn fold by fold, as if no record were in two.

    Args:
        folds: outcomes by fold; the points are compared by their mean over the folds.
        generator: of the bootstrap.
        level: of confidence.

    Returns:
        (points,) bool.
    """
    means = np.mean([fold.shares for fold in folds], axis=0)
    deviations = np.zeros((DRAWS, len(means)))
    for fold in folds:
        units = len(fold.sizes)
        drawn = fold.drawn(counts_of(units, DRAWS, generator)) - fold.shares
        # The variance of a bootstrap mean is too small by (units − 1) / units.
        deviations += drawn * np.sqrt(units / (units - 1)) / len(folds)
    return _near_the_best(means, deviations, level)


def set_by_folds(
    values: np.ndarray, *, test_share: float, generator: np.random.Generator, level: float = LEVEL
) -> np.ndarray:
    """Returns which points may be the best, by a bootstrap over folds; see ``set_by_records``.

    It assumes that folds are alike. Their trainings share records: deviations are widened by Nadeau and Bengio's
    correction.

    Args:
        values: (points, folds), the greater the better.
        test_share: records measured over records trained on, of a fold.
        generator: of the bootstrap.
        level: of confidence.

    Returns:
        (points,) bool.
    """
    folds = values.shape[1]
    means = values.mean(1)
    drawn = counts_of(folds, DRAWS, generator) @ values.T / folds - means
    widened = drawn * np.sqrt(folds / (folds - 1)) * np.sqrt(1 + folds * test_share)
    return _near_the_best(means, widened, level)


def _near_the_best(means: np.ndarray, deviations: np.ndarray, level: float) -> np.ndarray:
    """Returns which points the best one is not significantly ahead of.

    Args:
        means: (points,).
        deviations: (draws, points) of the means, by chance.
        level: of confidence.
    """
    luckiest = deviations.max(1)[:, None]
    allowed = np.quantile(luckiest - deviations, level, axis=0, method="higher")
    return np.asarray(means.max() - means <= allowed + 1e-12)


@dataclass(frozen=True, kw_only=True)
class Inflation:
    """How much the best of many looks better than it is, on the records by which it was chosen."""

    shown: float
    """Value of the best point, mean over the folds."""
    expected: float
    """What the best of as many reaches on records that did not choose it."""
    points: int
    """Of how many it is the best."""

    @property
    def inflation(self) -> float:
        """By how much the shown value exceeds the expected one."""
        return self.shown - self.expected


def best_of_many(folds: Sequence[FoldHits], *, generator: np.random.Generator) -> Inflation:
    """Estimates the optimism of the best of many by a bootstrap (Tsamardinos et al. 2018, Machine Learning 107).

    In each draw the best point is chosen by the drawn records, and looked at on the records that were not drawn.

    Args:
        folds: outcomes by fold; the best is chosen in each.
        generator: of the bootstrap.

    Returns:
        The shown value and the expected one.
    """
    expected, shown = [], []
    for fold in folds:
        counts = counts_of(len(fold.sizes), DRAWS, generator)
        chosen = fold.drawn(counts).argmax(1)
        outside = fold.drawn((counts == 0).astype(float))[np.arange(DRAWS), chosen]
        expected.append(float(np.nanmean(outside)))
        shown.append(float(fold.shares.max()))
    return Inflation(shown=float(np.mean(shown)), expected=float(np.mean(expected)), points=len(folds[0].hits))
