"""Tests of every step of a private training: is the noise Gaussian and independent of the records, is sampling Poisson?

A test gives a p-value, exact or nearly so for a sound training of any size. A discrete count is converted to a standard
normal number by its distribution function, drawn uniformly within the step at that count (randomised probability
integral transform), so that sums of squares are χ² variables even where counts are small.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from assay.privacy.noise_levels import NoiseRecord

_MOST_VALUES = 20_000
_FEWEST_VALUES = 100
"""Least number of values of a tensor for a kurtosis test of its own; smaller tensors enter the pooled test only."""
_NEGLIGIBLE = {"kurtosis": 0.1, "distribution": 0.01}
"""Departures from a normal distribution that are ignored even if they are significant: rounding causes some."""


@dataclass(frozen=True, kw_only=True)
class StepTest:
    """Result of one test."""

    what: str
    """What a small p-value shows, as a clause that follows "the data show that"."""
    p: float
    figure: float
    """Test statistic."""


def surest(tests: Sequence[StepTest]) -> tuple[StepTest, float]:
    """Returns the test with the least p-value, and that p-value corrected for the number of tests (Bonferroni).

    Args:
        tests: at least one.

    Returns:
        The test, and its corrected p-value.
    """
    least = min(tests, key=lambda test: test.p)
    return least, min(1.0, least.p * len(tests))


def gaussian_noise(record: NoiseRecord) -> list[StepTest]:
    """Tests whether the noise is normal: kurtosis of each tensor and of all, and the distribution of all.

    Each tensor's noise is divided by its own standard deviation first.

    Args:
        record: noise of all steps.

    Returns:
        The tests; none if there is no noise or too few values.
    """
    tests, pooled = [], []
    for tensor, name in enumerate(record.names):
        values = record.sketch(tensor).ravel()[:_MOST_VALUES]
        if not values.any():
            continue
        pooled.append(values / np.sqrt((values**2).mean()))
        if len(values) >= _FEWEST_VALUES:
            tests.append(_kurtosis(values, f"the noise of {name!r}"))
    if not pooled:
        return tests
    together = np.concatenate(pooled)
    together = together[:: -(-len(together) // _MOST_VALUES)]
    if len(together) >= _FEWEST_VALUES:
        tests.append(_kurtosis(together, "the noise of all tensors"))
    distance = stats.kstest(together, "norm")
    tests.append(
        StepTest(
            what="the noise of all tensors has no normal distribution",
            p=float(distance.pvalue) if distance.statistic > _NEGLIGIBLE["distribution"] else 1.0,
            figure=float(distance.statistic),
        )
    )
    return tests


def _kurtosis(values: np.ndarray, whose: str) -> StepTest:
    """Returns Anscombe and Glynn's test of kurtosis, two-sided."""
    excess = float(stats.kurtosis(values))
    p = float(stats.kurtosistest(values).pvalue) if abs(excess) > _NEGLIGIBLE["kurtosis"] else 1.0
    return StepTest(what=f"{whose} is not normal, with an excess kurtosis of {excess:.2f}", p=p, figure=excess)


def noise_knows_records(record: NoiseRecord, batch_sizes: np.ndarray, *, expected: float) -> list[StepTest]:
    """Tests whether the noise depends on the records: on the clipped sum, or on the size of the batch.

    Args:
        record: noise of all steps.
        batch_sizes: (steps,) actual sizes.
        expected: expected size of a batch.

    Returns:
        The tests.
    """
    along, tests = record.along_sums(), []
    for place in range(along.shape[1]):
        components = along[:, place][np.isfinite(along[:, place])]
        whose = repr(record.names[place]) if place < len(record.names) else "all tensors"
        p = float(stats.chi2.sf((components**2).sum(), len(components))) if len(components) else 1.0
        mean = float((components**2).mean()) if len(components) else 0.0
        tests.append(StepTest(what=f"the noise of {whose} has a part along the clipped sum", p=p, figure=mean))
    off = expected / np.maximum(batch_sizes, 1) - 1
    if not off.any():
        return tests
    # If the actual size is the divisor, the released gradient contains this excess of the sum.
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
        tests.append(StepTest(what=what, p=2 * float(stats.norm.sf(abs(figure))), figure=figure))
    return tests


class BatchRecord:
    """Sizes and overlaps of the batches of a training.

    Args:
        records: number of records, or patients, that it draws from.
        generator: of the randomised transform.
    """

    def __init__(self, *, records: int, generator: np.random.Generator) -> None:
        self.records, self._generator = records, generator
        self._sizes: list[int] = []
        self._drawn = np.zeros(records, np.int64)
        self._overlaps: list[int] = []
        self._last: np.ndarray | None = None
        self.repeated = 0
        """Number of repeated records within batches, over all batches."""

    @property
    def sizes(self) -> np.ndarray:
        """(steps,) number of distinct records, or patients, of each batch."""
        return np.array(self._sizes)

    def add(self, batch: np.ndarray, units: np.ndarray | None = None) -> None:
        """Records one step.

        Args:
            batch: positions of the records of the step.
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
        """Tests whether each record, or patient, entered each batch independently with the stated probability.

        Args:
            sample_rate: the stated probability.

        Returns:
            The tests; none where every batch contains all records.
        """
        if sample_rate >= 1 or not self._sizes:
            return []
        sizes, steps = self.sizes, len(self._sizes)
        by_size = self._normal(sizes, stats.binom(self.records, sample_rate))
        by_record = self._normal(self._drawn, stats.binom(steps, sample_rate))
        tests = [
            *_both(by_size, "the sizes of batches", "than Poisson sampling makes them"),
            *_both(by_record, "the numbers of times that records were drawn", "than Poisson sampling makes them"),
            _shifted(by_size, "records are drawn", float(sizes.mean()) / self.records, sample_rate),
        ]
        if self._overlaps:
            alike = stats.hypergeom(self.records, sizes[:-1], sizes[1:])
            by_overlap = self._normal(np.array(self._overlaps), alike)
            tests += _both(by_overlap, "the overlaps of batches that follow each other", "than independent draws")
            expected = (sizes[:-1] * sizes[1:] / self.records).mean()
            tests.append(_shifted(by_overlap, "batches share records", float(np.mean(self._overlaps)), float(expected)))
        return tests

    def _normal(self, counts: np.ndarray, law: "stats.rv_frozen") -> np.ndarray:
        """Returns standard normal numbers from counts that follow a discrete distribution."""
        share = self._generator.random(len(counts)) * law.pmf(counts)
        below, above = law.cdf(counts - 1) + share, law.sf(counts) + law.pmf(counts) - share
        return np.where(below < above, stats.norm.ppf(below), stats.norm.isf(above))


def _both(normal: np.ndarray, what: str, than: str) -> list[StepTest]:
    """Tests whether standard normal numbers vary too much, and whether they vary too little."""
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
