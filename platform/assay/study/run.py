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
from assay.errors import BudgetError
from assay.executors import Executor, LocalExecutor, Outcome
from assay.results import TrialRecord
from assay.study.measure import failed, run_trial, stamped
from assay.study.plan import load_datasets, plan
from assay.study.provenance import source_digest, versions
from assay.study.releases.keeper import Keeper
from assay.study.spec import Study
from assay.study.store import Store
from assay.study.training import Trained, train_trial
from assay.study.trial import Trial

Item = tuple[Trial, Trained | None]
"""A trial for a worker, with what was trained of it before."""
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
class Summary:
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
    keeper: Keeper | None = None,
) -> Summary:
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
        store.keep_only(by_id)
        finished = set() if force else store.finished() & set(by_id)
        todo = [trial for name, trial in by_id.items() if name not in finished]
        write_study(study, store, {i: t.label for i, t in by_id.items()}, environment, fresh=bool(todo))
        tally = _Tally(todo=len(todo), workers=executor.workers if todo else 1)
        page = _Page(partial(publish, datasets), first=len({(t.cohort, t.recipe_name) for t in by_id.values()}))
        watcher.begin(total=len(by_id), finished=len(finished), workers=tally.workers)
        try:
            notes = _Notes(keeper, datasets)
            with progress.listening(watcher.status):
                for bare in _records(todo, datasets, store, executor, watcher, notes=notes, force=force):
                    trial, record = by_id[bare.trial], stamped(bare, environment)
                    notes.end(trial, record)
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

    def summary(self, *, planned: int, seconds: float) -> Summary:
        return Summary(
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


def _records(
    todo: list[Trial],
    datasets: Mapping[str, Dataset],
    store: Store,
    executor: Executor,
    watcher: Watcher,
    *,
    notes: "_Notes",
    force: bool,
) -> Iterator[TrialRecord]:
    """Every trial's record, in order of completion; the first fold first, so that there is soon something to look at.

    The federated trainings of a stage come first and one at a time: each is led from here and has the whole pool to
    itself. What they trained is then evaluated like every other trial, by one worker of the pool.
    """
    allowed, refusals = notes.reserve(todo)
    yield from refusals
    first = [trial for trial in allowed if (trial.repeat, trial.fold) == (0, 0)]
    rest = [trial for trial in allowed if (trial.repeat, trial.fold) != (0, 0)]
    for stage in (first, rest):
        led: dict[str, Trained] = {}
        extra: dict[str, float] = {}
        for trial in [trial for trial in stage if trial.recipe.federation is not None]:
            stored = None if force else store.checkpoint(trial.id)
            if stored is not None:
                led[trial.id] = Trained(checkpoint=stored)
                continue
            began = time.perf_counter()
            if (refusal := notes.refusal(trial)) is not None:
                yield refusal
                continue
            try:
                led[trial.id] = _lead(trial, datasets[trial.cohort], executor, watcher)
            except Exception as error:
                yield failed(trial, error, time.perf_counter() - began)
                continue
            extra[trial.id] = (time.perf_counter() - began) * executor.workers
            store.write_checkpoint(trial.id, led[trial.id].checkpoint)
        taken: list[Item] = []
        refused: list[TrialRecord] = []
        ready = [(trial, led.get(trial.id)) for trial in stage if trial.recipe.federation is None or trial.id in led]
        for outcome in executor.map(_evaluate_item, notes.of(ready, taken, refused), datasets):
            record = _record_of(outcome, taken)
            yield replace(record, seconds=record.seconds + extra.get(record.trial, 0.0))
        yield from refused


class _Notes:
    """What the ledgers are told of a run; nothing, where nobody keeps them.

    Each training is noted when a worker takes it, and not when it is planned: it may never come to that.
    """

    def __init__(self, keeper: Keeper | None, datasets: Mapping[str, Dataset]) -> None:
        self._keeper, self._datasets = keeper, datasets
        self._begun: set[str] = set()
        """Ids of trials of which the ledgers must be told how they end."""

    def reserve(self, todo: Sequence[Trial]) -> tuple[list[Trial], list[TrialRecord]]:
        """Hold what the trials will spend: those that may run, and the records of those that may not."""
        refused = {} if self._keeper is None else self._keeper.reserve(todo, self._datasets)
        allowed = [trial for trial in todo if trial.id not in refused]
        return allowed, [failed(trial, refused[trial.id]) for trial in todo if trial.id in refused]

    def refusal(self, trial: Trial) -> TrialRecord | None:
        """Why a training must not begin after all; None if it may, and is noted."""
        if self._keeper is not None:
            try:
                self._keeper.begin(trial, self._datasets[trial.cohort])
            except BudgetError as error:
                return failed(trial, error)
            self._begun.add(trial.id)
        return None

    def of(self, items: Sequence[Item], taken: list[Item], refused: list[TrialRecord]) -> Iterator[Item]:
        """Each as it is asked for, and put among the taken; or the refused, and passed over."""
        for item in items:
            refusal = self.refusal(item[0])
            if refusal is None:
                taken.append(item)
                yield item
            else:
                refused.append(refusal)

    def end(self, trial: Trial, record: TrialRecord) -> None:
        """Note how a trial ended, if it began."""
        if self._keeper is not None and trial.id in self._begun:
            self._keeper.end(trial, record, self._datasets[trial.cohort])


def _lead(trial: Trial, dataset: Dataset, executor: Executor, watcher: Watcher) -> Trained:
    assert trial.recipe.federation is not None
    rounds = trial.recipe.federation.rounds
    return train_trial(trial, executor, dataset, after_round=lambda number: watcher.leading(trial, number, rounds))


def _evaluate_item(item: Item, datasets: Mapping[str, Dataset]) -> TrialRecord:
    trial, trained = item
    return run_trial(trial, LocalExecutor(), datasets[trial.cohort], trained=trained)


def _record_of(outcome: Outcome, items: Sequence[Item]) -> TrialRecord:
    trial, record = items[outcome.index][0], outcome.value
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
