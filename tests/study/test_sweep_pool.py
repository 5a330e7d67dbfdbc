"""A large pool is kept busy by a sweep whose points depend on outcomes, and the points stay reproducible."""

import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray import tune

from assay.data.base import Dataset
from assay.executors import LATER, LocalExecutor, Outcome
from assay.results import Measurement, TrialRecord
from assay.store.folder import Store
from assay.study.spec import Study
from assay.study.sweep_items import AtRung, SweepItem
from assay.study.sweep_prepare import PreparedSweep, prepare_sweep
from assay.study.sweep_run import run_sweep
from assay.study.sweep_rungs import RungResult
from tests.studies import Memory

WORKERS, SAMPLES = 16, 60
SEARCHES: dict[str, dict[str, Any]] = {
    "optuna": {"search": "optuna"},
    "random, asha": {"search": "random", "scheduler": "asha", "eta": 2},
    "optuna, asha": {"search": "optuna", "scheduler": "asha", "eta": 2},
}


class Pool:
    """An executor in made-up time: each item takes a while, and what ends first is handled first."""

    host = LocalExecutor.host

    def __init__(self, workers: int, longest: float = 2.0) -> None:
        self.workers, self.maps = workers, 0
        self.idle: list[tuple[int, int]] = []
        """Items taken so far, and workers without an item, at each moment."""
        self._generator, self._longest = np.random.default_rng(0), longest

    def map(self, fn: Callable[..., Any], items: Iterable[Any], shared: Any) -> Iterator[Outcome]:
        self.maps += 1
        running: list[tuple[float, int, Any]] = []
        now, taken, stream = 0.0, 0, iter(items)
        while True:
            while len(running) < self.workers and (item := next(stream, None)) not in (None, LATER):
                end = now + float(self._generator.uniform(1.0, self._longest))
                heapq.heappush(running, (end, taken, item))
                taken += 1
            if not running:
                return
            self.idle.append((taken, self.workers - len(running)))
            now, index, item = heapq.heappop(running)
            yield Outcome(index=index, value=fn(item, shared))


class Made:
    """Makes up what a worker would find, and remembers what it was asked; fails at one of the items."""

    def __init__(self, fails_at: int = -1) -> None:
        self.items: list[tuple[str, int | None]] = []
        self._fails_at = fails_at

    def __call__(self, item: SweepItem, datasets: Mapping[str, Dataset]) -> TrialRecord | AtRung:
        if len(self.items) == self._fails_at:
            raise KeyboardInterrupt
        trial = item.trial
        self.items.append((trial.recipe_name, item.rung))
        value = 1.0 - abs(np.log10(trial.recipe.training.learning_rate) + 2)
        if item.rung is None:
            accuracy = Measurement(name="accuracy", value=value, n=10)
            return trial.record(measurements=(accuracy,), seconds=1.0)
        about: dict[str, Any] = {"training": trial.training, "recipe": trial.recipe_name, "label": trial.label}
        spread = {"value": value, "low": value, "high": value, "n": 10}
        result = RungResult(
            **about, **spread, fold=0, rung=item.rung, epochs=item.epochs, of=4, goal="accuracy", seconds=1.0
        )
        return AtRung(result=result, state=b"state")


@pytest.fixture
def make(tiny: Callable[..., Study]) -> Callable[..., PreparedSweep]:
    def prepared(**settings: Any) -> PreparedSweep:
        return prepare_sweep(
            tiny({"base": {"training": {"epochs": 4}}}),
            name="mine", space=lambda radius: {"training.learning_rate": tune.loguniform(1e-4, 1e-1)}, cohort=None,
            recipe="base", asked=("accuracy",), tested="validation", samples=SAMPLES, **settings,
        )  # fmt: skip

    return prepared


def swept(ready: PreparedSweep, folder: Path, executor: Any, run: Made) -> bool:
    return run_sweep(ready, Store(str(folder)), executor, watcher=Memory(), run=run).complete


@pytest.mark.parametrize("settings", SEARCHES.values(), ids=SEARCHES)
def test_no_worker_of_a_large_pool_waits_while_there_are_points(
    make: Callable[..., PreparedSweep], tmp_path: Path, settings: dict[str, Any]
) -> None:
    pool = Pool(WORKERS)
    assert swept(make(**settings), tmp_path, pool, Made())
    assert pool.maps == 1, "the data are sent once"
    # The first items are taken before any outcome is known. Where every point has begun, the pool drains.
    assert max(idle for taken, idle in pool.idle if WORKERS <= taken < SAMPLES) == 0


def test_with_a_number_that_is_given_no_more_points_are_under_way(
    make: Callable[..., PreparedSweep], tmp_path: Path
) -> None:
    pool = Pool(WORKERS)
    assert swept(make(search="optuna", ahead=4), tmp_path, pool, Made())
    assert pool.maps == 1
    assert min(idle for _, idle in pool.idle) == WORKERS - 4


@pytest.mark.parametrize("settings", SEARCHES.values(), ids=SEARCHES)
@pytest.mark.parametrize("after", [5, 37])
def test_a_sweep_that_goes_on_with_fewer_workers_has_the_same_points(
    make: Callable[..., PreparedSweep], tmp_path: Path, settings: dict[str, Any], after: int
) -> None:
    undisturbed, first, second = Made(), Made(fails_at=after), Made()
    assert swept(make(**settings), tmp_path / "undisturbed", Pool(WORKERS), undisturbed)
    assert not swept(make(**settings), tmp_path / "disturbed", Pool(WORKERS), first)
    assert swept(make(**settings), tmp_path / "disturbed", Pool(2), second)
    assert len(first.items) == after
    assert sorted(map(str, first.items + second.items)) == sorted(map(str, undisturbed.items))
    about = [json.loads((tmp_path / name / "sweep.json").read_text()) for name in ("undisturbed", "disturbed")]
    assert about[0]["ahead_from_job"] == about[1]["ahead_from_job"] == [[0, 8], [8, 2 * WORKERS]]


def test_a_pool_that_grew_has_more_points_under_way_and_the_earlier_points_stay(
    make: Callable[..., PreparedSweep], tmp_path: Path
) -> None:
    small, first, second = Made(), Made(fails_at=30), Made()
    swept(make(search="optuna"), tmp_path / "small", Pool(2), small)
    swept(make(search="optuna"), tmp_path / "grown", Pool(2), first)
    pool = Pool(WORKERS)
    assert swept(make(search="optuna"), tmp_path / "grown", pool, second)
    (began, least), (grown, most) = json.loads((tmp_path / "grown" / "sweep.json").read_text())["ahead_from_job"]
    assert (began, least, most) == (0, 8, 2 * WORKERS) and grown >= 30
    assert min(idle for _, idle in pool.idle) == 0
    points = [recipe for recipe, _ in first.items + second.items]
    assert len(points) == len(set(points)) == SAMPLES
    assert {recipe for recipe, _ in small.items[:30]} <= set(points), "those that were decided before the pool grew"
