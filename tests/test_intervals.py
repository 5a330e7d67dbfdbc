"""Intervals of one measurement against published figures and the implementations of others."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from assay.intervals import auroc, bootstrap, bootstrap_curve, proportion


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
