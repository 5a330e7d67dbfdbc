"""Tests of what a private training did at each step: was its noise Gaussian, did it know the records, was sampling
Poisson?

A test gives a p-value, exact or nearly so for a sound training of any size. A discrete count becomes a standard normal
number by its distribution function, drawn evenly within the step at that count (randomised probability integral
transform), so that sums of squares are χ² variables even where counts are small.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from assay.privacy.noise_levels import NoiseRecord

_MOST_VALUES = 20_000
_FEWEST_VALUES = 100
"""Numbers of one tensor whose kurtosis is tested: of fewer it is known too roughly, and they count among all."""
_NEGLIGIBLE = {"kurtosis": 0.1, "distribution": 0.01}
"""Departures from a normal distribution that no test counts, however many numbers show them: rounding makes some."""


@dataclass(frozen=True, kw_only=True)
class StepTest:
    """One test."""

    what: str
    """What a small p-value shows, in words that follow "the data show that"."""
    p: float
    figure: float
    """The statistic."""


def surest(tests: Sequence[StepTest]) -> tuple[StepTest, float]:
    """The test with the least p-value, and that p-value corrected for the number of tests (Bonferroni)."""
    least = min(tests, key=lambda test: test.p)
    return least, min(1.0, least.p * len(tests))


def gaussian_noise(record: NoiseRecord) -> list[StepTest]:
    """Kurtosis of the noise of each tensor and of all, and its distribution; each in parts of its own deviation."""
    found, pooled = [], []
    for tensor, name in enumerate(record.names):
        values = record.sketch(tensor).ravel()[:_MOST_VALUES]
        if not values.any():
            continue
        pooled.append(values / np.sqrt((values**2).mean()))
        if len(values) >= _FEWEST_VALUES:
            found.append(_kurtosis(values, f"the noise of {name!r}"))
    if not pooled:
        return found
    together = np.concatenate(pooled)
    together = together[:: -(-len(together) // _MOST_VALUES)]
    if len(together) >= _FEWEST_VALUES:
        found.append(_kurtosis(together, "the noise of all tensors"))
    distance = stats.kstest(together, "norm")
    found.append(
        StepTest(
            what="the noise of all tensors has no normal distribution",
            p=float(distance.pvalue) if distance.statistic > _NEGLIGIBLE["distribution"] else 1.0,
            figure=float(distance.statistic),
        )
    )
    return found


def _kurtosis(values: np.ndarray, whose: str) -> StepTest:
    """Anscombe and Glynn's test, two-sided."""
    excess = float(stats.kurtosis(values))
    p = float(stats.kurtosistest(values).pvalue) if abs(excess) > _NEGLIGIBLE["kurtosis"] else 1.0
    return StepTest(what=f"{whose} is not normal, with an excess kurtosis of {excess:.2f}", p=p, figure=excess)


def noise_knows_records(record: NoiseRecord, batch_sizes: np.ndarray, *, expected: float) -> list[StepTest]:
    """Whether the noise has a part along the clipped sum, or grows with the batch.

    Args:
        batch_sizes: (steps,)
        expected: size of a batch.
    """
    along, found = record.along_sums(), []
    for place in range(along.shape[1]):
        own = along[:, place][np.isfinite(along[:, place])]
        whose = repr(record.names[place]) if place < len(record.names) else "all tensors"
        p = float(stats.chi2.sf((own**2).sum(), len(own))) if len(own) else 1.0
        mean = float((own**2).mean()) if len(own) else 0.0
        found.append(StepTest(what=f"the noise of {whose} has a part along the clipped sum", p=p, figure=mean))
    off = expected / np.maximum(batch_sizes, 1) - 1
    if not off.any():
        return found
    # Divided by the actual size, what is released holds the sum that many times too often.
    weights = off * record.lengths
    slope = float(np.nansum(weights * along[:, -1]) / max(np.sqrt((weights**2).sum()), 1e-300))
    # Wilson and Hilferty: the cube root of a χ² variable is nearly normal.
    count = float(record.sizes.sum())
    level = (np.cbrt(record.squares.sum(1) / count) - (1 - 2 / (9 * count))) / np.sqrt(2 / (9 * count))
    larger = batch_sizes - batch_sizes.mean()
    growth = float((larger * level).sum() / max(np.sqrt((larger**2).sum()), 1e-300))
    for figure, what in (
        (slope, "the sum is divided by the actual size of a batch, not by the expected one"),
        (growth, "the noise changes with the size of a batch"),
    ):
        found.append(StepTest(what=what, p=2 * float(stats.norm.sf(abs(figure))), figure=figure))
    return found


class BatchRecord:
    """The batches of a training.

    Args:
        records: that it draws from, or patients.
        generator: of the randomised transform.
    """

    def __init__(self, *, records: int, generator: np.random.Generator) -> None:
        self.records, self._generator = records, generator
        self._sizes: list[int] = []
        self._drawn = np.zeros(records, np.int64)
        self._overlaps: list[int] = []
        self._last: np.ndarray | None = None
        self.repeated = 0
        """Records that a batch held more than once, over all batches."""

    @property
    def sizes(self) -> np.ndarray:
        """(steps,)"""
        return np.array(self._sizes)

    def add(self, batch: np.ndarray, units: np.ndarray | None = None) -> None:
        """Take in the positions of the records of one step.

        Args:
            units: (n,) the patient of each record of the batch, from 0, where patients are drawn.
        """
        distinct = np.unique(batch)
        self.repeated += len(batch) - len(distinct)
        distinct = distinct if units is None else np.unique(units)
        self._sizes.append(len(distinct))
        self._drawn[distinct] += 1
        if self._last is not None:
            self._overlaps.append(len(np.intersect1d(self._last, distinct, assume_unique=True)))
        self._last = distinct

    def poisson(self, sample_rate: float) -> list[StepTest]:
        """Whether each record entered each batch by a coin of its own; nothing where every batch holds all records."""
        if sample_rate >= 1 or not self._sizes:
            return []
        sizes, steps = self.sizes, len(self._sizes)
        by_size = self._normal(sizes, stats.binom(self.records, sample_rate))
        by_record = self._normal(self._drawn, stats.binom(steps, sample_rate))
        found = [
            *_both(by_size, "the sizes of batches", "than Poisson sampling makes them"),
            *_both(by_record, "the numbers of times that records were drawn", "than Poisson sampling makes them"),
            _shifted(by_size, "records are drawn", float(sizes.mean()) / self.records, sample_rate),
        ]
        if self._overlaps:
            alike = stats.hypergeom(self.records, sizes[:-1], sizes[1:])
            by_overlap = self._normal(np.array(self._overlaps), alike)
            found += _both(by_overlap, "the overlaps of batches that follow each other", "than independent draws")
            expected = (sizes[:-1] * sizes[1:] / self.records).mean()
            found.append(_shifted(by_overlap, "batches share records", float(np.mean(self._overlaps)), float(expected)))
        return found

    def _normal(self, counts: np.ndarray, law: "stats.rv_frozen") -> np.ndarray:
        """Standard normal numbers of counts that follow the law."""
        share = self._generator.random(len(counts)) * law.pmf(counts)
        below, above = law.cdf(counts - 1) + share, law.sf(counts) + law.pmf(counts) - share
        return np.where(below < above, stats.norm.ppf(below), stats.norm.isf(above))


def _both(normal: np.ndarray, what: str, than: str) -> list[StepTest]:
    """Whether standard normal numbers vary too much, or too little."""
    total, count = float((normal**2).sum()), len(normal)
    return [
        StepTest(what=f"{what} vary more {than}", p=float(stats.chi2.sf(total, count)), figure=total / count),
        StepTest(what=f"{what} vary less {than}", p=float(stats.chi2.cdf(total, count)), figure=total / count),
    ]


def _shifted(normal: np.ndarray, what: str, seen: float, expected: float) -> StepTest:
    mean = float(normal.sum() / np.sqrt(len(normal)))
    how = "more" if mean > 0 else "less"
    return StepTest(
        what=f"{what} {how} often than they should: {seen:.4g}, where {expected:.4g} is expected",
        p=2 * float(stats.norm.sf(abs(mean))),
        figure=mean,
    )
