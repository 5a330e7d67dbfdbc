"""Runs a study: what is finished is never run again, what failed is retried, what is found is stored at once."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

import yaml

from assay import progress
from assay.data.base import Dataset
from assay.executors import Executor, LocalExecutor, Outcome
from assay.results import TrialRecord
from assay.store.folder import Store
from assay.study.measure import failed, run_trial
from assay.study.plan import load_datasets, plan
from assay.study.provenance import source_digest, versions
from assay.study.registration import register_requirements
from assay.study.runner import Runner, TrialObserver, Work, work_left
from assay.study.spec import Study
from assay.study.training import Trained, train_trial
from assay.study.trial import Trial
from assay.training.checkpoints import artefact_of

PUBLISH_EVERY = 15.0
"""Seconds between two versions of the report while trials finish, at least."""
PUBLISH_SHARE = 20.0
"""The same in multiples of what writing one takes: a page that grows must not take the time of the trials."""


class Watcher(Protocol):
    """Someone who looks on."""

    def read(self, cohort: str, dataset: Dataset) -> None:
        """The data of a cohort are loaded; ``Dataset.reading`` and ``Dataset.warnings`` are for the user."""
        ...

    def begin(self, *, total: int, finished: int, workers: int) -> None: ...

    def leading(self, trial: Trial, round_number: int, rounds: int) -> None:
        """A round of a federated trial is over."""
        ...

    def status(self, said: str) -> None:
        """What a trial is doing, every few seconds of a long one; may be called from another thread."""
        ...

    def done(self, record: TrialRecord, label: str, *, seconds_left: float) -> None: ...

    def end(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """How a run of a study ended."""

    planned: int
    ran: int
    failures: Mapping[str, str]
    """Errors of the trials that failed, by label."""
    trial_seconds: float
    """Summed over the trials that ran; a federated training counts once for each worker of its pool."""
    workers: int
    seconds: float
    """Wall time of the whole run, the start of Ray included."""


def run_study(
    study: Study,
    store: Store,
    executor: Executor,
    *,
    watcher: Watcher,
    publish: Callable[[Mapping[str, Dataset]], object],
    mirror: Callable[[TrialRecord], None] = lambda record: None,
    force: bool = False,
    environment: Mapping[str, Any] | None = None,
    started: float | None = None,
    keeper: TrialObserver | None = None,
) -> RunSummary:
    """Run what is missing of a study.

    Args:
        publish: writes the report from the store, given the data of every cohort; called after the first fold, now and
            then, and at the end.
        mirror: shown every finished trial.
        force: run finished trials again too.
        environment: where this ran, for ``study.yaml``.
        started: ``time.perf_counter()`` of the beginning, if it was before this call.
        keeper: keeps the ledgers of the data; without one nothing is reserved or noted.
    """
    started = time.perf_counter() if started is None else started
    environment = environment or {}
    with store.locked():
        datasets = load_datasets(study)
        for name, dataset in datasets.items():
            watcher.read(name, dataset)
        by_id = {trial.id: trial for trial in plan(study, datasets)}
        register_requirements(study, store, datasets)
        store.keep_only(by_id)
        finished = set() if force else (store.finished() & set(by_id)) - store.outdated(by_id)
        todo = [trial for name, trial in by_id.items() if name not in finished]
        runner = Runner(keeper, environment)
        write_study(study, store, {i: t.label for i, t in by_id.items()}, environment, fresh=bool(todo))
        tally = _Tally(todo=len(todo), workers=executor.workers if todo else 1)
        page = _Page(partial(publish, datasets), first=len({(t.cohort, t.recipe_name) for t in by_id.values()}))
        watcher.begin(total=len(by_id), finished=len(finished), workers=tally.workers)
        try:
            with progress.listening(watcher.status):
                for record in _Run(runner, datasets, store, executor, watcher, force=force).records(todo):
                    trial = by_id[record.trial]
                    store.write(record)
                    mirror(record)
                    tally.add(record, trial.label)
                    watcher.done(record, trial.label, seconds_left=tally.seconds_left)
                    page.look(tally)
        finally:
            watcher.end()
        publish(datasets)
    return tally.summary(planned=len(by_id), seconds=time.perf_counter() - started)


class _Tally:
    """What a run has come to so far.

    Args:
        todo: trials that it is to run.
        workers: that run them.
    """

    def __init__(self, *, todo: int, workers: int) -> None:
        self.todo, self.workers = todo, workers
        self.done = 0
        self.spent = 0.0
        """Seconds of the trials that are done, added up."""
        self.failures: dict[str, str] = {}

    @property
    def seconds_left(self) -> float:
        """What the others will take, if they are like those that are done."""
        return (self.todo - self.done) * (self.spent / self.done) / self.workers

    def add(self, record: TrialRecord, label: str) -> None:
        self.done += 1
        self.spent += record.seconds
        if record.failed:
            self.failures[label] = record.error

    def summary(self, *, planned: int, seconds: float) -> RunSummary:
        return RunSummary(
            planned=planned,
            ran=self.todo,
            failures=self.failures,
            trial_seconds=self.spent,
            workers=self.workers,
            seconds=seconds,
        )


class _Page:
    """The report while trials finish: written after the first fold's worth of them, then every so often.

    Args:
        publish: writes it.
        first: number of trials after which it is first written.
    """

    def __init__(self, publish: Callable[[], object], *, first: int) -> None:
        self._publish, self._first = publish, first
        self._next = 0.0
        """The moment before which it is not written again."""

    def look(self, tally: _Tally) -> None:
        """Write it, if that is worth its time; never after the last trial, when it is written anyway."""
        began = time.perf_counter()
        if not self._first <= tally.done < tally.todo or began <= self._next:
            return
        self._publish()
        now = time.perf_counter()
        self._next = now + max(PUBLISH_EVERY, PUBLISH_SHARE * (now - began))


class _Run:
    """Takes trials through a pool of workers; what the store has of them is neither trained nor measured again.

    Args:
        force: train and measure everything anew.
    """

    def __init__(
        self,
        runner: Runner,
        datasets: Mapping[str, Dataset],
        store: Store,
        executor: Executor,
        watcher: Watcher,
        *,
        force: bool,
    ) -> None:
        self._runner, self._datasets, self._store, self._watcher = runner, datasets, store, watcher
        self._executor, self._force = executor, force
        self._anew: set[str] = set()
        """Names of the models that this run has trained and stored: not even ``force`` trains them twice."""

    def records(self, todo: Sequence[Trial]) -> Iterator[TrialRecord]:
        """Every trial's record, in order of completion; the first fold first, so that there is soon something to see.

        Each must be stored before the next is asked for: trials that share a model wait until it is there.
        """
        training = [trial for trial in todo if self._store.checkpoint(trial.training) is None or self._force]
        refused = self._runner.refused(training, self._datasets)
        yield from refused.values()
        allowed = [trial for trial in todo if trial.id not in refused]
        first = [trial for trial in allowed if (trial.repeat, trial.fold) == (0, 0)]
        rest = [trial for trial in allowed if (trial.repeat, trial.fold) != (0, 0)]
        for stage in (first, rest):
            for part in _each_model_once(stage):
                yield from self._part(part)

    def _part(self, trials: Sequence[Trial]) -> Iterator[TrialRecord]:
        """Records of trials of which no two share a model.

        The federated trainings come first and one at a time: each is led from here and has the whole pool to itself.
        What they trained is then evaluated like every other trial, by one worker of the pool.
        """
        led: dict[str, Work] = {}
        seconds: dict[str, float] = {}
        for trial in [trial for trial in trials if trial.recipe.federation is not None]:
            began = time.perf_counter()
            work = self._left(trial)
            if work.trained is None:
                record = self._led(work)
                if isinstance(record, TrialRecord):
                    yield record
                    continue
                work = record
                seconds[trial.id] = (time.perf_counter() - began) * self._executor.workers
            led[trial.id] = work
        ready = [trial for trial in trials if trial.recipe.federation is None or trial.id in led]
        taken: list[Work] = []
        refused: list[TrialRecord] = []
        for outcome in self._executor.map(_evaluate, self._work(ready, led, taken, refused), self._datasets):
            work = taken[outcome.index]
            trial, record = work.trial, _record_of(outcome, work.trial)
            record = replace(record, seconds=record.seconds + seconds.get(trial.id, 0.0))
            if record.weights:
                # Before the ledger notes that the training has ended: it would be spent again if the model were lost.
                self._keep(trial, record.weights)
            elif work.trained is not None:
                record = replace(record, artefact=artefact_of(work.trained.checkpoint))
            yield self._runner.end(trial, record, self._datasets[trial.cohort])
        yield from refused

    def _led(self, work: Work) -> Work | TrialRecord:
        """Lead a federated training, and keep its model; or the record that says why there is none."""
        trial, began = work.trial, time.perf_counter()
        dataset = self._datasets[trial.cohort]
        if (refusal := self._runner.refusal(work, dataset)) is not None:
            return refusal
        try:
            trained = _lead(trial, dataset, self._executor, self._watcher)
        except Exception as error:
            return self._runner.end(trial, failed(trial, error, time.perf_counter() - began), dataset)
        self._keep(trial, trained.checkpoint)
        return replace(work, trained=trained)

    def _keep(self, trial: Trial, weights: bytes) -> None:
        """Store a model that this run has trained."""
        self._store.write_checkpoint(trial.training, weights)
        self._anew.add(trial.training)

    def _left(self, trial: Trial) -> Work:
        """What is left of a trial."""
        if self._force and trial.training not in self._anew:
            return Work(trial=trial)
        return work_left(self._store, trial)

    def _work(
        self, trials: Sequence[Trial], led: Mapping[str, Work], taken: list[Work], refused: list[TrialRecord]
    ) -> Iterator[Work]:
        """What is left of each trial as a worker asks for it, noted then: it may never come to that.

        Args:
            led: what is left of those whose model was trained already, by id.
            taken: each is put among these, or its record among the ``refused``.
        """
        for trial in trials:
            work = led.get(trial.id) or self._left(trial)
            refusal = self._runner.refusal(work, self._datasets[trial.cohort])
            if refusal is None:
                taken.append(work)
                yield work
            else:
                refused.append(refusal)


def _each_model_once(trials: Sequence[Trial]) -> Iterator[list[Trial]]:
    """The trials in lists of which none has two of one model."""
    left = list(trials)
    while left:
        first = {trial.training: trial for trial in reversed(left)}
        part = [trial for trial in left if first[trial.training] is trial]
        yield part
        left = [trial for trial in left if first[trial.training] is not trial]


def _lead(trial: Trial, dataset: Dataset, executor: Executor, watcher: Watcher) -> Trained:
    assert trial.recipe.federation is not None
    rounds = trial.recipe.federation.rounds
    return train_trial(trial, executor, dataset, after_round=lambda number: watcher.leading(trial, number, rounds))


def _evaluate(work: Work, datasets: Mapping[str, Dataset]) -> TrialRecord:
    dataset = datasets[work.trial.cohort]
    return run_trial(work.trial, LocalExecutor(), dataset, trained=work.trained, known=work.known)


def _record_of(outcome: Outcome, trial: Trial) -> TrialRecord:
    record = outcome.value
    if record is None:
        return failed(trial, RuntimeError(outcome.error))
    if record.trial == trial.id:
        return record
    if record.failed:
        return trial.record(error=record.error, seconds=record.seconds)
    ours, theirs = trial.record().provenance, record.provenance
    if any(theirs[what] != ours[what] for what in ("versions", "source")):
        why = "its worker runs another version of Assay or of its dependencies than this job; bring both to one version"
    else:
        other = [what for what, asked in ours["asked"].items() if theirs["asked"][what] != asked]
        why = (
            f"its worker was not asked the same ({', '.join(other)}): a file that the model or an evaluation names is "
            "not the same, or absent, on the worker; put the same file there under the same path"
        )
    return failed(trial, RuntimeError(why), record.seconds)


def write_study(
    study: Study, store: Store, labels: Mapping[str, str], environment: Mapping[str, Any], *, fresh: bool = True
) -> None:
    """Keep what is asked, by whom and where it runs, beside the results.

    Args:
        labels: what each planned trial is, by id.
        fresh: whether anything is run now; if not, when and where it ran before stays as it was written.
    """
    ran = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "source": source_digest(),
        "environment": dict(environment),
    }
    before = {} if fresh else yaml.safe_load(store.read_text("study.yaml")) or {}
    about = {
        "study": study.model_dump(mode="json"),
        **{key: before.get(key, value) for key, value in ran.items()},
        "trials": dict(labels),
    }
    store.write_text("study.yaml", yaml.safe_dump(about, sort_keys=False, allow_unicode=True))
