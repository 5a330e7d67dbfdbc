"""How the runs of a study relate to each other, and the means, comparisons and tests that are valid for them.

On an official split the r repeats differ by their seed alone and are tested on the same records. There are then two
sources of uncertainty: the choice of test records, which more seeds do not reduce, and the choice of seeds. The half
widths of their intervals are combined by square-and-add on each side (MOVER; Zou and Donner 2008): the mean half width
of the runs' own intervals over records, not divided by r, and ``t · s / √r`` on ``r − 1`` degrees of freedom. A
difference of shares is paired by record where the outcome of each record is known (``assay.paired``). For other
metrics, the half widths over records of both sides are combined as if their records were independent. This is
conservative, since both sides use the same records. The p-value is the level at which this interval ends at 0, so that
the p-value and the interval always agree.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from assay.outcomes import Outcomes
from assay.paired import NormalReach, PairedReach, Reach, paired_reach
from assay.statistics import CERTAIN, TINY, Comparison, Summary, Z, level_at, paired_test, summarise


@dataclass(frozen=True, kw_only=True)
class LimitTest:
    """Result of one-sided tests of a mean, or of a difference of two means, against a limit."""

    value: float
    low: float
    high: float
    """Ends of the 95 % interval: the limit lies outside exactly where one of the p-values is below 2.5 %."""
    p_above: float
    """One-sided p-value of the hypothesis that the true value is at most the limit: small where the value lies clearly
    above it; NaN where no test is possible."""
    p_below: float
    """One-sided p-value of the hypothesis that the true value is at least the limit."""
    count: int
    """Runs behind the value."""
    by_record: bool = False
    """Whether a difference is paired by record; see ``Comparison``."""


@dataclass(frozen=True, kw_only=True)
class Runs:
    """The values of one metric of one recipe over its runs, each with its own 95 % interval over records.

    All arrays have shape (r,): one entry for each fold or seed. The ends are NaN where a metric has no such interval,
    such
    as seconds.
    """

    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    least: float = -math.inf
    """Least possible value of the figure: 0 of a share. The interval of a mean is cut there."""
    most: float = math.inf
    """Greatest possible value, likewise: 1 of a share."""
    outcomes: tuple[Outcomes | None, ...] = ()
    """Outcome of each record in each run, where it is known; empty if it is known for no run."""
    paired: PairedReach | None = None
    """Interval by pairs, for a difference of runs on the same records; it replaces ``low`` and ``high``."""

    @property
    def over_records(self) -> Reach:
        """Interval over records of the mean over runs."""
        if self.paired is not None:
            return self.paired
        below, above = self.reach
        return NormalReach(below_error=below / Z, above_error=above / Z)

    @property
    def reach(self) -> tuple[float, float]:
        """Mean half widths of the runs' intervals over records, below and above their values; 0 without any."""
        if self.paired is not None:
            return self.paired.below(Z), self.paired.above(Z)
        below, above = _beyond(self.values - self.low), _beyond(self.high - self.values)
        known = ~(np.isnan(below) | np.isnan(above))
        return (float(below[known].mean()), float(above[known].mean())) if known.any() else (0.0, 0.0)


def weighed(runs: Sequence[Runs], weights: Sequence[float]) -> Runs:
    """Returns a weighted sum of metrics, run by run.

    A difference of shares is paired by record if all metrics use the same records and the outcome of each is known.
    Otherwise the half widths over records are combined by square-and-add.

    Args:
        runs: the metrics, each over the same r runs.
        weights: one for each metric.

    Returns:
        The sums, (r,), with their intervals over records.
    """
    pairs = list(zip(runs, weights, strict=True))
    total = np.asarray(sum(weight * run.values for run, weight in pairs))
    below = [_beyond(weight * (run.values - (run.low if weight > 0 else run.high))) for run, weight in pairs]
    above = [_beyond(weight * ((run.high if weight > 0 else run.low) - run.values)) for run, weight in pairs]
    low, high = total - np.linalg.norm(below, axis=0), total + np.linalg.norm(above, axis=0)
    if list(weights) == [1]:
        return replace(runs[0], values=total, low=low, high=high)
    paired = paired_reach([run.outcomes for run in runs], weights) if abs(sum(weights)) < TINY else None
    if paired is not None:
        low, high = total - paired.below(Z), total + paired.above(Z)
    return Runs(values=total, low=low, high=high, paired=paired)


def _beyond(reach: np.ndarray) -> np.ndarray:
    """Returns half widths of at least 0: a percentile interval of a biased figure may leave out the figure itself."""
    return np.maximum(reach, 0.0)


@dataclass(frozen=True, kw_only=True)
class Design:
    """How the runs of a cohort relate to each other. It decides which statistics are valid for them."""

    folds: int
    """Folds of one repeat; 1 on an official split, and for a model that was trained elsewhere."""
    repeats: int
    official: bool = False
    """Whether the data set's own split is kept: then repeats vary the seed and share their test records."""
    test_share: float = 0.0
    """n_test / n_train of a fold; not used on an official split."""
    done: int | None = None
    """Greatest number of runs of a recipe that have results; None where all planned runs have."""

    @property
    def trained(self) -> bool:
        """Whether models are trained here; false for a model that was trained elsewhere."""
        return self.official or self.folds > 1

    @property
    def runs(self) -> int:
        """Number of trials of each recipe."""
        return self.folds * self.repeats

    @property
    def run(self) -> str:
        """The word for one trial of a recipe: ``seed`` or ``fold``."""
        return "seed" if self.official else "fold"

    def summarise(self, runs: Runs) -> Summary:
        """Returns the mean over runs with its 95 % interval; of a single run, its own interval over records.

        An interval from a t distribution may extend beyond the possible values (a share above 1). It is truncated at
        the least
        and the greatest possible value. The true value lies within these, so no coverage is lost.

        Args:
            runs: the metric over r runs.

        Returns:
            The summary; its interval is NaN where it cannot be computed.
        """
        count = len(runs.values)
        if count == 1:
            value, low, high = (float(end[0]) for end in (runs.values, runs.low, runs.high))
            return self._possible(Summary(mean=value, deviation=math.nan, low=low, high=high, count=1), runs)
        plain = summarise(runs.values, test_share=0.0 if self.official else self.test_share)
        if count == 0 or not self.official:
            return self._possible(plain, runs)
        below, above = runs.reach
        reach = plain.high - plain.mean
        low, high = plain.mean - math.hypot(below, reach), plain.mean + math.hypot(above, reach)
        return self._possible(replace(plain, low=low, high=high), runs)

    def _possible(self, summary: Summary, runs: Runs) -> Summary:
        """Returns the summary with its interval truncated to possible values, and the number of runs of the design."""
        low, high = (min(max(end, runs.least), runs.most) for end in (summary.low, summary.high))
        known = not math.isnan(summary.low)
        return replace(
            summary, low=low if known else math.nan, high=high if known else math.nan, of=max(self.runs, summary.count)
        )

    def compare(self, runs: Runs, baseline: Runs) -> Comparison:
        """Compares two recipes, paired run by run.

        Args:
            runs: the metric of the recipe.
            baseline: the same metric of the recipe to compare with, on the same runs.

        Returns:
            The mean of ``runs − baseline`` with its interval and p-value.

        Raises:
            ValueError: the two are not paired, or fewer than two pairs.
        """
        return self._contrast((runs, baseline), (1, -1))

    def against_limit(self, runs: Runs, limit: float, *, less: Runs | None = None) -> LimitTest:
        """Runs one-sided tests of a mean against a limit.

        If the true value equals the limit, each p-value falls below 2.5 % in at most 2.5 % of all cases. Over folds
        this is
        the t-test with the corrected variance. On an official split it is the test whose interval combines records and
        seeds.
        Where every fold gave the same value, their spread gives no information, and the interval over the records of
        one fold
        is used: 114 errors of 114 in each fold are then clearly above 50 %. A model that was trained elsewhere is
        tested by
        the interval over its records.

        Args:
            runs: the metric over r runs.
            limit: in the unit of the metric.
            less: the same metric of another recipe, paired run by run: the mean difference to it is tested.

        Returns:
            The mean with its interval and both p-values.

        Raises:
            ValueError: the two are not paired.
        """
        total = runs if less is None else weighed((runs, less), (1, -1))
        count = len(total.values)
        if count == 0 or (count == 1 and self.trained):
            value = float(total.values.mean()) if count else math.nan
            return LimitTest(value=value, low=math.nan, high=math.nan, p_above=math.nan, p_below=math.nan, count=count)
        if count == 1:
            return _of_single(float(total.values[0]), limit, total.over_records)
        spread = float(np.ptp(total.values)) > TINY * max(1.0, abs(limit))
        of_records = self.official or not spread
        tested = paired_test(
            total.values - limit,
            test_share=0.0 if self.official else self.test_share,
            reach=total.over_records if of_records else CERTAIN,
        )
        upper = tested.p / 2 if tested.difference > 0 else 1 - tested.p / 2
        return LimitTest(
            value=tested.difference + limit,
            low=tested.low + limit,
            high=tested.high + limit,
            p_above=upper,
            p_below=1 - upper,
            count=count,
            by_record=tested.by_record,
        )

    def reach_of_test(self, level: float) -> float:
        """Returns the distance from a limit that a mean needs to be significant, in standard deviations over runs.

        Args:
            level: of the one-sided test. On an official split the uncertainty of the records comes on top.

        Returns:
            The distance in standard deviations of the values over runs.
        """
        share = 0.0 if self.official else self.test_share
        return float(special.stdtrit(self.runs - 1, 1 - level)) * math.sqrt(1 / self.runs + share)

    def interaction(self, neither: Runs, first: Runs, second: Runs, both: Runs) -> Comparison:
        """Tests the interaction of two factors: whether the joint effect differs from the sum of the single effects.

        ``both − first − second + neither`` is the interaction of the 2 × 2 analysis of variance with repeated measures
        on each
        run. Its F is the square of this t where runs are independent; here the variance is corrected for the training
        records
        that runs share. The verdict ``higher`` means that both together give a higher value than the sum, not a better
        one.

        Args:
            neither: the metric without both factors.
            first: with the first factor alone.
            second: with the second factor alone.
            both: with both factors.

        Returns:
            The mean interaction with its interval and p-value.

        Raises:
            ValueError: the four are not paired, or fewer than two runs.
        """
        return self._contrast((both, first, second, neither), (1, -1, -1, 1))

    def _contrast(self, runs: Sequence[Runs], weights: Sequence[float]) -> Comparison:
        """Tests a weighted sum of metrics against 0."""
        total = weighed(runs, weights)
        if not self.official:
            return paired_test(total.values, test_share=self.test_share)
        return paired_test(total.values, test_share=0.0, reach=total.over_records)


def _of_single(value: float, limit: float, reach: Reach) -> LimitTest:
    """Tests the value of a single model, or the difference of two, against a limit by its records alone."""
    facing, upper = (reach.below if value > limit else reach.above), math.nan
    if facing(Z) > 0:
        half = level_at(abs(value - limit), facing, 0.0, 1) / 2
        upper = half if value > limit else 1 - half
    return LimitTest(
        value=value,
        low=value - reach.below(Z),
        high=value + reach.above(Z),
        p_above=upper,
        p_below=1 - upper,
        count=1,
        by_record=isinstance(reach, PairedReach),
    )
