"""Runs a sweep: a search proposes points, a pool of workers runs them, and results are stored at once."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from assay.executors import Executor
from assay.store.folder import Store
from assay.study.measure import stamped
from assay.study.run import about_run
from assay.study.runner import Runner, TrialObserver
from assay.study.search.base import Settings
from assay.study.sweep_driver import Run, SweepDriver
from assay.study.sweep_file import study_file
from assay.study.sweep_items import run_item
from assay.study.sweep_prepare import PreparedSweep
from assay.study.sweep_rungs import RungStore, last_rungs
from assay.study.watching import RecordingWatcher, Watcher
from assay.tracking import Mirror


@dataclass(frozen=True, kw_only=True)
class SweepSummary:
    """Outcome of a sweep."""

    trials: int
    """Trials of all points that were proposed."""
    ran: int
    """Items that ran now: trials, and trainings up to a rung."""
    stopped: int
    """Trainings that were stopped at a rung."""
    failures: Mapping[str, str]
    """Errors by the label of the trial, or by the name of a point that is impossible."""
    complete: bool
    """Whether every point was proposed and run; false if the sweep was interrupted."""
    trial_seconds: float
    """Seconds, summed over what ran."""
    workers: int
    seconds: float
    """Wall time of the sweep in seconds."""


def run_sweep(
    prepared: PreparedSweep,
    store: Store,
    executor: Executor,
    *,
    watcher: Watcher,
    observer: TrialObserver | None = None,
    mirror: Mirror = lambda record: None,
    environment: Mapping[str, Any] | None = None,
    run: Run = run_item,
) -> SweepSummary:
    """Runs every point of a sweep that is not in a store yet, and stores the study file beside the results.

    It can be killed at any moment and started again: finished trials are not run again, and the points are the same.

    Args:
        prepared: the sweep with its data and search space.
        store: of the results.
        executor: whose workers run the trials.
        watcher: receives the progress.
        observer: such as the keeper of the ledger of the data.
        mirror: called with every finished trial.
        environment: where this runs, for every record.
        run: what a worker does with an item.

    Returns:
        The outcome.

    Raises:
        UserError: another job is writing the store, or the cluster does not answer.
    """
    started = time.perf_counter()
    environment = environment or {}
    watcher = RecordingWatcher(watcher, store)
    with store.locked():
        watcher.read(prepared.dataset.name, prepared.dataset)
        runner = Runner(observer, environment)
        now = about_run(store, environment, fresh=True)
        driver = SweepDriver(
            prepared, store, executor, watcher=watcher, runner=runner, mirror=mirror, run=run, about=now
        )
        complete = driver.go()
        stopped = _end_stopped(prepared, store, runner, driver.points) if complete and prepared.rungs else 0
        # An interrupted sweep keeps the earlier results visible.
        store.keep_only(driver.planned if complete else driver.planned | driver.earlier)
        about = about_run(store, environment, fresh=driver.tally.ran > 0)
        store.write_text("study.yaml", study_file(prepared, driver.points, about))
    return SweepSummary(
        trials=len(driver.planned),
        ran=driver.tally.ran,
        stopped=stopped,
        failures=driver.tally.failures,
        complete=complete,
        trial_seconds=driver.tally.spent,
        workers=driver.tally.workers,
        seconds=time.perf_counter() - started,
    )


def _end_stopped(prepared: PreparedSweep, store: Store, runner: Runner, points: Iterator[Settings]) -> int:
    """Records the end of each training that was stopped at a rung, and deletes its state.

    What was trained under a plan of ε counts, whatever became of it: the observer learns of it as of any other end.

    Returns:
        The number of such trainings.
    """
    sweep, rungs = prepared.sweep, RungStore(store)
    by_name = {sweep.point_name(point): point for point in points}
    stopped = [result for result in last_rungs(store) if result.recipe in by_name]
    for result in stopped:
        if result.ended:
            continue
        trials = sweep.trials(by_name[result.recipe], prepared.dataset, folds=prepared.folds)
        for trial in trials:
            if trial.training == result.training:
                record = stamped(trial.record(error=result.text, seconds=result.seconds), runner.environment)
                runner.end(trial, record, prepared.dataset)
                rungs.end(result)
    return len(stopped)
