"""One trial from its beginning to its end: noted, trained unless it was before, measured where it was not, noted again.

Studies, sweeps, Ray Train and the evaluation of a given model all go through here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from assay.data.base import Dataset
from assay.errors import BudgetError, UserError
from assay.executors import Executor
from assay.results import Finding, TrialRecord
from assay.store.folder import Store
from assay.study.measure import failed, run_trial, stamped
from assay.study.training import Trained
from assay.study.trial import Trial
from assay.training.checkpoints import artefact_of


class TrialObserver(Protocol):
    """Is told of every training before it begins and of every trial that has ended, and may refuse a training."""

    def reserve(self, trials: Sequence[Trial], datasets: Mapping[str, Dataset]) -> Mapping[str, UserError]:
        """Why trials that are planned must not run, by id.

        Args:
            datasets: by cohort.
        """
        ...

    def begin(self, trial: Trial, dataset: Dataset) -> None:
        """Called right before a training sees a record.

        Raises:
            UserError: it must not begin.
        """
        ...

    def end(self, trial: Trial, record: TrialRecord, dataset: Dataset) -> None:
        """Called before a record is stored, whatever became of the trial."""
        ...


class NoObserver:
    """Refuses nothing and notes nothing."""

    def reserve(self, trials: Sequence[Trial], datasets: Mapping[str, Dataset]) -> Mapping[str, UserError]:
        return {}

    def begin(self, trial: Trial, dataset: Dataset) -> None:
        return None

    def end(self, trial: Trial, record: TrialRecord, dataset: Dataset) -> None:
        return None


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is left of a trial: its model need not be trained where there is one, nor asked what is known."""

    trial: Trial
    trained: Trained | None = None
    known: Mapping[str, tuple[Finding, ...]] = field(default_factory=dict)
    """What was found of these weights, by the names of the answers."""


def work_left(store: Store, trial: Trial) -> Work:
    """What a store lacks of a trial."""
    content = store.checkpoint(trial.training)
    if content is None:
        return Work(trial=trial)
    known = store.answers(trial.training, artefact_of(content))
    return Work(trial=trial, trained=Trained(checkpoint=content), known=known)


@dataclass(frozen=True, kw_only=True)
class Left:
    """What a store lacks of some trials."""

    models: int
    """That the trials are of; trials may share one."""
    untrained: int
    """Models that the store does not have."""
    questions: int
    """Asked of these models."""
    unanswered: int
    """Questions that the store has no answer to."""


def count_left(store: Store, trials: Sequence[Trial]) -> Left:
    """How much of some trials is still to be trained and measured."""
    asked: dict[str, set[str]] = {}
    for trial in trials:
        asked.setdefault(trial.training, set()).update(trial.answer(one) for one in trial.evaluations)
    trained = set(store.models())
    return Left(
        models=len(asked),
        untrained=len(asked.keys() - trained),
        questions=sum(map(len, asked.values())),
        unanswered=sum(
            len(answers - (store.answered(training) if training in trained else set()))
            for training, answers in asked.items()
        ),
    )


class Runner:
    """Runs trials, and has an observer know.

    Args:
        observer: such as the keeper of the ledgers.
        environment: where this runs, for every record.
    """

    def __init__(self, observer: TrialObserver | None = None, environment: Mapping[str, Any] | None = None) -> None:
        self._observer: TrialObserver = observer or NoObserver()
        self.environment = dict(environment or {})

    def refused(self, trials: Sequence[Trial], datasets: Mapping[str, Dataset]) -> Mapping[str, TrialRecord]:
        """Records of the trials that must not run, by id; what the others will spend is held.

        Args:
            trials: that are going to train.
            datasets: by cohort.
        """
        why = self._observer.reserve(trials, datasets)
        return {trial.id: self._refused(trial, why[trial.id]) for trial in trials if trial.id in why}

    def begin(self, work: Work, dataset: Dataset) -> None:
        """Note a training, where there is one to come.

        Raises:
            UserError: it must not begin: the budget does not hold it, say.
        """
        if work.trained is None:
            self._observer.begin(work.trial, dataset)

    def refusal(self, work: Work, dataset: Dataset) -> TrialRecord | None:
        """Begin, as ``begin`` does; the record of a trial that the budget does not hold, else None."""
        try:
            self.begin(work, dataset)
        except BudgetError as error:
            return self._refused(work.trial, error)
        return None

    def end(self, trial: Trial, record: TrialRecord, dataset: Dataset) -> TrialRecord:
        """Note how a trial ended; its record, which says where it was made, for the store."""
        record = stamped(record, self.environment)
        self._observer.end(trial, record, dataset)
        return record

    def run(self, work: Work, dataset: Dataset, executor: Executor) -> tuple[TrialRecord, bool]:
        """Begin a trial and run it in this process. Its end is noted by ``end``, where its model is stored.

        Returns:
            The record, and whether the trial began; one that was refused says why.
        """
        try:
            self.begin(work, dataset)
        except UserError as error:
            return self._refused(work.trial, error), False
        return run_trial(work.trial, executor, dataset, trained=work.trained, known=work.known), True

    def _refused(self, trial: Trial, error: UserError) -> TrialRecord:
        return stamped(failed(trial, error), self.environment)
