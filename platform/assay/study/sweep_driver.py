"""Gives the items of a sweep to the workers of a pool, and stores what comes back."""

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from assay import progress
from assay.data.base import Dataset
from assay.errors import SpecError, UserError
from assay.executors import LATER, ByDevice, Executor, Later, Outcome
from assay.results import TrialRecord
from assay.store.folder import Store
from assay.study.halving import Job
from assay.study.measure import failed
from assay.study.run import PUBLISH_EVERY, PUBLISH_SHARE
from assay.study.runner import Runner, record_of, remaining_work
from assay.study.search.base import Settings
from assay.study.sweep_file import study_file
from assay.study.sweep_goals import values_of_record, values_stored
from assay.study.sweep_items import AtRung, SweepItem
from assay.study.sweep_prepare import PreparedSweep
from assay.study.sweep_queue import LEAST_AHEAD, JobQueue, Lookahead
from assay.study.sweep_rungs import RungStore
from assay.study.tally import Tally
from assay.study.trial import Trial
from assay.study.watching import Watcher
from assay.tracking import Mirror
from assay.training.checkpoints import artefact_of

Run = Callable[[SweepItem, Mapping[str, Dataset]], TrialRecord | AtRung]


@dataclass(kw_only=True)
class _OpenJob:
    """A job of which a trial has not ended."""

    left: int
    values: list[Sequence[float] | None] = field(default_factory=list)


class SweepDriver:
    """Gives the items of a sweep to idle workers, and handles what comes back; constant work for each trial.

    Of a trial that has ended it keeps the id and the values of its point.

    Args:
        prepared: the sweep.
        store: of the results, which this job has locked.
        executor: whose workers run the trials.
        watcher: receives the progress.
        runner: of the trials.
        mirror: called with every finished trial.
        run: what a worker does with an item.
        about: facts for the study file.
    """

    def __init__(
        self,
        prepared: PreparedSweep,
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
        self.tally = Tally(total=jobs.total * prepared.folds)
        self._queue, self._rungs = JobQueue(jobs, self._lookahead()), RungStore(store)
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
        self._running: dict[int, tuple[Job, SweepItem]] = {}
        """Items that workers have taken, by their positions."""
        self._given = 0
        """Number of items that workers have taken so far."""
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

        A pool draws items one by one, in one map. Where the next one needs the outcome of a running one, the worker
        waits for it; the others go on.
        """
        try:
            with progress.listening(self._watcher.status):
                items = ByDevice(**{self._prepared.device: self._items()})
                for outcome in self._executor.map(self._run, items, self._datasets):
                    self._take(outcome)
                assert not self._jobs, "every job has ended"
                if not self._began:  # there was nothing to run
                    self._begin(workers=1)
            return True
        except KeyboardInterrupt:
            return False
        finally:
            self._watcher.end()

    def _lookahead(self) -> Lookahead:
        """Returns how many outcomes may be unknown: as many as asked for, or as in earlier runs of this sweep at least.

        Others that read the folder learn from ``sweep.json`` that its trials are points of a sweep.
        """

        def store(steps: Sequence[tuple[int, int]]) -> None:
            about = {**self._prepared.about, "ahead_from_job": steps}
            self._store.write_text("sweep.json", json.dumps(about, ensure_ascii=False, default=str))

        if self._prepared.ahead is None:
            before = json.loads(self._store.read_text("sweep.json") or "{}")
            steps = before.get("ahead_from_job") or [(0, before.get("ahead") or LEAST_AHEAD)]
            found = Lookahead([(job, ahead) for job, ahead in steps], workers=self._jobs_at_a_time, store=store)
        else:
            found = Lookahead([(0, self._prepared.ahead)])
        store(found.steps)
        return found

    def _jobs_at_a_time(self) -> float:
        """Returns how many jobs keep the pool busy; each has one trial a fold."""
        return self._executor.workers / self._prepared.folds

    def _items(self) -> Iterator[SweepItem | Later]:
        """Returns items when workers ask for them, and reserves their ε only then."""
        while (pair := self._next()) is not None or self._jobs:
            if pair is None:
                yield LATER
            else:
                self._running[self._given] = pair
                self._given += 1
                yield pair[1]

    def _next(self) -> tuple[Job, SweepItem] | None:
        """Returns the next item that a worker must run; None where there is none, or none before a running job ends."""
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
            next_job = self._queue.next()
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
            self._queue.end(job.number, None)
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

    def _take(self, outcome: Outcome) -> None:
        """Stores what came back of an item."""
        (job, item), value = self._running.pop(outcome.index), outcome.value
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
        self.tally.end(record, item.trial.label)
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
        self._queue.end(job.number, means if whole else None)

    def _begin(self, *, workers: int) -> None:
        self._began = True
        self.tally.workers = workers
        self._watcher.begin(total=self.tally.total, finished=self.tally.ended, workers=workers)
