"""Statistics over folds, repeats and seeds: means, comparisons and tests. ``assay.intervals`` has those of records.

Folds share training data, so differences over k folds × r repeats are not independent. Means and tests of
cross-validation use the corrected variance of Nadeau and Bengio (2003), as extended to repeated cross-validation by
Bouckaert and Frank (2004): the sample variance times ``1/(kr) + n_test/n_train``, on ``kr − 1`` degrees of freedom.

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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import optimize, special, stats

from assay.intervals import LEVEL
from assay.outcomes import Outcomes
from assay.paired import NormalReach, PairedReach, Reach, paired_reach

_Z = float(special.ndtri((1 + LEVEL) / 2))
_POWER = 0.8
_TINY = 1e-12
"""Figures that differ by less than this are treated as equal."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One metric of one recipe over all folds and repeats, or seeds."""

    mean: float
    deviation: float
    """Standard deviation over folds or seeds, NaN of a single one."""
    low: float
    high: float
    """Ends of the 95 % interval of the mean, by the rule of the design; NaN where it cannot be computed."""
    count: int
    of: int = field(default=0, compare=False)
    """Runs of the design, of which ``count`` have a value; 0 where no design is known."""

    @property
    def partial(self) -> bool:
        """Whether the mean rests on fewer runs than the design has."""
        return self.count < self.of


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Difference between two recipes on the same folds and seeds."""

    difference: float
    """Mean of (recipe − baseline)."""
    low: float
    high: float
    """Ends of the 95 % interval of the difference."""
    p: float
    """Two-sided p, by the rule of the design."""
    p_holm: float
    """p after Holm's correction over the family it was tested in; equals ``p`` until then."""
    effect: float
    """Mean difference in standard deviations of the differences (Cohen's d for pairs)."""
    detectable: float
    """Smallest true difference that this design finds with 80 % power at the 5 % level."""
    count: int
    by_record: bool = False
    """Whether the uncertainty over records is that of pairs, because the outcome of each record is known for both."""

    @property
    def verdict(self) -> str:
        """``higher``, ``lower`` or ``inconclusive`` at the 5 % level, after Holm's correction."""
        if not self.p_holm < 1 - LEVEL:
            return "inconclusive"
        return "higher" if self.difference > 0 else "lower"


def summarise(values: Sequence[float] | np.ndarray, *, test_share: float) -> Summary:
    """Returns the mean over folds with its corrected 95 % interval.

    Args:
        values: (r,) one for each fold and repeat.
        test_share: n_test / n_train of a fold.

    Returns:
        The summary; its interval is NaN for fewer than two values.
    """
    runs = np.asarray(values, float)
    if len(runs) < 2:
        mean = float(runs.mean()) if len(runs) else math.nan
        return Summary(mean=mean, deviation=math.nan, low=math.nan, high=math.nan, count=len(runs))
    mean, error = float(runs.mean()), _error(runs, test_share)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(runs) - 1)) * error
    return Summary(mean=mean, deviation=float(runs.std(ddof=1)), low=mean - reach, high=mean + reach, count=len(runs))


def compare(
    values: Sequence[float] | np.ndarray, baseline: Sequence[float] | np.ndarray, *, test_share: float
) -> Comparison:
    """Runs the corrected resampled t-test on values that are paired by fold.

    Args:
        values: (r,) one for each fold and repeat.
        baseline: (r,) the values to compare with, in the same order.
        test_share: n_test / n_train of a fold.

    Returns:
        The mean of ``values − baseline`` with its interval and p-value.

    Raises:
        ValueError: the two are not paired, or fewer than two pairs.
    """
    differences = np.asarray(values, float) - np.asarray(baseline, float)
    return _tested(differences, test_share=test_share)


_CERTAIN = NormalReach()


def _tested(differences: np.ndarray, *, test_share: float, reach: Reach = _CERTAIN) -> Comparison:
    """Returns the mean difference with its interval and p-value.

    Args:
        differences: (r,) one for each pair.
        reach: interval over the test records around the mean.
    """
    count = len(differences)
    if count < 2:
        raise ValueError(f"{count} pair allows no test; use at least 2 folds or seeds")
    mean, error, deviation = float(differences.mean()), _error(differences, test_share), differences.std(ddof=1)
    tiny = _TINY * max(1.0, abs(mean))
    facing = reach.below if mean > 0 else reach.above
    # All pairs differ by the same amount and there is no other uncertainty: no test is possible.
    without_test = 1.0 if mean == 0 else math.nan
    p = without_test if max(error, facing(_Z)) <= tiny else _level_at(abs(mean), facing, error, count - 1)
    below, above = reach.below(_Z), reach.above(_Z)
    critical, power = (float(special.stdtrit(count - 1, share)) for share in ((1 + LEVEL) / 2, _POWER))
    return Comparison(
        difference=mean,
        low=mean - math.hypot(below, critical * error),
        high=mean + math.hypot(above, critical * error),
        p=p,
        p_holm=p,
        effect=float(mean / deviation) if error > tiny else 0.0 if mean == 0 else math.nan,
        detectable=math.hypot((1 + float(special.ndtri(_POWER)) / _Z) * max(below, above), (critical + power) * error),
        count=count,
        by_record=isinstance(reach, PairedReach),
    )


def _level_at(distance: float, of_records: Callable[[float], float], of_runs: float, degrees: int) -> float:
    """Returns the p-value: the level at which the combined interval reaches ``distance``; at least 1e-60.

    Args:
        distance: between the value and the limit.
        of_records: half width over records on this side, by quantile of the normal distribution.
        of_runs: standard error over runs.
        degrees: degrees of freedom of ``of_runs``.
    """

    def excess(log_p: float) -> float:
        half = math.exp(log_p) / 2
        records = of_records(-float(special.ndtri(half)))
        return math.hypot(records, special.stdtrit(degrees, half) * of_runs) - distance

    least = math.log(1e-60)  # beyond it the quantiles of t are not computed exactly
    if distance == 0:
        return 1.0
    return math.exp(least if excess(least) <= 0 else optimize.brentq(excess, least, 0.0))


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
        return NormalReach(below_error=below / _Z, above_error=above / _Z)

    @property
    def reach(self) -> tuple[float, float]:
        """Mean half widths of the runs' intervals over records, below and above their values; 0 without any."""
        if self.paired is not None:
            return self.paired.below(_Z), self.paired.above(_Z)
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
    paired = paired_reach([run.outcomes for run in runs], weights) if abs(sum(weights)) < _TINY else None
    if paired is not None:
        low, high = total - paired.below(_Z), total + paired.above(_Z)
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
        spread = float(np.ptp(total.values)) > _TINY * max(1.0, abs(limit))
        of_records = self.official or not spread
        tested = _tested(
            total.values - limit,
            test_share=0.0 if self.official else self.test_share,
            reach=total.over_records if of_records else _CERTAIN,
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
            return _tested(total.values, test_share=self.test_share)
        return _tested(total.values, test_share=0.0, reach=total.over_records)


def _of_single(value: float, limit: float, reach: Reach) -> LimitTest:
    """Tests the value of a single model, or the difference of two, against a limit by its records alone."""
    facing, upper = (reach.below if value > limit else reach.above), math.nan
    if facing(_Z) > 0:
        half = _level_at(abs(value - limit), facing, 0.0, 1) / 2
        upper = half if value > limit else 1 - half
    return LimitTest(
        value=value,
        low=value - reach.below(_Z),
        high=value + reach.above(_Z),
        p_above=upper,
        p_below=1 - upper,
        count=1,
        by_record=isinstance(reach, PairedReach),
    )


def holm(ps: Sequence[float]) -> list[float]:
    """Returns p-values after Holm's (1979) step-down correction, which controls the family-wise error rate.

    It is computed here because the function of statsmodels collects garbage at every call, which costs seconds on a
    page
    with many tests.

    Args:
        ps: p-values of one family; NaN entries are no tests and stay NaN.

    Returns:
        The corrected p-values in the same order, at most 1.
    """
    given = np.asarray(ps, float)
    tested = np.flatnonzero(~np.isnan(given))
    order = tested[np.argsort(given[tested])]
    corrected = np.full_like(given, math.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(given[order] * np.arange(len(order), 0, -1)), 1.0)
    return corrected.tolist()


@dataclass(frozen=True, kw_only=True)
class BlockedAnova:
    """Result of a test whether recipes differ at all.

    It is descriptive: its p-value ignores that folds share training data, and that seeds share test records.
    """

    f: float
    p: float
    share: float
    """Partial η²: the share of the variance, without that between folds, that recipes explain."""


def blocked_anova(table: np.ndarray) -> BlockedAnova:
    """Runs a two-way analysis of variance without interaction, with folds as blocks.

    Args:
        table: (folds, recipes) without missing values.

    Returns:
        F, p and partial η² of the recipes.
    """
    import pandas as pd
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    folds, recipes = np.indices(table.shape)
    frame = pd.DataFrame({"value": table.ravel(), "fold": folds.ravel(), "recipe": recipes.ravel()})
    result = anova_lm(ols("value ~ C(recipe) + C(fold)", frame).fit())
    between, residual = result.loc["C(recipe)", "sum_sq"], result.loc["Residual", "sum_sq"]
    return BlockedAnova(
        f=float(result.loc["C(recipe)", "F"]),
        p=float(result.loc["C(recipe)", "PR(>F)"]),
        share=float(between / (between + residual)) if between + residual > 0 else 0.0,
    )


def signed_rank_floor(pairs: int) -> float:
    """Returns the smallest two-sided p-value that an exact signed-rank test can give: 0.0625 for five pairs.

    Args:
        pairs: number of pairs.

    Returns:
        The smallest p-value.
    """
    return 2.0 ** (1 - pairs)


def _error(values: np.ndarray, test_share: float) -> float:
    return math.sqrt((1 / len(values) + test_share) * float(values.var(ddof=1)))
