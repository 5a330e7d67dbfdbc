"""Statistics that would pass peer review: intervals of one measurement, and comparisons over folds and repeats.

Folds share training data, so differences over k folds × r repeats are no independent sample. Means and tests here use
the corrected variance of Nadeau and Bengio (2003), as extended to repeated cross-validation by Bouckaert and Frank
(2004): the sample variance times ``1/(kr) + n_test/n_train``, on ``kr − 1`` degrees of freedom.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One metric of one recipe over all folds and repeats."""

    mean: float
    deviation: float
    """Standard deviation over folds, NaN of a single one."""
    low: float
    high: float
    """Ends of the 95 % interval of the mean, by the corrected variance; NaN of a single fold."""
    count: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two recipes on the same folds and seeds."""

    difference: float
    """Mean of (recipe − baseline)."""
    low: float
    high: float
    """Ends of the 95 % interval of the difference."""
    p: float
    """Two-sided p of the corrected t-test."""
    p_holm: float
    """p after Holm's correction over the family it was tested in; equals ``p`` until then."""
    effect: float
    """Mean difference in standard deviations of the differences (Cohen's d for pairs)."""
    detectable: float
    """Smallest true difference that this design finds with 80 % power at the 5 % level."""
    count: int

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
    members = (
        [np.array([i]) for i in range(n)]
        if groups is None
        else [np.flatnonzero(groups == g) for g in np.unique(groups)]
    )
    values = []
    for _ in range(draws if len(members) > 1 else 0):
        chosen = generator.integers(len(members), size=len(members))
        values.append(statistic(chosen if groups is None else np.concatenate([members[i] for i in chosen])))
    known = np.array(values)[np.isfinite(values)]
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(known) else (math.nan, math.nan)
    return Interval(value=float(statistic(np.arange(n))), low=float(low), high=float(high))


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
    mean, error = float(known.mean()), _corrected_error(known, test_share)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(known) - 1)) * error
    return Summary(mean=mean, deviation=float(known.std(ddof=1)), low=mean - reach, high=mean + reach, count=len(known))


def compare(
    values: Sequence[float] | np.ndarray, baseline: Sequence[float] | np.ndarray, *, test_share: float
) -> Comparison:
    """Corrected resampled t-test of paired values.

    Raises:
        ValueError: the two are not paired, or fewer than two pairs.
    """
    differences = np.asarray(values, float) - np.asarray(baseline, float)
    count = len(differences)
    if count < 2:
        raise ValueError(f"{count} pair allows no test; use at least 2 folds")
    mean, error = float(differences.mean()), _corrected_error(differences, test_share)
    degrees = count - 1
    critical = float(stats.t.ppf((1 + LEVEL) / 2, degrees))
    if error <= 1e-12 * max(1.0, abs(mean)):
        # Every pair differs by the same amount: no spread to test against, so nothing may be concluded.
        p, effect = (1.0, 0.0) if mean == 0 else (math.nan, math.nan)
    else:
        p = float(2 * stats.t.sf(abs(mean) / error, degrees))
        effect = mean / float(differences.std(ddof=1))
    return Comparison(
        difference=mean,
        low=mean - critical * error,
        high=mean + critical * error,
        p=p,
        p_holm=p,
        effect=effect,
        detectable=(critical + float(stats.t.ppf(0.8, degrees))) * error,
        count=count,
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
    """Do recipes differ at all? Descriptive: folds share training data, which its p ignores."""

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


def _corrected_error(values: np.ndarray, test_share: float) -> float:
    return math.sqrt((1 / len(values) + test_share) * float(values.var(ddof=1)))
