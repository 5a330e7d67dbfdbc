"""Runs a sweep: a search proposes points, a pool of workers runs them, and results are stored at once."""

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from assay import progress
from assay.data.base import Dataset
from assay.errors import SpecError, UserError
from assay.executors import ByDevice, Executor, Outcome
from assay.results import TrialRecord
from assay.store.folder import Store
from assay.study.halving import Job
from assay.study.measure import failed, stamped
from assay.study.run import PUBLISH_EVERY, PUBLISH_SHARE, about_run
from assay.study.runner import Runner, TrialObserver, record_of, remaining_work
from assay.study.search.base import Settings
from assay.study.sweep_file import study_file
from assay.study.sweep_goals import values_of_record, values_stored
from assay.study.sweep_items import AtRung, SweepItem, run_item
from assay.study.sweep_order import Order
from assay.study.sweep_prepare import Prepared
from assay.study.sweep_rungs import RungStore, last_rungs
from assay.study.trial import Trial
from assay.study.watching import Recorded, Watcher
from assay.tracking import Mirror
from assay.training.checkpoints import artefact_of

Run = Callable[[SweepItem, Mapping[str, Dataset]], TrialRecord | AtRung]


@dataclass(frozen=True, kw_only=True)
class Swept:
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
    prepared: Prepared,
    store: Store,
    executor: Executor,
    *,
    watcher: Watcher,
    observer: TrialObserver | None = None,
    mirror: Mirror = lambda record: None,
    environment: Mapping[str, Any] | None = None,
    run: Run = run_item,
) -> Swept:
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
    watcher = Recorded(watcher, store)
    with store.locked():
        watcher.read(prepared.dataset.name, prepared.dataset)
        runner = Runner(observer, environment)
        # Others that read the folder meanwhile learn from it that the trials are points of a sweep.
        store.write_text("sweep.json", json.dumps(prepared.about, ensure_ascii=False, default=str))
        now = about_run(store, environment, fresh=True)
        driver = _Driver(prepared, store, executor, watcher=watcher, runner=runner, mirror=mirror, run=run, about=now)
        complete = driver.go()
        stopped = _end_stopped(prepared, store, runner, driver.points) if complete and prepared.rungs else 0
        # An interrupted sweep keeps the earlier results visible.
        store.keep_only(driver.planned if complete else driver.planned | driver.earlier)
        about = about_run(store, environment, fresh=driver.tally.ran > 0)
        store.write_text("study.yaml", study_file(prepared, driver.points, about))
    return Swept(
        trials=len(driver.planned),
        ran=driver.tally.ran,
        stopped=stopped,
        failures=driver.tally.failures,
        complete=complete,
        trial_seconds=driver.tally.spent,
        workers=driver.tally.workers,
        seconds=time.perf_counter() - started,
    )


@dataclass(kw_only=True)
class _Tally:
    """Counts and times of a run."""

    total: int
    """Trials of the whole sweep."""
    workers: int = 1
    """Present number."""
    ended: int = 0
    """Trials that ended, earlier ones included."""
    ran: int = 0
    spent: float = 0.0
    """Seconds of the items that ran."""
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def seconds_left(self) -> float:
        """Estimated time of the remaining trials, from the mean time of those that ran."""
        return max(self.total - self.ended, 0) * self.spent / max(self.ran, 1) / self.workers


@dataclass(kw_only=True)
class _OpenJob:
    """A job of which a trial has not ended."""

    left: int
    values: list[Sequence[float] | None] = field(default_factory=list)


class _Driver:
    """Gives the items of a sweep to idle workers, and handles what comes back; constant work for each trial.

    Of a trial that has ended it keeps the id and the values of its point.
    """

    def __init__(
        self,
        prepared: Prepared,
        store: Store,
        executor: Executor,
        *,
        watcher: Watcher,
        runner: Runner,
        mirror: Mirror,
        run: Run,
        about: Mapping[str, Any],
    ) -> None:
        self._about, self._next_file = about, 0.0
        """Facts for the study file, and the moment before which it is not written again."""
        self._prepared, self._store, self._executor, self._watcher = prepared, store, executor, watcher
        self._runner, self._mirror, self._run = runner, mirror, run
        jobs = prepared.jobs()
        self.tally = _Tally(total=jobs.total * prepared.folds)
        self._order, self._rungs = Order(jobs, ahead=prepared.ahead), RungStore(store)
        self.earlier = store.finished()
        """Trials of the plan that was current before."""
        self._known = self.earlier | store.superseded()
        if jobs.learns:
            # The index tells the figures of the current plan alone, and what an earlier one found is told too.
            store.keep_only(self._known | set(store.failures()))
        self._values = values_stored(store.columns(), prepared.goals, prepared.radius) if jobs.learns else None
        self._datasets = {prepared.sweep.cohort_name: prepared.dataset}
        self._jobs: dict[int, _OpenJob] = {}
        self._ready: deque[tuple[Job, SweepItem]] = deque()
        self._waiting: dict[str, list[tuple[Job, Trial]]] = {}
        """Trials that need a model that is in training now, by its key."""
        self._points: list[tuple[Any, ...]] = []
        self._began = False
        self.planned: set[str] = set()

    @property
    def points(self) -> Iterator[Settings]:
        """Every point that was proposed."""
        keys = self._prepared.sweep.keys
        return (dict(zip(keys, values, strict=True)) for values in self._points)

    def go(self) -> bool:
        """Runs the sweep; returns whether it came to its end.

        A pool draws items one by one. Where the next one needs the outcome of a running one, the items end, and go on
        when all that runs has ended.
        """
        try:
            with progress.listening(self._watcher.status):
                while self._round():
                    pass
                if not self._began:  # there was nothing to run
                    self._begin(workers=1)
            return True
        except KeyboardInterrupt:
            return False
        finally:
            self._watcher.end()
            self._rungs.close()

    def _round(self) -> bool:
        """Runs items until none can be drawn; returns whether there was any."""
        taken: dict[int, tuple[Job, SweepItem]] = {}
        drawn = False
        items = ByDevice(**{self._prepared.device: self._items(taken)})
        for outcome in self._executor.map(self._run, items, self._datasets):
            drawn = True
            self._take(*taken.pop(outcome.index), outcome)
        return drawn

    def _items(self, taken: dict[int, tuple[Job, SweepItem]]) -> Iterator[SweepItem]:
        """Returns items when workers ask for them, and reserves their ε only then.

        Args:
            taken: each item that is returned is added here, by its position.
        """
        for index in count():
            pair = self._next()
            if pair is None:
                return
            taken[index] = pair
            yield pair[1]

    def _next(self) -> tuple[Job, SweepItem] | None:
        """Returns the next item that a worker must run."""
        while True:
            while self._ready:
                job, item = self._ready.popleft()
                if not self._began:
                    # Before the observer is called: a ledger may need the cluster that the workers have joined.
                    self._begin(workers=self._executor.workers)
                refused = self._runner.refusal(item.work, self._prepared.dataset, errors=UserError)
                if refused is None:
                    self._watcher.started(item.trial.label)
                    return job, item
                self._store_record(refused, item)
                self._end(job, item.trial, None)
            next_job = self._order.next()
            if next_job is None:
                return None
            self._open(next_job)

    def _open(self, job: Job) -> None:
        """Plans the trials of a job."""
        keys = self._prepared.sweep.keys
        if job.rung in (None, 0):
            self._points.append(tuple(job.point[key] for key in keys))
        try:
            trials = self._prepared.sweep.trials(job.point, self._prepared.dataset, folds=self._prepared.folds)
        except SpecError as error:
            # A point that cannot be: others can.
            self.tally.failures[self._prepared.sweep.point_name(job.point)] = f"SpecError: {error}"
            self._points.pop()
            self._order.end(job.number, None)
            return
        self._jobs[job.number] = _OpenJob(left=len(trials))
        for trial in trials:
            self.planned.add(trial.id)
            self._plan(job, trial)

    def _plan(self, job: Job, trial: Trial) -> None:
        """Ends a trial that is stored, lets one wait whose model is in training, and makes an item of all others."""
        if trial.training in self._waiting:
            self._waiting[trial.training].append((job, trial))
        elif job.rung is None and trial.id in self._known:
            self.tally.ended += 1
            self._rungs.forget(trial.training)
            self._end_job(job, None if self._values is None else self._values.get(trial.id))
        elif job.rung is not None and (result := self._rungs.read(trial.training, job.rung)) is not None:
            self._end_job(job, [result.value])
        else:
            self._waiting[trial.training] = []
            self._ready.append((job, self._item(job, trial)))

    def _item(self, job: Job, trial: Trial) -> SweepItem:
        work = remaining_work(self._store, trial)
        rungs = self._prepared.rungs
        if rungs is None or (job.rung is None and work.trained is not None):
            return SweepItem(work=work)
        state = self._rungs.state(trial.training)
        if job.rung is None:
            return SweepItem(work=work, state=state)
        return SweepItem(
            work=replace(work, trained=None),
            rung=job.rung,
            epochs=rungs.epochs[job.rung],
            goal=self._prepared.goals[0],
            radius=self._prepared.radius,
            state=state,
        )

    def _take(self, job: Job, item: SweepItem, outcome: Outcome) -> None:
        """Stores what came back of an item."""
        value = outcome.value
        self.tally.ran += 1
        if isinstance(value, AtRung) and value.result.training == item.trial.training:
            self._rungs.write(replace(value.result, settings=dict(job.point)), value.state)
            self.tally.spent += value.result.seconds
            self._watcher.status(f"{item.trial.label}: {value.result.text.removeprefix('stopped ')}")
            self._end(job, item.trial, [value.result.value])
            return
        if isinstance(value, AtRung):
            why = "its worker runs another version of Assay or of its dependencies; bring both to one version"
            outcome = Outcome(index=outcome.index, value=failed(item.trial, RuntimeError(why)))
        record = record_of(outcome, item.trial)
        if record.weights:
            # Stored before the ledger records the end of the training: a lost model would cost its ε again.
            self._store.write_checkpoint(item.trial.training, record.weights)
            record = replace(record, artefact=artefact_of(record.weights), weights=b"")
        elif item.work.trained is not None:
            record = replace(record, artefact=artefact_of(item.work.trained.checkpoint))
        self._store_record(self._runner.end(item.trial, record, self._prepared.dataset), item)
        self._end(job, item.trial, self._values_of(item.trial, record))

    def _store_record(self, record: TrialRecord, item: SweepItem) -> None:
        self._store.write(record)
        self._mirror(record)
        self._rungs.forget(item.trial.training)
        self.tally.ended += 1
        self.tally.spent += record.seconds
        if record.failed:
            self.tally.failures[item.trial.label] = record.error
        self.tally.workers = self._executor.workers
        self._watcher.done(record, item.trial.label, seconds_left=self.tally.seconds_left, workers=self.tally.workers)
        self._write_study()

    def _write_study(self) -> None:
        """Writes the study file if enough time has passed, for those that read the folder while the sweep runs."""
        began = time.perf_counter()
        if began <= self._next_file:
            return
        self._store.write_text("study.yaml", study_file(self._prepared, self.points, self._about))
        now = time.perf_counter()
        self._next_file = now + max(PUBLISH_EVERY, PUBLISH_SHARE * (now - began))

    def _values_of(self, trial: Trial, record: TrialRecord) -> Sequence[float] | None:
        """Returns the values of the goals in a record, and keeps them where a repeated point may need them."""
        if record.failed:
            return None
        self._known.add(trial.id)
        if self._values is None:
            return None
        self._values[trial.id] = values_of_record(record, self._prepared.goals, self._prepared.radius)
        return self._values[trial.id]

    def _end(self, job: Job, trial: Trial, values: Sequence[float] | None) -> None:
        """Ends a trial that ran, and plans those that waited for its model."""
        waiting = self._waiting.pop(trial.training)
        self._end_job(job, values)
        for other, waited in waiting:
            self._plan(other, waited)

    def _end_job(self, job: Job, values: Sequence[float] | None) -> None:
        """Adds the outcome of a trial to its job; the last one ends it with the means over the folds."""
        opened = self._jobs[job.number]
        opened.left -= 1
        opened.values.append(values)
        if opened.left:
            return
        del self._jobs[job.number]
        known = [one for one in opened.values if one is not None]
        means = [sum(each) / len(known) for each in zip(*known, strict=True)]
        whole = len(known) == len(opened.values) and all(map(math.isfinite, means))
        self._order.end(job.number, means if whole else None)

    def _begin(self, *, workers: int) -> None:
        self._began = True
        self.tally.workers = workers
        self._watcher.begin(total=self.tally.total, finished=self.tally.ended, workers=workers)


def _end_stopped(prepared: Prepared, store: Store, runner: Runner, points: Iterator[Settings]) -> int:
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
    rungs.close()
    return len(stopped)
