"""Statistics over folds, repeats and seeds: means, comparisons and tests. ``assay.intervals`` has those of records.

Folds share training data, so differences over k folds × r repeats are not independent. Means and tests of
cross-validation use the corrected variance of Nadeau and Bengio (2003), as extended to repeated cross-validation by
Bouckaert and Frank (2004): the sample variance times ``1/(kr) + n_test/n_train``, on ``kr − 1`` degrees of freedom.

``assay.design`` says which statistics are valid for the runs of a study, and combines them with those of records.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import optimize, special, stats

from assay.intervals import LEVEL
from assay.paired import NormalReach, PairedReach, Reach

Z = float(special.ndtri((1 + LEVEL) / 2))
"""Quantile of the normal distribution at which an interval of this level ends."""
_POWER = 0.8
TINY = 1e-12
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
    return paired_test(differences, test_share=test_share)


CERTAIN = NormalReach()
"""No uncertainty over the test records."""


def paired_test(differences: np.ndarray, *, test_share: float, reach: Reach = CERTAIN) -> Comparison:
    """Returns the mean difference with its interval and p-value.

    Args:
        differences: (r,) one for each pair.
        test_share: n_test / n_train of a fold.
        reach: interval over the test records around the mean.

    Returns:
        The comparison.

    Raises:
        ValueError: fewer than two pairs.
    """
    count = len(differences)
    if count < 2:
        raise ValueError(f"{count} pair allows no test; use at least 2 folds or seeds")
    mean, error, deviation = float(differences.mean()), _error(differences, test_share), differences.std(ddof=1)
    tiny = TINY * max(1.0, abs(mean))
    facing = reach.below if mean > 0 else reach.above
    # All pairs differ by the same amount and there is no other uncertainty: no test is possible.
    without_test = 1.0 if mean == 0 else math.nan
    p = without_test if max(error, facing(Z)) <= tiny else level_at(abs(mean), facing, error, count - 1)
    below, above = reach.below(Z), reach.above(Z)
    critical, power = (float(special.stdtrit(count - 1, share)) for share in ((1 + LEVEL) / 2, _POWER))
    return Comparison(
        difference=mean,
        low=mean - math.hypot(below, critical * error),
        high=mean + math.hypot(above, critical * error),
        p=p,
        p_holm=p,
        effect=float(mean / deviation) if error > tiny else 0.0 if mean == 0 else math.nan,
        detectable=math.hypot((1 + float(special.ndtri(_POWER)) / Z) * max(below, above), (critical + power) * error),
        count=count,
        by_record=isinstance(reach, PairedReach),
    )


def level_at(distance: float, of_records: Callable[[float], float], of_runs: float, degrees: int) -> float:
    """Returns the p-value: the level at which the combined interval reaches ``distance``; at least 1e-60.

    Args:
        distance: between the value and the limit.
        of_records: half width over records on this side, by quantile of the normal distribution.
        of_runs: standard error over runs.
        degrees: degrees of freedom of ``of_runs``.

    Returns:
        The p-value.
    """

    def excess(log_p: float) -> float:
        half = math.exp(log_p) / 2
        records = of_records(-float(special.ndtri(half)))
        return math.hypot(records, special.stdtrit(degrees, half) * of_runs) - distance

    least = math.log(1e-60)  # beyond it the quantiles of t are not computed exactly
    if distance == 0:
        return 1.0
    return math.exp(least if excess(least) <= 0 else optimize.brentq(excess, least, 0.0))


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
