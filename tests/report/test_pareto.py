"""The front of many points holds exactly what nothing beats, whatever the number of goals, and ties stand together."""

import numpy as np
import pytest

from assay.report.pareto import pareto_front


def by_definition(values: np.ndarray) -> np.ndarray:
    """Every point against every other."""
    known = ~np.isnan(values).any(1)
    at_least = (values[:, None] >= values[None]).all(2)
    above = (values[:, None] > values[None]).any(2)
    return known & ~(at_least & above).any(0)


@pytest.mark.parametrize("goals", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("levels", [2, 4, 50, 100_000])
def test_it_holds_what_nothing_beats(goals: int, levels: int) -> None:
    for seed in range(25):
        generator = np.random.default_rng(seed)
        values = generator.integers(levels, size=(generator.integers(1, 120), goals)).astype(float)
        values[generator.random(values.shape) < 0.05] = np.nan
        values[generator.random(values.shape) < 0.02] = -np.inf
        assert pareto_front(values).tolist() == by_definition(values).tolist()


def test_equal_points_are_on_it_together() -> None:
    values = np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0], [0.0, 2.0], [1.0, 1.0]])
    assert pareto_front(values).tolist() == [True, True, True, False, False]


def test_there_may_be_no_point_and_none_that_is_known() -> None:
    assert pareto_front(np.empty((0, 3))).tolist() == []
    assert pareto_front(np.array([[np.nan, 1.0]])).tolist() == [False]


def test_all_of_a_hundred_thousand_points_may_be_on_it() -> None:
    """The worst case of a front; comparing all with all would take hours."""
    angle = np.linspace(0, np.pi / 2, 100_000)
    assert pareto_front(np.stack([np.sin(angle), np.cos(angle), np.sin(7 * angle)], axis=1)).all()


@pytest.mark.parametrize("goals", [4])
def test_more_points_than_a_block(goals: int) -> None:
    values = np.random.default_rng(0).integers(12, size=(2600, goals)).astype(float)
    assert pareto_front(values).tolist() == by_definition(values).tolist()
