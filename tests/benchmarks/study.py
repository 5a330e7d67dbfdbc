"""Trials a minute: a plain loop in this process, and Ray's warm pool with one and with two workers.

The peer is the plain loop. Start of Ray and the workers' first imports are measured apart: a study pays them once.
"""

import copy
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from assay.cluster.executor import RayExecutor
from assay.cluster.pool import PoolSettings
from assay.cluster.session import set_defaults
from assay.data.splits import Splitting
from assay.executors import Executor, LocalExecutor
from assay.store.folder import Store
from assay.study.reading import read_study
from assay.study.run import run_study
from assay.study.spec import Study
from assay.study.watching import Watcher

ROUNDS = 3


class Silent(Watcher):
    """Watcher that prints nothing."""


def measure() -> dict[str, Any]:
    """Trials a minute, ratios to the plain loop, and what the pool costs to start."""
    set_defaults()
    study = _study()
    rates: dict[str, list[float]] = {"plain": [], "ray_1": [], "ray_2": []}
    executors: dict[str, Executor] = {"plain": LocalExecutor()}
    began = time.perf_counter()
    with RayExecutor(workers=2) as two:
        _rate(study, two)
        start = time.perf_counter() - began
        with _OneOf(two) as one:
            executors |= {"ray_1": one, "ray_2": two}
            _rate(study, executors["plain"])
            for _ in range(ROUNDS):
                for name, executor in executors.items():
                    rates[name].append(_rate(study, executor))
    found = {name: round(statistics.median(values), 1) for name, values in rates.items()}
    return {
        "unit": "trials a minute, median of alternating rounds",
        "trials_a_round": study.split.folds * 2,
        **found,
        "rounds": {name: [round(value, 1) for value in values] for name, values in rates.items()},
        "start_and_first_round_seconds": round(start, 1),
        "ratio": {name: round(found[name] / found["plain"], 2) for name in ("ray_1", "ray_2")},
        "bar": {"ray_1": 0.8, "ray_2": 1.4},
    }


class _OneOf(RayExecutor):
    """The first worker of a running pool, so that both pools are equally warm."""

    def __init__(self, pool: RayExecutor) -> None:
        super().__init__(workers=1)
        whole = pool._started()
        first = min(whole.slots)
        self._pool = copy.copy(whole)
        self._pool._settings = PoolSettings(workers=1)
        self._pool.slots = {first: whole.slots[first]}

    def close(self) -> None:
        self._pool = None


def _study() -> Study:
    """Standard and adversarial training of the quickstart's network, every evaluation included."""
    folder = Path(__file__).parents[2] / "jobs" / "studies"
    quickstart = read_study("quickstart", folder=folder)
    cohort = quickstart.cohorts["wdbc"]
    recipes = {name: cohort.recipes[name] for name in ("standard", "pgd")}
    cohorts = {"wdbc": cohort.model_copy(update={"recipes": recipes})}
    return quickstart.model_copy(update={"cohorts": cohorts, "split": Splitting(folds=3)})


def _rate(study: Study, executor: Executor) -> float:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        summary = run_study(study, Store(folder), executor, watcher=Silent(), publish=lambda datasets: None)
        assert not summary.failures, summary.failures
        return summary.ran / (time.perf_counter() - began) * 60
