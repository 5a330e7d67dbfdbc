"""Searches propose what the space says, and the same again from the same seed and outcomes."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from ray import tune
from scipy import stats

from assay.study.search.base import Search
from assay.study.search.grid import Grid
from assay.study.search.optuna import Optuna
from assay.study.search.random import Random
from assay.study.search.space import Range, axes_of

DISTRIBUTIONS: dict[str, Any] = {
    "grid": tune.grid_search([1, "a", [2]]),
    "choice": tune.choice([[4], [8, 4], 3.5]),
    "uniform": tune.uniform(-1, 2),
    "quniform": tune.quniform(0.5, 2, 0.25),
    "loguniform": tune.loguniform(1e-4, 1e-1),
    "randint": tune.randint(2, 6),
    "qrandint": tune.qrandint(4, 12, 4),
    "lograndint": tune.lograndint(1, 101),
    "qloguniform": tune.qloguniform(0.1, 10, 0.1),
}


def all_of(search: Search) -> list[Mapping[str, Any]]:
    points = []
    while (point := search.propose()) is not None:
        points.append(point)
    return points


@pytest.mark.parametrize("key", [key for key in DISTRIBUTIONS if key != "grid"])
def test_draws_are_distributed_as_tune_distributes_its_own(key: str) -> None:
    distribution = DISTRIBUTIONS[key]
    (axis,) = axes_of("mine", {key: distribution}).values()
    generator = np.random.default_rng(0)
    ours = [axis.draw(generator) for _ in range(4000)]
    theirs = [distribution.sample(random_state=np.random.default_rng(draw)) for draw in range(4000)]
    if key == "choice":
        counts = [[drawn.count(value) for value in distribution.categories] for drawn in (ours, theirs)]
        assert np.allclose(*counts, atol=200) and sum(counts[0]) == 4000
        return
    assert {type(value) for value in ours} == {type(value) for value in theirs}
    assert (min(theirs), max(theirs)) == pytest.approx((min(ours), max(ours)), rel=0.02, abs=0.01)
    # Twice what two samples of one distribution differ by in one of a thousand cases.
    assert stats.ks_2samp(ours, theirs).statistic < 2 * 1.95 * math.sqrt(2 / 4000)


def test_integers_have_the_ends_that_tune_gives_them() -> None:
    axes = axes_of("mine", DISTRIBUTIONS)
    generator = np.random.default_rng(1)
    drawn = {key: {axes[key].draw(generator) for _ in range(3000)} for key in ("randint", "qrandint", "quniform")}
    assert drawn["randint"] == {2, 3, 4, 5}
    assert drawn["qrandint"] == {4, 8, 12}
    assert drawn["quniform"] == {0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0}
    assert {axes["lograndint"].draw(generator) for _ in range(3000)} <= set(range(1, 101))


def test_a_drawn_number_is_what_the_name_of_its_point_says() -> None:
    axis = Range(low=1e-4, high=1e-1, log=True)
    generator = np.random.default_rng(0)
    assert all(float(f"{value:.6g}") == value for value in (axis.draw(generator) for _ in range(200)))


def test_a_grid_holds_every_combination_once() -> None:
    axes = axes_of("mine", {"a": tune.grid_search([1, 2]), "b": tune.choice(["x", "y", "z"])})
    grid = Grid("mine", axes)
    points = all_of(grid)
    assert grid.total == len(points) == 6
    assert points[:4] == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 1, "b": "z"}, {"a": 2, "b": "x"}]
    assert len({tuple(point.values()) for point in points}) == 6


def test_more_samples_keep_the_earlier_draws_and_another_seed_none() -> None:
    axes = axes_of("mine", DISTRIBUTIONS)
    few, many = (all_of(Random(axes, samples=samples, seed=3)) for samples in (5, 12))
    assert many[:5] == few and len(many) == 12
    assert len({repr(point) for point in many}) == 12
    assert all(point not in few for point in all_of(Random(axes, samples=5, seed=4)))


Outcome = Callable[[Mapping[str, Any]], Sequence[float] | None]


def one_goal(point: Mapping[str, Any]) -> Sequence[float] | None:
    return None if point["size"] == 3 else [-((math.log10(point["rate"]) + 2) ** 2) - point["size"] / 100]


def two_goals(point: Mapping[str, Any]) -> Sequence[float] | None:
    return [point["rate"] * 10, point["size"] + point["rate"]]


SPACE = {"rate": tune.loguniform(1e-4, 1e-0), "size": tune.randint(1, 5), "kind": tune.choice([[1], "a"])}


def searched(better: Sequence[str], outcome: Outcome, *, samples: int, seed: int = 0) -> list[Mapping[str, Any]]:
    search = Optuna("mine", axes_of("mine", SPACE), samples=samples, seed=seed, better=better)
    points: list[Mapping[str, Any]] = []
    while (point := search.propose()) is not None:
        points.append(point)
        if len(points) > 2:  # two are always under way
            search.tell(len(points) - 3, outcome(points[-3]))
    return points


@pytest.mark.parametrize(("better", "outcome"), [(["higher"], one_goal), (["higher", "lower"], two_goals)])
def test_optuna_proposes_the_same_from_the_same_seed_and_outcomes(better: list[str], outcome: Outcome) -> None:
    first, again = (searched(better, outcome, samples=30) for _ in range(2))
    assert first == again and len(first) == 30
    other = searched(better, lambda point: [0.0] * len(better), samples=30)
    assert other[:3] == first[:3] and other[15:] != first[15:], "later points must depend on outcomes"
    assert searched(better, outcome, samples=30, seed=1)[:3] != first[:3]


def test_optuna_finds_better_points_than_chance() -> None:
    def mean(points: list[Mapping[str, Any]]) -> float:
        return float(np.mean([abs(math.log10(point["rate"]) + 2) for point in points]))

    learnt = [mean(searched(["higher"], one_goal, samples=60, seed=seed)[30:]) for seed in range(3)]
    chance = [mean(all_of(Random(axes_of("mine", SPACE), samples=30, seed=seed))) for seed in range(3)]
    assert max(learnt) < min(chance)


def test_optuna_proposes_only_what_the_space_holds() -> None:
    space = {key: value for key, value in DISTRIBUTIONS.items() if key != "grid"}
    search = Optuna("mine", axes_of("mine", space), samples=20, seed=0, better=["lower"])
    for number in range(20):
        point = search.propose()
        assert point is not None
        assert point["choice"] in DISTRIBUTIONS["choice"].categories
        assert point["qrandint"] in (4, 8, 12) and point["randint"] in (2, 3, 4, 5)
        assert round(point["qloguniform"] / 0.1, 6).is_integer() and 0.1 <= point["qloguniform"] <= 10
        search.tell(number, [float(number)])
