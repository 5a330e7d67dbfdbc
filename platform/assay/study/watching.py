"""The progress of a run: who is told of it, and the file in which other processes read it."""

from typing import Protocol

from assay.data.base import Dataset
from assay.results import TrialRecord
from assay.store.folder import Store
from assay.store.progress import ProgressFile
from assay.study.trial import Trial


class Watcher(Protocol):
    """Receives the progress of a run."""

    def read(self, cohort: str, dataset: Dataset) -> None:
        """Called when the data of a cohort are loaded; ``Dataset.reading`` and ``Dataset.warnings`` are for the user.

        Args:
            cohort: its name.
            dataset: its data.
        """
        ...

    def begin(self, *, total: int, finished: int, workers: int) -> None:
        """Called before the first trial.

        Args:
            total: planned trials.
            finished: planned trials that have results already.
            workers: that there are now, to run the others.
        """
        ...

    def started(self, label: str) -> None:
        """Called when a trial is given to a worker.

        Args:
            label: of the trial.
        """
        ...

    def leading(self, trial: Trial, round_number: int, rounds: int) -> None:
        """Called after each round of a federated trial.

        Args:
            trial: that is trained.
            round_number: of the finished round, from 1.
            rounds: of the whole training.
        """
        ...

    def status(self, said: str) -> None:
        """Called every few seconds of a long trial, perhaps from another thread.

        Args:
            said: what the trial is doing.
        """
        ...

    def done(self, record: TrialRecord, label: str, *, seconds_left: float, workers: int) -> None:
        """Called after each trial.

        Args:
            record: of the trial.
            label: of the trial.
            seconds_left: estimated time of the remaining trials, in seconds.
            workers: that there are now.
        """
        ...

    def end(self) -> None:
        """Called after the last trial, also when the run fails."""
        ...


class RecordingWatcher:
    """A watcher that also writes ``progress.json`` into the store, which the dashboard shows.

    Only within ``store.locked()``, for one job writes the file.

    Args:
        watcher: is told everything too.
        store: of the results.
    """

    def __init__(self, watcher: Watcher, store: Store) -> None:
        self._told: tuple[Watcher, Watcher] = (watcher, ProgressFile(store.location))

    def read(self, cohort: str, dataset: Dataset) -> None:
        """See ``Watcher.read``."""
        for one in self._told:
            one.read(cohort, dataset)

    def begin(self, *, total: int, finished: int, workers: int) -> None:
        """See ``Watcher.begin``."""
        for one in self._told:
            one.begin(total=total, finished=finished, workers=workers)

    def started(self, label: str) -> None:
        """See ``Watcher.started``."""
        for one in self._told:
            one.started(label)

    def leading(self, trial: Trial, round_number: int, rounds: int) -> None:
        """See ``Watcher.leading``."""
        for one in self._told:
            one.leading(trial, round_number, rounds)

    def status(self, said: str) -> None:
        """See ``Watcher.status``."""
        for one in self._told:
            one.status(said)

    def done(self, record: TrialRecord, label: str, *, seconds_left: float, workers: int) -> None:
        """See ``Watcher.done``."""
        for one in self._told:
            one.done(record, label, seconds_left=seconds_left, workers=workers)

    def end(self) -> None:
        """See ``Watcher.end``."""
        for one in self._told:
            one.end()
