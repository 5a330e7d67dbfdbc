"""Statistics that would pass peer review: intervals of one measurement, and comparisons over folds, repeats and seeds.

Folds share training data, so differences over k folds × r repeats are no independent sample. Means and tests of
cross-validation use the corrected variance of Nadeau and Bengio (2003), as extended to repeated cross-validation by
Bouckaert and Frank (2004): the sample variance times ``1/(kr) + n_test/n_train``, on ``kr − 1`` degrees of freedom.

On an official split the r repeats differ by their seed alone and are tested on the same records. Two things are
uncertain then: which records these are, which more seeds do not make surer, and which seeds were drawn. Their reaches
are joined by square-and-add on each side (MOVER; Zou and Donner 2008): the mean of the runs' own intervals over
records, not divided by r, and ``t · s / √r`` on ``r − 1`` degrees of freedom. A difference of shares is paired by
record where it is known what became of each (``assay.paired``). Of other figures, the reach over records is joined from
those of both sides, as if each had been asked of records of its own: conservative, since both were asked of the same.
Its p is the level at which this interval ends at 0, so that the two never disagree.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import optimize, special, stats

from assay.outcomes import Outcomes
from assay.paired import NormalReach, PairedReach, Reach, paired_reach

LEVEL = 0.95
_Z = float(special.ndtri((1 + LEVEL) / 2))
_POWER = 0.8
_TINY = 1e-12
"""Figures that differ by less are the same."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One metric of one recipe over all folds and repeats, or seeds."""

    mean: float
    deviation: float
    """Standard deviation over folds or seeds, NaN of a single one."""
    low: float
    high: float
    """Ends of the 95 % interval of the mean, by the rule of the design; NaN where nothing tells."""
    count: int
    of: int = field(default=0, compare=False)
    """Runs of the design, of which ``count`` have a value; 0 where no design is known."""

    @property
    def partial(self) -> bool:
        """Whether fewer runs stand behind the mean than the design has."""
        return self.count < self.of


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two recipes on the same folds and seeds."""

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
    """Whether the records' part of the uncertainty is that of pairs: what became of each record is known of both."""

    @property
    def verdict(self) -> str:
        """What may be said at the 5 % level, after Holm."""
        if not self.p_holm < 1 - LEVEL:
            return "inconclusive"
        return "higher" if self.difference > 0 else "lower"


def proportion(successes: int, n: int) -> Interval:
    """A share of ``n`` records with Wilson's (1927) 95 % interval."""
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} records is no proportion")
    test = stats.binomtest(int(successes), int(n)).proportion_ci(LEVEL, method="wilson")
    return Interval(value=successes / n, low=float(test.low), high=float(test.high))


def proportion_of_clusters(hits: np.ndarray, clusters: np.ndarray) -> Interval:
    """A share of records that come in clusters, with Wilson's 95 % interval of as many independent records.

    How many these are follows from the variance between clusters (the design effect of a survey; Kish 1965, Korn and
    Graubard 1998): never more than there are records; the quantile is then that of t on the clusters less one, as the
    variance is estimated. Where each cluster agrees within itself, as copies of a record do, it counts as one record
    (weighed by its size).

    Args:
        hits: (n,) bool.
        clusters: (n,) the patient of each record, or whatever holds records that tell the same.
    """
    n = len(hits)
    _, place = np.unique(clusters, return_inverse=True)
    sizes, sums = np.bincount(place), np.bincount(place, hits)
    count, p = len(sizes), float(hits.mean())
    if count == n:
        return proportion(int(hits.sum()), n)
    if count < 2:
        return Interval(value=p, low=0.0, high=1.0)
    z, effective = _Z, n**2 / float((sizes**2).sum())
    if not np.isin(sums / sizes, (0.0, 1.0)).all():
        variance = count / (count - 1) * float(((sums - p * sizes) ** 2).sum()) / n**2
        effective = min(p * (1 - p) / variance, n) if variance > 0 else n
        z = float(special.stdtrit(count - 1, (1 + LEVEL) / 2))
    middle = (p + z**2 / (2 * effective)) / (1 + z**2 / effective)
    reach = z / (1 + z**2 / effective) * math.sqrt(p * (1 - p) / effective + z**2 / (4 * effective**2))
    return Interval(value=p, low=max(0.0, min(p, middle - reach)), high=min(1.0, max(p, middle + reach)))


def bootstrap(
    statistic: Callable[[np.ndarray], float],
    n: int,
    *,
    generator: np.random.Generator,
    draws: int = 200,
    groups: np.ndarray | None = None,
) -> Interval:
    """A statistic of record positions with its percentile 95 % interval; whole groups are drawn where there are any.

    Args:
        statistic: from positions (with repetition) to a value; NaN where a draw has none, and then not counted.
        n: number of records.
        groups: (n,) the patient of each record.
    """
    each = bootstrap_curve(lambda rows: np.array([statistic(rows)]), n, generator=generator, draws=draws, groups=groups)
    return each[0]


def bootstrap_curve(
    statistic: Callable[[np.ndarray], np.ndarray],
    n: int,
    *,
    generator: np.random.Generator,
    draws: int = 200,
    groups: np.ndarray | None = None,
) -> list[Interval]:
    """``bootstrap`` of many figures of the same draws at once: an interval for each entry of ``statistic``."""
    members = None if groups is None else _Members.of(groups)
    units = n if members is None else len(members.sizes)
    values = []
    for _ in range(draws if units > 1 else 0):
        chosen = generator.integers(units, size=units)
        values.append(statistic(chosen if members is None else members.at(chosen)))
    found = []
    for place, value in enumerate(statistic(np.arange(n))):
        drawn = np.array([entries[place] for entries in values], float)
        known = drawn[np.isfinite(drawn)]
        low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(known) else (math.nan, math.nan)
        found.append(Interval(value=float(value), low=float(low), high=float(high)))
    return found


@dataclass(frozen=True, kw_only=True)
class _Members:
    """Positions of the records of each group, one group after the other."""

    order: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, groups: np.ndarray) -> "_Members":
        order = np.argsort(groups, kind="stable")
        _, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
        return cls(order=order, starts=starts, sizes=sizes)

    def at(self, chosen: np.ndarray) -> np.ndarray:
        """Positions of the records of the chosen groups, group by group, with repetition."""
        sizes = self.sizes[chosen]
        ends = np.cumsum(sizes)
        within = np.arange(ends[-1]) - np.repeat(ends - sizes, sizes)
        return self.order[np.repeat(self.starts[chosen], sizes) + within]


def auroc(positive: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve, (n,) bool and (n,) scores: Mann and Whitney's U over its greatest value.

    NaN without both classes.
    """
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if positives == 0 or negatives == 0:
        return math.nan
    ranks = stats.rankdata(score)[positive].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def summarise(values: Sequence[float] | np.ndarray, *, test_share: float) -> Summary:
    """Mean and corrected 95 % interval over folds.

    Args:
        values: one a fold and repeat.
        test_share: n_test / n_train of a fold.
    """
    known = np.asarray(values, float)
    if len(known) < 2:
        mean = float(known.mean()) if len(known) else math.nan
        return Summary(mean=mean, deviation=math.nan, low=math.nan, high=math.nan, count=len(known))
    mean, error = float(known.mean()), _error(known, test_share)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(known) - 1)) * error
    return Summary(mean=mean, deviation=float(known.std(ddof=1)), low=mean - reach, high=mean + reach, count=len(known))


def compare(
    values: Sequence[float] | np.ndarray, baseline: Sequence[float] | np.ndarray, *, test_share: float
) -> Comparison:
    """Corrected resampled t-test of values that are paired by fold.

    Raises:
        ValueError: the two are not paired, or fewer than two pairs.
    """
    differences = np.asarray(values, float) - np.asarray(baseline, float)
    return _tested(differences, test_share=test_share)


_CERTAIN = NormalReach()


def _tested(differences: np.ndarray, *, test_share: float, reach: Reach = _CERTAIN) -> Comparison:
    """Mean difference with interval and p.

    Args:
        differences: (r,) one a pair.
        reach: of the test records, around the mean.
    """
    count = len(differences)
    if count < 2:
        raise ValueError(f"{count} pair allows no test; use at least 2 folds or seeds")
    mean, error, deviation = float(differences.mean()), _error(differences, test_share), differences.std(ddof=1)
    tiny = _TINY * max(1.0, abs(mean))
    facing = reach.below if mean > 0 else reach.above
    # Every pair differs by the same amount and nothing else is uncertain: nothing to test against or to conclude from.
    untold = 1.0 if mean == 0 else math.nan
    p = untold if max(error, facing(_Z)) <= tiny else _level_at(abs(mean), facing, error, count - 1)
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
    """The p at which an interval that joins both errors by square-and-add reaches so far; 1e-60 if it is smaller.

    Args:
        of_records: how far the records reach on this side, by quantile of the normal distribution.
        of_runs: standard error of the runs, on so many degrees of freedom.
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
    """A mean, or a difference of two means, held against a limit by one-sided tests."""

    value: float
    low: float
    high: float
    """Ends of the 95 % interval: the limit lies outside exactly where one of the tests is below 2.5 %."""
    p_above: float
    """One-sided p that the truth is at most the limit: small where the figure lies surely above; NaN if untestable."""
    p_below: float
    """The same for the other side."""
    count: int
    """Runs behind the value."""
    by_record: bool = False
    """Whether a difference is paired by record; see ``Comparison``."""


@dataclass(frozen=True, kw_only=True)
class Runs:
    """One figure of one recipe, (r,) an entry a fold or seed, each with the ends of its own 95 % interval over records.

    Ends are NaN where a figure has no such interval, as of seconds.
    """

    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    least: float = -math.inf
    """Least possible value of the figure: 0 of a share. The interval of a mean is cut there."""
    most: float = math.inf
    """Greatest possible value, likewise: 1 of a share."""
    outcomes: tuple[Outcomes | None, ...] = ()
    """What became of each record in each run, where it is known; empty where it is of none."""
    paired: PairedReach | None = None
    """Of a difference of runs on the same records: how sure it is by pairs, in place of the ends."""

    @property
    def over_records(self) -> Reach:
        """How sure the mean over runs is as far as the records go."""
        if self.paired is not None:
            return self.paired
        below, above = self.reach
        return NormalReach(below_error=below / _Z, above_error=above / _Z)

    @property
    def reach(self) -> tuple[float, float]:
        """How far the intervals over records reach below and above their values, mean over runs; 0 without any."""
        if self.paired is not None:
            return self.paired.below(_Z), self.paired.above(_Z)
        below, above = _beyond(self.values - self.low), _beyond(self.high - self.values)
        known = ~(np.isnan(below) | np.isnan(above))
        return (float(below[known].mean()), float(above[known].mean())) if known.any() else (0.0, 0.0)


def weighed(runs: Sequence[Runs], weights: Sequence[float]) -> Runs:
    """A weighed sum of figures, run by run.

    A difference of shares is paired by record where all were asked of the same records and it is known what became of
    each. Else its reach over records is joined from theirs by square-and-add.
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
    """A percentile interval of a biased figure may leave out the figure itself: then it reaches no way on that side."""
    return np.maximum(reach, 0.0)


@dataclass(frozen=True, kw_only=True)
class Design:
    """How the runs of a cohort relate to each other: the one place that decides which statistics hold for them."""

    folds: int
    """Folds of one repeat; 1 on an official split, and of a given model."""
    repeats: int
    official: bool = False
    """Whether the data set's own split is kept: then repeats vary the seed and share their test records."""
    test_share: float = 0.0
    """n_test / n_train of a fold; has no meaning on an official split."""
    done: int | None = None
    """Runs of a recipe that have results, at most; None where all that were planned have."""

    @property
    def trained(self) -> bool:
        """Whether anything is trained here, rather than given."""
        return self.official or self.folds > 1

    @property
    def runs(self) -> int:
        """Trials of each recipe."""
        return self.folds * self.repeats

    @property
    def run(self) -> str:
        """What one trial of a recipe is called."""
        return "seed" if self.official else "fold"

    def summarise(self, runs: Runs) -> Summary:
        """Mean and 95 % interval over runs; of a single run, its own interval over records.

        An interval from a t distribution may reach beyond what is possible (a share above 1). It is truncated at the
        least and the greatest possible value: the truth lies within these, so no coverage is lost.
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
        """The summary with its interval truncated, and the number of runs that the design has."""
        low, high = (min(max(end, runs.least), runs.most) for end in (summary.low, summary.high))
        known = not math.isnan(summary.low)
        return replace(
            summary, low=low if known else math.nan, high=high if known else math.nan, of=max(self.runs, summary.count)
        )

    def compare(self, runs: Runs, baseline: Runs) -> Comparison:
        """Paired run by run.

        Raises:
            ValueError: the two are not paired, or fewer than two pairs.
        """
        return self._contrast((runs, baseline), (1, -1))

    def against_limit(self, runs: Runs, limit: float, *, less: Runs | None = None) -> LimitTest:
        """One-sided tests of a mean against a limit; with the truth at the limit, each is below 2.5 % at most so often.

        Over folds this is the t-test with the corrected variance; on an official split the test whose interval joins
        records and seeds. Where every fold gave the same figure their spread says nothing: the records of one fold
        stand in, so that 114 errors of 114 in each fold are known to lie above 50 %. A given model is tested by the
        interval over its records.

        Args:
            less: figures of another recipe, paired run by run: the mean difference to them is tested.

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
        """How many standard deviations of its figures over runs a mean must lie beyond a limit to be shown so.

        Args:
            level: of the one-sided test. On an official split the uncertainty of the records comes on top.
        """
        share = 0.0 if self.official else self.test_share
        return float(special.stdtrit(self.runs - 1, 1 - level)) * math.sqrt(1 / self.runs + share)

    def interaction(self, neither: Runs, first: Runs, second: Runs, both: Runs) -> Comparison:
        """How far what two factors do together is from the sum of what each does alone, run by run.

        ``both − first − second + neither`` is the interaction of the 2 × 2 analysis of variance with repeated measures
        on each run, whose F is the square of this t where runs are independent; here the variance is corrected for
        what they share. ``higher`` says that both together give a higher figure than the sum, not a better one.

        Raises:
            ValueError: the four are not paired, or fewer than two runs.
        """
        return self._contrast((both, first, second, neither), (1, -1, -1, 1))

    def _contrast(self, runs: Sequence[Runs], weights: Sequence[float]) -> Comparison:
        """A weighed sum of figures against 0."""
        total = weighed(runs, weights)
        if not self.official:
            return _tested(total.values, test_share=self.test_share)
        return _tested(total.values, test_share=0.0, reach=total.over_records)


def _of_single(value: float, limit: float, reach: Reach) -> LimitTest:
    """The figure of a given model, or the difference of two, against a limit by its records alone."""
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
    """Holm's (1979) step-down correction: the family-wise error stays at the level of one test.

    Four lines of our own: statsmodels' collects garbage at every call, which costs a page a second or two.
    """
    given = np.asarray(ps, float)
    tested = np.flatnonzero(~np.isnan(given))
    order = tested[np.argsort(given[tested])]
    corrected = np.full_like(given, math.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(given[order] * np.arange(len(order), 0, -1)), 1.0)
    return corrected.tolist()


@dataclass(frozen=True, kw_only=True)
class BlockedAnova:
    """Do recipes differ at all? Descriptive: its p ignores that folds share training data, and seeds their records."""

    f: float
    p: float
    share: float
    """Partial η²: the share of the variance, folds taken out, that recipes explain."""


def blocked_anova(table: np.ndarray) -> BlockedAnova:
    """Two-way analysis of variance without interaction.

    Args:
        table: (folds, recipes), complete.
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
    """The smallest two-sided p that an exact signed-rank test of so many pairs can give: 0.0625 for five."""
    return 2.0 ** (1 - pairs)


def _error(values: np.ndarray, test_share: float) -> float:
    return math.sqrt((1 / len(values) + test_share) * float(values.var(ddof=1)))
