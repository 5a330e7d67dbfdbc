"""Statistics against worked examples, closed forms and the implementations of others."""

import functools
import math
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import AnovaRM
from statsmodels.stats.multitest import multipletests

from assay.design import Design, Runs, weighed
from assay.intervals import proportion
from assay.statistics import Comparison, blocked_anova, compare, holm, signed_rank_floor, summarise

BASELINE = np.array([0.90, 0.91, 0.92, 0.93, 0.94])
# Differences of mean 0.03 and variance 0.00025. Five folds: n_test/n_train = 1/4, so the variance factor is 0.45,
# the error is sqrt(0.0001125), and t = 0.03 / error = sqrt(8) on 4 degrees of freedom.
BETTER = BASELINE + np.array([0.02, 0.04, 0.03, 0.05, 0.01])
ERROR = math.sqrt(0.0001125)
T_975, T_80 = 2.7764451052, 0.9409645736  # quantiles of t on 4 degrees of freedom, from tables

fractions = st.floats(0, 1, allow_nan=False)


def test_corrected_t_test_gives_the_worked_example() -> None:
    found = compare(BETTER, BASELINE, test_share=1 / 4)
    assert found.difference == pytest.approx(0.03)
    # Student's distribution on 4 degrees of freedom has a closed form: P(|T| > sqrt(8)) = 1 - 7/12 sqrt(8/3).
    assert found.p == pytest.approx(1 - 7 / 12 * math.sqrt(8 / 3), rel=1e-9)
    assert found.effect == pytest.approx(0.03 / math.sqrt(0.00025))
    assert (found.low, found.high) == pytest.approx((0.03 - T_975 * ERROR, 0.03 + T_975 * ERROR))
    assert found.count == 5


@given(st.lists(st.tuples(fractions, fractions), min_size=3, max_size=25), st.floats(0, 1))
def test_corrected_t_test_is_the_naive_one_with_another_variance(pairs: list, share: float) -> None:
    values, baseline = np.array(pairs).T
    if np.ptp(values - baseline) < 1e-6:
        return
    naive = stats.ttest_rel(values, baseline)
    t = naive.statistic * math.sqrt((1 / len(pairs)) / (1 / len(pairs) + share))
    assert compare(values, baseline, test_share=share).p == pytest.approx(2 * stats.t.sf(abs(t), naive.df), abs=1e-9)


def test_detectable_difference_is_the_sum_of_both_quantiles() -> None:
    assert compare(BETTER, BASELINE, test_share=1 / 4).detectable == pytest.approx((T_975 + T_80) * ERROR)


def test_equal_values_have_a_p_of_one() -> None:
    found = compare(BASELINE, BASELINE, test_share=1 / 4)
    assert (found.p, found.effect, found.verdict) == (1.0, 0.0, "inconclusive")


def test_a_constant_difference_has_no_spread_to_test_against() -> None:
    found = compare(np.array([2.0, 3.0, 4.0]), np.array([1.0, 2.0, 3.0]), test_share=1 / 4)
    assert (found.low, found.high, found.verdict) == (1.0, 1.0, "inconclusive")
    assert math.isnan(found.p)
    assert math.isnan(found.effect)


@pytest.mark.parametrize(("values", "baseline"), [([0.9], [0.8]), ([], [])])
def test_a_single_pair_allows_no_test(values: list[float], baseline: list[float]) -> None:
    with pytest.raises(ValueError, match="pair allows no test; use at least 2 folds"):
        compare(values, baseline, test_share=1 / 4)


def test_unequal_numbers_of_values_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        compare([1.0, 2.0, 3.0], [1.0, 2.0], test_share=1 / 4)


@pytest.mark.parametrize(
    ("difference", "p_holm", "verdict"),
    [(0.1, 0.049, "higher"), (-0.1, 0.049, "lower"), (0.1, 0.051, "inconclusive"), (0.1, math.nan, "inconclusive")],
)
def test_the_verdict_follows_p_after_holm(difference: float, p_holm: float, verdict: str) -> None:
    found = Comparison(difference=difference, low=0, high=0, p=0.001, p_holm=p_holm, effect=1, detectable=1, count=5)
    assert found.verdict == verdict


@settings(max_examples=20)
@given(st.lists(fractions, min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(ps: list[float]) -> None:
    with mock.patch("gc.collect"):  # statsmodels collects garbage at every call: most of a second among many tests
        expected = multipletests(ps, method="holm")[1].tolist()
    assert holm(ps) == pytest.approx(expected)


def test_holm_gives_the_worked_example() -> None:
    # Of 0.01, 0.04, 0.03 the smallest is taken three times, the next twice, the last once but not below the one before.
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_interval_of_a_mean_has_its_closed_form() -> None:
    found = summarise(BETTER - BASELINE, test_share=1 / 4)
    assert (found.mean, found.deviation, found.count) == pytest.approx((0.03, math.sqrt(0.00025), 5))
    assert (found.low, found.high) == pytest.approx((0.03 - T_975 * ERROR, 0.03 + T_975 * ERROR))


def test_one_fold_has_a_mean_and_no_interval() -> None:
    found = summarise([0.9], test_share=1 / 4)
    assert (found.mean, found.count) == (0.9, 1)
    assert all(math.isnan(value) for value in (found.deviation, found.low, found.high))
    assert math.isnan(summarise([], test_share=1 / 4).mean)


# On an official split the runs are seeds, asked of the same records.
SEEDS = Design(folds=1, repeats=5, official=True)
T_975_OF_3 = 4.3026527299  # quantile of t on 2 degrees of freedom, from tables
Z_975, Z_80 = 1.9599639845, 0.8416212336


def runs(values: list[float], below: float = math.nan, above: float | None = None) -> Runs:
    """Each with an interval over records that reaches so far."""
    known = np.array(values)
    return Runs(values=known, low=known - below, high=known + (below if above is None else above))


def test_without_spread_over_seeds_the_interval_is_that_of_the_records() -> None:
    found = SEEDS.summarise(runs([0.8, 0.8, 0.8], 0.03, 0.05))
    assert (found.mean, found.low, found.high, found.deviation) == pytest.approx((0.8, 0.77, 0.85, 0.0))


def test_with_certain_records_the_interval_is_that_of_the_seeds() -> None:
    values = [0.8, 0.82, 0.84]
    reach = T_975_OF_3 * 0.02 / math.sqrt(3)
    for below in (0.0, math.nan):  # seconds have no interval over records
        found = SEEDS.summarise(runs(values, below))
        assert (found.low, found.high) == pytest.approx((0.82 - reach, 0.82 + reach))


def test_both_uncertainties_are_joined_by_square_and_add_on_each_side() -> None:
    reach = T_975_OF_3 * 0.02 / math.sqrt(3)
    found = SEEDS.summarise(runs([0.8, 0.82, 0.84], 0.03, 0.05))
    assert 0.82 - found.low == pytest.approx(math.hypot(0.03, reach))
    assert found.high - 0.82 == pytest.approx(math.hypot(0.05, reach))


def test_more_seeds_do_not_make_the_records_surer() -> None:
    generator = np.random.default_rng(0)
    many = SEEDS.summarise(runs(generator.normal(0.8, 0.001, 200).tolist(), 0.03))
    assert many.high - many.low == pytest.approx(0.06, rel=0.01)


def test_the_mean_reach_over_seeds_counts_and_a_missing_one_does_not() -> None:
    uneven = Runs(values=np.full(3, 0.8), low=np.array([0.78, 0.76, math.nan]), high=np.array([0.81, 0.83, math.nan]))
    found = SEEDS.summarise(uneven)
    assert (found.low, found.high) == pytest.approx((0.77, 0.82))


def test_a_percentile_interval_that_leaves_its_value_out_never_turns_round() -> None:
    biased = Runs(values=np.full(2, 0.03), low=np.full(2, 0.04), high=np.full(2, 0.07))
    found = SEEDS.summarise(biased)
    assert (found.low, found.high) == pytest.approx((0.03, 0.07))


@pytest.mark.parametrize("design", [SEEDS, Design(folds=5, repeats=1, test_share=1 / 4)])
def test_a_single_run_has_its_own_interval(design: Design) -> None:
    found = design.summarise(runs([0.8], 0.03, 0.05))
    assert (found.mean, found.low, found.high, found.count) == pytest.approx((0.8, 0.77, 0.85, 1))
    assert math.isnan(found.deviation)
    assert math.isnan(design.summarise(runs([])).mean)


def test_folds_keep_the_corrected_variance_whatever_their_own_intervals() -> None:
    folds = Design(folds=5, repeats=1, test_share=1 / 4)
    better, baseline = runs(BETTER.tolist(), 0.3), runs(BASELINE.tolist(), 0.3)
    assert folds.summarise(better) == summarise(BETTER, test_share=1 / 4)
    assert folds.compare(better, baseline) == compare(BETTER, BASELINE, test_share=1 / 4)


@pytest.mark.parametrize(
    ("design", "run", "trained", "count"),
    [
        (Design(folds=5, repeats=2), "fold", True, 10),
        (Design(folds=1, repeats=5, official=True), "seed", True, 5),
        (Design(folds=1, repeats=1), "fold", False, 1),
    ],
)
def test_a_design_knows_what_its_runs_are(design: Design, run: str, trained: bool, count: int) -> None:
    assert (design.run, design.trained, design.runs) == (run, trained, count)


def test_with_certain_records_a_comparison_is_the_paired_t_test() -> None:
    values, baseline = [0.91, 0.93, 0.90, 0.95], [0.90, 0.90, 0.91, 0.91]
    found = SEEDS.compare(runs(values, 0.0), runs(baseline, 0.0))
    assert found.p == pytest.approx(stats.ttest_rel(values, baseline).pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(stats.ttest_rel(values, baseline).confidence_interval(0.95)))
    assert SEEDS.compare(runs(values), runs(baseline)).p == pytest.approx(found.p)


def test_without_spread_over_seeds_a_comparison_is_a_z_test_of_the_records() -> None:
    found = SEEDS.compare(runs([0.90, 0.80, 0.85], 0.03 * Z_975), runs([0.85, 0.75, 0.80], 0.04 * Z_975))
    # Errors of 0.03 and 0.04 join to 0.05, one of which the difference is.
    assert (found.low, found.high) == pytest.approx((0.05 - 0.05 * Z_975, 0.05 + 0.05 * Z_975))
    assert found.p == pytest.approx(2 * stats.norm.sf(1))
    assert found.detectable == pytest.approx(0.05 * (Z_975 + Z_80))
    assert math.isnan(found.effect)


def test_the_reach_of_a_difference_crosses_over() -> None:
    # The difference is small where its first term is small and its second great.
    found = weighed([runs([0.9], 0.03, 0.10), runs([0.8], 0.20, 0.04)], (1, -1))
    assert (found.values[0], found.low[0], found.high[0]) == pytest.approx(
        (0.1, 0.1 - 0.05, 0.1 + math.hypot(0.1, 0.2))
    )
    doubled = weighed([runs([0.9], 0.03, 0.10)], (-2,))
    assert (doubled.low[0], doubled.high[0]) == pytest.approx((-1.8 - 0.2, -1.8 + 0.06))


@given(st.lists(st.tuples(fractions, fractions), min_size=2, max_size=8), st.floats(0, 0.3), st.floats(0, 0.3))
def test_p_falls_below_a_twentieth_exactly_where_the_interval_leaves_zero(
    pairs: list, below: float, above: float
) -> None:
    one, other = zip(*pairs, strict=True)
    values, baseline = runs(list(one), below, above), runs(list(other), above, below)
    found = SEEDS.compare(values, baseline)
    if math.isnan(found.p) or abs(found.p - 0.05) < 1e-9:
        return
    assert (found.p < 0.05) == (not found.low <= 0 <= found.high)
    assert found.effect == pytest.approx(compare(values.values, baseline.values, test_share=0).effect, nan_ok=True)


def test_without_any_spread_nothing_may_be_concluded() -> None:
    found = SEEDS.compare(runs([2.0, 3.0]), runs([1.0, 2.0]))
    assert math.isnan(found.p)
    assert found.verdict == "inconclusive"
    assert SEEDS.compare(runs([2.0, 3.0], 0.1), runs([2.0, 3.0], 0.1)).p == 1.0
    with pytest.raises(ValueError, match="1 pair allows no test; use at least 2 folds or seeds"):
        SEEDS.compare(runs([2.0]), runs([1.0]))


@pytest.mark.parametrize(("of_records", "seeds"), [(0.0, 3), (1.0, 3), (1.0, 5), (3.0, 5)])
def test_intervals_hold_the_truth_as_often_as_they_say(of_records: float, seeds: int) -> None:
    """Seeds deviate by 1 around what these records show, which deviates by ``of_records`` from the truth, 0."""
    generator = np.random.default_rng(0)
    held, naive, raised = [], [], []
    for _ in range(1000):
        shown, other = (
            runs((generator.normal(0, of_records) + generator.normal(0, 1, seeds)).tolist(), Z_975 * of_records)
            for _ in range(2)
        )
        found, plain = SEEDS.summarise(shown), summarise(shown.values, test_share=0)
        held.append(found.low <= 0 <= found.high)
        naive.append(plain.low <= 0 <= plain.high)
        raised.append(SEEDS.compare(shown, other).p < 0.05)
    # 1,000 draws know 95 % to 1.4 points at two standard errors.
    assert 0.935 <= np.mean(held) <= 0.99
    assert np.mean(raised) <= 0.065
    if of_records:
        assert np.mean(naive) < 0.92


def two_by_two(runs_each: int, interaction: float) -> np.ndarray:
    """(neither, first, second, both) × runs: runs differ, factors do, and each run has errors of its own."""
    generator = np.random.default_rng(3)
    effects = np.array([0.0, -0.2, 0.1, -0.1 + interaction])[:, None]
    return 0.7 + effects + generator.normal(0, 0.2, runs_each) + generator.normal(0, 0.05, (4, runs_each))


def test_an_interaction_is_that_of_a_repeated_measures_anova_where_runs_are_independent() -> None:
    values = two_by_two(8, 0.08)
    rows = [(run, cell // 2, cell % 2, values[cell, run]) for cell in range(4) for run in range(8)]
    frame = pd.DataFrame(rows, columns=["run", "second", "first", "value"])
    found = Design(folds=8, repeats=1).interaction(*(runs(own.tolist()) for own in values))
    table = AnovaRM(frame, "value", "run", within=["first", "second"]).fit().anova_table.loc["first:second"]
    assert (found.p, found.count) == (pytest.approx(table["Pr > F"], rel=1e-6), 8)
    assert found.effect**2 * 8 == pytest.approx(table["F Value"])
    fitted = ols("value ~ first * second + C(run)", frame).fit()
    assert found.difference == pytest.approx(fitted.params["first:second"])


def test_an_interaction_of_folds_has_the_corrected_variance() -> None:
    values = two_by_two(10, 0.08)
    contrast = values[3] - values[1] - values[2] + values[0]
    found = Design(folds=5, repeats=2, test_share=0.3).interaction(*(runs(own.tolist()) for own in values))
    error = contrast.std(ddof=1) * math.sqrt(1 / 10 + 0.3)
    assert found.p == pytest.approx(2 * stats.t.sf(contrast.mean() / error, 9))
    assert found.high - found.low == pytest.approx(2 * stats.t.ppf(0.975, 9) * error)


def test_factors_that_add_up_do_not_interact() -> None:
    values = [0.9, 0.8, 0.7]
    neither, first, second = (np.array(values) - harm for harm in (0.0, 0.1, 0.3))
    found = SEEDS.interaction(*(runs(v.tolist(), 0.01) for v in (neither, first, second, neither - 0.4)))
    assert found.difference == pytest.approx(0, abs=1e-12)
    assert (found.p, found.verdict) == (pytest.approx(1), "inconclusive")
    # Four figures are as uncertain as they are together: twice the reach of one.
    assert found.high - found.difference == pytest.approx(0.02, rel=1e-6)


def test_an_interaction_is_found_no_more_often_than_its_level_where_there_is_none() -> None:
    """Folds that share training data: all runs of a cell have one error in common."""
    generator, design = np.random.default_rng(0), Design(folds=5, repeats=2, test_share=0.25)
    raised = []
    for _ in range(600):
        shared_error = generator.normal(0, math.sqrt(0.2), (4, 1))  # correlation n_test / (n_test + n_train)
        cells = shared_error + generator.normal(0, math.sqrt(0.8), (4, 10))
        raised.append(design.interaction(*(runs(own.tolist()) for own in cells)).p < 0.05)
    assert np.mean(raised) <= 0.07


def test_blocked_anova_gives_the_worked_example() -> None:
    # Recipe means 3, 5, 7 and fold means 6, 5, 4 around 5: 24 = 3·(4 + 0 + 4) between recipes on 2 degrees of freedom,
    # 6 = 3·(1 + 0 + 1) between folds, 34 in all, so 4 left on 4 degrees of freedom. F = 12, P(F > 12) = (1 + 6)^-2.
    found = blocked_anova(np.array([[4.0, 5.0, 9.0], [3.0, 5.0, 7.0], [2.0, 5.0, 5.0]]))
    assert (found.f, found.p, found.share) == pytest.approx((12.0, 1 / 49, 6 / 7))


@pytest.mark.parametrize("pairs", [5, 6, 10])
def test_no_exact_signed_rank_test_goes_below_its_floor(pairs: int) -> None:
    assert signed_rank_floor(pairs) == stats.wilcoxon(np.arange(1.0, pairs + 1), method="exact").pvalue
    assert signed_rank_floor(5) == 0.0625


interval_of = functools.cache(proportion)


def runs_of_shares(values: list[float], n: int) -> Runs:
    ends = [interval_of(round(value * n), n) for value in values]
    return Runs(values=np.array(values), low=np.array([e.low for e in ends]), high=np.array([e.high for e in ends]))


def test_a_limit_is_tested_by_the_corrected_t_test_of_folds() -> None:
    values, design = np.array([0.93, 0.95, 0.90, 0.96, 0.92]), Design(folds=5, repeats=1, test_share=0.25)
    found = design.against_limit(runs_of_shares(values.tolist(), 100), 0.9)
    t = (values.mean() - 0.9) / math.sqrt((1 / 5 + 0.25) * values.var(ddof=1))
    assert found.p_above == pytest.approx(stats.t.sf(t, 4))
    assert found.p_above + found.p_below == pytest.approx(1)
    below = design.against_limit(runs_of_shares(values.tolist(), 100), 0.97)
    t = (values.mean() - 0.97) / math.sqrt((1 / 5 + 0.25) * values.var(ddof=1))
    assert (below.p_above, below.p_below) == (pytest.approx(stats.t.sf(t, 4)), pytest.approx(stats.t.cdf(t, 4)))


@given(st.lists(st.floats(0.5, 0.99), min_size=3, max_size=6), st.floats(0.4, 0.995), st.booleans())
def test_one_side_is_below_its_level_exactly_where_the_interval_leaves_the_limit(
    values: list[float], limit: float, official: bool
) -> None:
    if np.ptp(values) < 1e-3:
        return
    folds = 1 if official else len(values)
    design = Design(folds=folds, repeats=len(values) if official else 1, official=official, test_share=0.3)
    found = design.against_limit(runs_of_shares(values, 200), limit)
    if min(abs(found.low - limit), abs(found.high - limit)) > 1e-9:
        assert (found.p_above < 0.025) == (found.low > limit)
        assert (found.p_below < 0.025) == (found.high < limit)


def test_folds_that_all_agree_are_as_sure_as_the_records_of_one() -> None:
    design = Design(folds=5, repeats=1, test_share=0.25)
    none, all_right = (design.against_limit(runs_of_shares([share] * 5, 100), 0.5) for share in (0.0, 1.0))
    assert none.p_below < 1e-6
    assert none.p_above > 0.999
    assert all_right.p_above < 1e-6
    assert design.against_limit(runs_of_shares([1.0] * 5, 100), 0.99).p_above > 0.025, "100 records do not show 99 %"
    without = Runs(values=np.ones(5), low=np.full(5, np.nan), high=np.full(5, np.nan))
    assert math.isnan(design.against_limit(without, 0.5).p_above)


@pytest.mark.parametrize(("share", "records"), [(0.7, 114), (0.9, 43), (0.95, 114), (0.98, 359), (0.99, 114)])
def test_shares_of_few_records_pass_a_limit_at_their_truth_no_more_often_than_the_level(
    share: float, records: int
) -> None:
    """Counts are neither normal nor continuous, and folds may all agree."""
    generator, design = np.random.default_rng(2), Design(folds=5, repeats=1, test_share=0.25 / 0.85)
    rounds = 1500
    counts = generator.binomial(records, share, size=(rounds, 5)) / records
    met = sum(design.against_limit(runs_of_shares(list(row), records), share).p_above <= 0.025 for row in counts)
    assert met / rounds <= 0.025


def test_a_given_model_is_tested_by_its_interval_over_records() -> None:
    design = Design(folds=1, repeats=1)
    for right, above, below in ((95, True, False), (91, False, False), (80, False, True)):
        found = design.against_limit(runs_of_shares([right / 100], 100), 0.88)
        assert (found.p_above <= 0.025, found.p_below <= 0.025) == (found.low >= 0.88, found.high <= 0.88)
        assert (found.p_above <= 0.025, found.p_below <= 0.025) == (above, below)


def test_one_trained_run_shows_nothing_of_others() -> None:
    for design in (Design(folds=5, repeats=1, test_share=0.25), Design(folds=1, repeats=3, official=True)):
        assert math.isnan(design.against_limit(runs_of_shares([1.0], 100), 0.1).p_above)


def test_the_reach_of_a_test_is_that_of_a_mean_at_its_limit() -> None:
    design = Design(folds=5, repeats=2, test_share=0.25)
    values = np.random.default_rng(3).normal(size=10)
    values = (values - values.mean()) / values.std(ddof=1)
    at = design.reach_of_test(0.025)
    ends = np.full(10, np.nan)
    assert design.against_limit(Runs(values=values + at, low=ends, high=ends), 0.0).p_above == pytest.approx(0.025)
