"""Runs a study: finished trials are not run again, failed ones are retried, and results are stored at once."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from assay import progress
from assay.data.base import Dataset
from assay.executors import ByDevice, Executor
from assay.federated.resume import remove_rounds
from assay.results import TrialRecord
from assay.store.folder import Store
from assay.study.measure import failed
from assay.study.plan import load_datasets, plan
from assay.study.provenance import source_digest, versions
from assay.study.registration import register_requirements
from assay.study.runner import RemainingWork, Runner, TrialObserver, evaluate_work, record_of, remaining_work
from assay.study.spec import Study
from assay.study.tally import Tally
from assay.study.training import Trained, train_trial
from assay.study.trial import Trial
from assay.study.watching import RecordingWatcher, Watcher
from assay.training.checkpoints import artefact_of

PUBLISH_EVERY = 15.0
"""Least number of seconds between two versions of the report while trials finish."""
PUBLISH_SHARE = 20.0
"""The same as a multiple of the time of writing one: a page that grows must not take the time of the trials."""


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """Result of a run of a study."""

    planned: int
    ran: int
    failures: Mapping[str, str]
    """Errors of the trials that failed, by label."""
    trial_seconds: float
    """Summed over the trials that ran; a federated training counts once for each worker of its pool."""
    workers: int
    """How many there were at the end: machines may have come and gone."""
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
    """Runs the trials of a study that have no results yet.

    Args:
        study: to run.
        store: of its results.
        executor: whose workers run the trials.
        watcher: receives the progress.
        publish: writes the report from the store, given the data of every cohort; called after the first fold, at
            intervals, and at the end.
        mirror: called with every finished trial.
        force: run finished trials again too.
        environment: where this ran, for ``study.yaml``.
        started: ``time.perf_counter()`` of the beginning, if it was before this call.
        keeper: records charges in the ledgers of the data; without one nothing is reserved or recorded.

    Returns:
        Numbers of trials, failures and times.
    """
    started = time.perf_counter() if started is None else started
    environment = environment or {}
    watcher = RecordingWatcher(watcher, store)
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
        tally = Tally(total=len(todo), workers=executor.workers if todo else 1)
        page = _Page(partial(publish, datasets), first=len({(t.cohort, t.recipe_name) for t in by_id.values()}))
        watcher.begin(total=len(by_id), finished=len(finished), workers=tally.workers)
        try:
            with progress.listening(watcher.status):
                for record in _Run(runner, datasets, store, executor, watcher, force=force).records(todo):
                    trial = by_id[record.trial]
                    store.write(record)
                    mirror(record)
                    tally.ran += 1
                    tally.end(record, trial.label)
                    tally.workers = executor.workers
                    watcher.done(record, trial.label, seconds_left=tally.seconds_left, workers=tally.workers)
                    page.look(tally)
        finally:
            watcher.end()
        publish(datasets)
    return RunSummary(
        planned=len(by_id),
        ran=len(todo),
        failures=tally.failures,
        trial_seconds=tally.spent,
        workers=tally.workers,
        seconds=time.perf_counter() - started,
    )


class _Page:
    """Writes the report while trials finish: after as many trials as one fold has, then at intervals.

    Args:
        publish: writes it.
        first: number of trials after which it is first written.
    """

    def __init__(self, publish: Callable[[], object], *, first: int) -> None:
        self._publish, self._first = publish, first
        self._next = 0.0
        """The moment before which it is not written again."""

    def look(self, tally: Tally) -> None:
        """Writes the report if enough time has passed; never after the last trial, when it is written anyway."""
        began = time.perf_counter()
        if not self._first <= tally.ended < tally.total or began <= self._next:
            return
        self._publish()
        now = time.perf_counter()
        self._next = now + max(PUBLISH_EVERY, PUBLISH_SHARE * (now - began))


class _Run:
    """Runs trials on a pool of workers; what the store has already is neither trained nor measured again.

    Args:
        force: train and measure everything again.
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
        self._trained_now: set[str] = set()
        """Keys of the models that this run has trained and stored: not even ``force`` trains them twice."""

    def records(self, todo: Sequence[Trial]) -> Iterator[TrialRecord]:
        """Returns every trial's record, in order of completion; the first fold runs first.

        Each record must be stored before the next is requested: trials that share a model wait until it is stored.
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
        """Returns the records of trials of which no two share a model.

        Federated trainings come first and one at a time, because each uses the whole pool. Their models are then
        evaluated by one worker each, like every other trial.
        """
        with_model: dict[str, RemainingWork] = {}
        seconds: dict[str, float] = {}
        for trial in [trial for trial in trials if trial.recipe.federation is not None]:
            began = time.perf_counter()
            work = self._remaining(trial)
            if work.trained is None:
                record = self._train_federated(work)
                if isinstance(record, TrialRecord):
                    yield record
                    continue
                work = record
                seconds[trial.id] = (time.perf_counter() - began) * self._executor.workers
            with_model[trial.id] = work
        ready = [trial for trial in trials if trial.recipe.federation is None or trial.id in with_model]
        taken: list[RemainingWork] = []
        refused: list[TrialRecord] = []
        works = {
            device: self._queue([trial for trial in ready if trial.device == device], with_model, taken, refused)
            for device in ("gpu", "cpu")
        }
        for outcome in self._executor.map(evaluate_work, ByDevice(**works), self._datasets):
            work = taken[outcome.index]
            trial, record = work.trial, record_of(outcome, work.trial)
            record = replace(record, seconds=record.seconds + seconds.get(trial.id, 0.0))
            if record.weights:
                # Before the ledger records the end of the training: if the model were lost, ε would be spent again.
                self._store_model(trial, record.weights)
                record = replace(record, weights=b"", artefact=artefact_of(record.weights))
            elif work.trained is not None:
                record = replace(record, artefact=artefact_of(work.trained.checkpoint))
            yield self._runner.end(trial, record, self._datasets[trial.cohort])
        yield from refused

    def _train_federated(self, work: RemainingWork) -> RemainingWork | TrialRecord:
        """Runs a federated training and stores its model; returns a record with the error where that fails."""
        trial, began = work.trial, time.perf_counter()
        dataset = self._datasets[trial.cohort]
        if (refusal := self._runner.refusal(work, dataset)) is not None:
            return refusal
        self._watcher.started(trial.label)
        try:
            trained = _train_in_rounds(
                trial, dataset, self._executor, self._watcher, folder=self._store.unfinished(trial.training)
            )
        except Exception as error:
            return self._runner.end(trial, failed(trial, error, time.perf_counter() - began), dataset)
        self._store_model(trial, trained.checkpoint)
        if (folder := self._store.unfinished(trial.training)) is not None:
            remove_rounds(folder)
        return replace(work, trained=trained)

    def _store_model(self, trial: Trial, weights: bytes) -> None:
        """Stores a model that this run has trained."""
        self._store.write_checkpoint(trial.training, weights)
        self._trained_now.add(trial.training)

    def _remaining(self, trial: Trial) -> RemainingWork:
        """Returns what a trial still needs."""
        if self._force and trial.training not in self._trained_now:
            return RemainingWork(trial=trial)
        return remaining_work(self._store, trial)

    def _queue(
        self,
        trials: Sequence[Trial],
        with_model: Mapping[str, RemainingWork],
        taken: list[RemainingWork],
        refused: list[TrialRecord],
    ) -> Iterator[RemainingWork]:
        """Returns the remaining work of each trial when a worker asks for it, and reserves its ε only then.

        Args:
            with_model: remaining work of the trials whose model was trained already, by id.
            taken: each work that is returned is added here.
            refused: records of trials that must not run are added here.
        """
        for trial in trials:
            work = with_model.get(trial.id) or self._remaining(trial)
            refusal = self._runner.refusal(work, self._datasets[trial.cohort])
            if refusal is None:
                taken.append(work)
                self._watcher.started(trial.label)
                yield work
            else:
                refused.append(refusal)


def _each_model_once(trials: Sequence[Trial]) -> Iterator[list[Trial]]:
    """Splits trials into lists in which no two trials share a model."""
    waiting = list(trials)
    while waiting:
        first = {trial.training: trial for trial in reversed(waiting)}
        yield [trial for trial in waiting if first[trial.training] is trial]
        waiting = [trial for trial in waiting if first[trial.training] is not trial]


def _train_in_rounds(
    trial: Trial, dataset: Dataset, executor: Executor, watcher: Watcher, *, folder: Path | None
) -> Trained:
    """Runs a federated training and reports its rounds; one that was stopped goes on after its last stored round."""
    assert trial.recipe.federation is not None
    rounds = trial.recipe.federation.rounds
    return train_trial(
        trial,
        executor,
        dataset,
        after_round=lambda number: watcher.leading(trial, number, rounds),
        folder=folder,
    )


def write_study(
    study: Study, store: Store, labels: Mapping[str, str], environment: Mapping[str, Any], *, fresh: bool = True
) -> None:
    """Writes ``study.yaml``: what is asked, by whom and where it runs.

    Args:
        study: as it is run.
        store: of its results.
        labels: of each planned trial, by id.
        environment: where it runs.
        fresh: whether any trial runs now; if not, time and place of the earlier run are kept.
    """
    about = {
        "study": study.model_dump(mode="json"),
        **about_run(store, environment, fresh=fresh),
        "trials": dict(labels),
    }
    store.write_text("study.yaml", yaml.safe_dump(about, sort_keys=False, allow_unicode=True))


def about_run(store: Store, environment: Mapping[str, Any], *, fresh: bool) -> dict[str, Any]:
    """Returns when, where and by which versions something runs, for ``study.yaml``.

    Args:
        store: of its results.
        environment: where it runs.
        fresh: whether any trial runs now; if not, time and place of the earlier run are kept.

    Returns:
        Plain values.
    """
    ran = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "source": source_digest(),
        "environment": dict(environment),
    }
    before = {} if fresh else yaml.safe_load(store.read_text("study.yaml")) or {}
    return {key: before.get(key, value) for key, value in ran.items()}
