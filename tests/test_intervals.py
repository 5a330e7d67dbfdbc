"""Intervals of one measurement against published figures and the implementations of others."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from assay.intervals import auroc, bootstrap, bootstrap_curve, mean, mean_over_draws, proportion


# Newcombe (1998), Statistics in Medicine 17, table I, method 3.
@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_are_those_that_newcombe_published(successes: int, n: int, low: float, high: float) -> None:
    found = proportion(successes, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_intervals_are_those_of_statsmodels(counts: tuple[int, int]) -> None:
    found = proportion(*counts)
    assert (found.low, found.high) == pytest.approx(proportion_confint(*counts, method="wilson"), abs=1e-12)
    assert found.low <= found.value == counts[0] / counts[1] <= found.high


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_an_impossible_share_is_refused(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"{successes} successes of {n} records"):
        proportion(successes, n)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=40))
def test_auroc_is_that_of_scikit_learn_with_ties(records: list[tuple[bool, int]]) -> None:
    positive, score = (np.array(column) for column in zip(*records, strict=True))
    found = auroc(positive, score)
    if positive.all() or not positive.any():
        assert math.isnan(found)
    else:
        assert found == pytest.approx(roc_auc_score(positive, score))


def test_bootstrap_draws_whole_groups() -> None:
    groups = np.array(["a", "b", "b", "c", "c", "c"])
    seen: list[np.ndarray] = []

    def statistic(rows: np.ndarray) -> float:
        seen.append(np.bincount(rows, minlength=6))
        return 0.0

    bootstrap(statistic, 6, generator=np.random.default_rng(0), draws=50, groups=groups)
    assert all(len(set(counts[groups == group])) == 1 for counts in seen for group in "abc")
    assert all(counts[[0, 1, 3]].sum() == 3 for counts in seen)
    assert len({tuple(counts) for counts in seen}) > 5


def test_bootstrap_gives_the_statistic_of_all_records_and_the_quantiles_of_its_draws() -> None:
    values, seen = np.arange(20.0), []

    def statistic(rows: np.ndarray) -> float:
        assert len(rows) == 20
        seen.append(values[rows].mean())
        return seen[-1]

    found = bootstrap(statistic, 20, generator=np.random.default_rng(0), draws=99)
    assert found.value == 9.5
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(seen[:99], [0.025, 0.975])))


def test_a_curve_is_drawn_at_once_as_each_of_its_points_would_be() -> None:
    values, groups = np.random.default_rng(0).normal(size=30), np.arange(30) // 3
    both = bootstrap_curve(
        lambda rows: np.array([values[rows].mean(), values[rows].max()]),
        30,
        generator=np.random.default_rng(1),
        draws=60,
        groups=groups,
    )
    each = [
        bootstrap(lambda rows, of=of: of(values[rows]), 30, generator=np.random.default_rng(1), draws=60, groups=groups)  # type: ignore[misc]
        for of in (np.mean, np.max)
    ]
    assert both == each


def test_bootstrap_counts_no_draw_without_a_value() -> None:
    found = bootstrap(lambda rows: 1.0 if 0 in rows else math.nan, 3, generator=np.random.default_rng(0), draws=50)
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    nothing = bootstrap(lambda rows: math.nan, 3, generator=np.random.default_rng(0), draws=50)
    assert all(math.isnan(value) for value in (nothing.value, nothing.low, nothing.high))


def test_a_mean_over_draws_counts_both_records_and_draws() -> None:
    draw = np.random.default_rng(0)
    held, above = 0, 0
    for _ in range(600):
        values = draw.normal(size=(5, 1)) + draw.normal(size=(1, 30)) + 0.2 * draw.normal(size=(5, 30))
        found = mean_over_draws(values)
        held += found.interval.low <= 0 <= found.interval.high
        above += found.p_above < 0.05
    # Three standard errors of 600 experiments.
    assert held / 600 > 0.95 - 3 * 0.0089
    assert above / 600 < 0.05 + 3 * 0.0089


def test_draws_that_agree_leave_the_error_of_the_records() -> None:
    values = np.random.default_rng(1).normal(size=20)
    found, alone = mean_over_draws(np.tile(values, (4, 1))), mean(values)
    assert found.interval.low == pytest.approx(alone.interval.low)
    assert found.p_above == pytest.approx(alone.p_above)


def test_an_expanded_bootstrap_interval_is_wider_where_records_are_few() -> None:
    values = np.random.default_rng(2).normal(size=12)

    def width(expanded: bool) -> float:
        generator = np.random.default_rng(0)
        found = bootstrap(
            lambda rows: float(values[rows].mean()), 12, generator=generator, draws=2000, expanded=expanded
        )
        return found.high - found.low

    # Student's quantile at 11 degrees of freedom, and the variance of 12 values.
    assert width(True) / width(False) == pytest.approx(2.201 / 1.96 * np.sqrt(12 / 11), rel=0.08)


@pytest.mark.parametrize("draws", [0, 1])
def test_a_mean_over_fewer_than_two_draws_is_refused(draws: int) -> None:
    with pytest.raises(ValueError, match=f"{draws} draws have no spread"):
        mean_over_draws(np.zeros((draws, 30)))
