"""A driver that is killed twenty times, at any moment, ends with what one that ran undisturbed has."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray import tune

from assay.executors import LocalExecutor
from assay.ledger import Ledger
from assay.release.keeper import Keeper
from assay.store.folder import Store
from assay.study.spec import Study
from assay.study.sweep_prepare import PreparedSweep, prepare_sweep
from assay.study.sweep_run import run_sweep
from tests.studies import Memory, without_times

KILLS = 20


def sweep(ready: PreparedSweep, folder: Path) -> None:
    keeper = Keeper(folder / "ledger", results=str(folder / "results"), opening=Ledger.create)
    run_sweep(ready, Store(str(folder / "results")), LocalExecutor(), watcher=Memory(), observer=keeper)


def files(folder: Path) -> dict[str, int]:
    """When each file of the results was written."""
    found = {}
    for path in (folder / "results").rglob("*"):
        try:
            found[str(path.relative_to(folder))] = path.stat().st_mtime_ns
        except FileNotFoundError:
            continue
    return found


def finished(folder: Path) -> dict[str, int]:
    return {name: at for name, at in files(folder).items() if "/trials/" in name and "/." not in name}


def rows(folder: Path) -> list[tuple[str, str, float]]:
    """Every stored figure but times."""
    frame = Store(str(folder / "results")).frame()
    frame = without_times(frame)
    return sorted(zip(frame["trial"], frame["name"], frame["value"].fillna(-1), strict=True))


@pytest.mark.slow  # test_sweep_run.py stops a sweep anywhere by exceptions
@pytest.mark.parametrize("scheduler", ["none", "asha"])
def test_a_driver_that_is_killed_twenty_times_loses_and_doubles_nothing(
    tiny: Callable[..., Study], tmp_path: Path, scheduler: str
) -> None:
    settings: dict[str, Any] = {"search": "optuna", "samples": 30, "ahead": 3, "scheduler": scheduler}
    ready = prepare_sweep(
        tiny({"base": {"privacy": {"epsilon": 8}, "training": {"epochs": 3}}}),
        name="mine", space=lambda radius: {"training.learning_rate": tune.loguniform(1e-3, 1e-1)}, cohort=None,
        recipe="base", asked=("accuracy", "privacy", "cost"), tested="validation", **settings,
    )  # fmt: skip
    sweep(ready, tmp_path / "undisturbed")
    draw, folder, killed = np.random.default_rng(0), tmp_path / "disturbed", 0
    before: dict[str, int] = {}
    while killed < KILLS:
        # A copy of this process: it has imported and prepared everything, and is killed as any driver.
        child = multiprocessing.get_context("fork").Process(target=sweep, args=(ready, folder))
        child.start()
        assert child.pid is not None
        seen = files(folder)
        while child.is_alive() and files(folder) == seen:
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.05))
        assert child.is_alive(), f"the sweep ended after {killed} kills; give it more points"
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        killed += 1
        now = finished(folder)
        assert all(now[name] == at for name, at in before.items()), "a finished trial ran again"
        before = now
    sweep(ready, folder)
    assert all(finished(folder)[name] == at for name, at in before.items())
    assert rows(folder) == rows(tmp_path / "undisturbed") and len(rows(folder)) > 0
    assert Store(str(folder / "results")).columns().num_rows == len(finished(folder))
    keepers = [
        Keeper(one / "ledger", results=str(one / "results"), opening=Ledger.create)
        for one in (folder, tmp_path / "undisturbed")
    ]
    trained = [{row.training for row in keeper.trainings(ready.dataset)} for keeper in keepers]
    assert trained[0] == trained[1] and len(trained[0]) == 30
