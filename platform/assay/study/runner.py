"""Runs one trial: reserves its ε, trains unless there is a model, measures what has no results, and records the end.

Studies, sweeps, Ray Train and the evaluation of a model from elsewhere all use it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from assay.data.base import Dataset
from assay.errors import BudgetError, StorageError, UserError
from assay.evaluations.base import Evaluation
from assay.executors import LocalExecutor, Outcome
from assay.results import Finding, TrialRecord
from assay.store.folder import Store
from assay.study.measure import failed, run_trial, stamped
from assay.study.training import Trained
from assay.study.trial import Trial
from assay.training.checkpoints import artefact_of, is_whole


class TrialObserver(Protocol):
    """Is called before every training and after every trial, and may refuse a training."""

    def reserve(self, trials: Sequence[Trial], datasets: Mapping[str, Dataset]) -> Mapping[str, UserError]:
        """Reserves the ε of planned trainings.

        Args:
            trials: that are planned to train.
            datasets: by cohort.

        Returns:
            Errors of the trials that must not run, by id.
        """
        ...

    def begin(self, trial: Trial, dataset: Dataset) -> None:
        """Called right before a training sees a record.

        Args:
            trial: that begins to train.
            dataset: of the trial.

        Raises:
            UserError: it must not begin.
        """
        ...

    def ask(self, trial: Trial, evaluation: Evaluation, dataset: Dataset) -> None:
        """Called right before an evaluation may train on the records itself.

        Args:
            trial: that is measured.
            evaluation: of the trial, without known results.
            dataset: of the trial.
        """
        ...

    def end(self, trial: Trial, record: TrialRecord, dataset: Dataset) -> None:
        """Called before a record is stored, also for a failed trial.

        Args:
            trial: that ended.
            record: of the trial.
            dataset: of the trial.
        """
        ...


class NoObserver:
    """Refuses nothing and records nothing."""

    def reserve(self, trials: Sequence[Trial], datasets: Mapping[str, Dataset]) -> Mapping[str, UserError]:
        """Reserves nothing; see ``TrialObserver``.

        Args:
            trials: that are planned to train.
            datasets: by cohort.

        Returns:
            No errors.
        """
        return {}

    def begin(self, trial: Trial, dataset: Dataset) -> None:
        """Does nothing.

        Args:
            trial: that begins to train.
            dataset: of the trial.
        """
        return

    def ask(self, trial: Trial, evaluation: Evaluation, dataset: Dataset) -> None:
        """Does nothing.

        Args:
            trial: that is measured.
            evaluation: of the trial.
            dataset: of the trial.
        """
        return

    def end(self, trial: Trial, record: TrialRecord, dataset: Dataset) -> None:
        """Does nothing.

        Args:
            trial: that ended.
            record: of the trial.
            dataset: of the trial.
        """
        return


@dataclass(frozen=True, kw_only=True)
class RemainingWork:
    """A trial with its stored model and results, which need not be computed again."""

    trial: Trial
    trained: Trained | None = None
    known: Mapping[str, tuple[Finding, ...]] = field(default_factory=dict)
    """Findings on these weights, by the keys of the results."""


def remaining_work(store: Store, trial: Trial) -> RemainingWork:
    """Returns a trial with what a store has of it.

    Args:
        store: of the results.
        trial: to run.

    Returns:
        The trial, its model if it is stored, and the results of its evaluations on these weights.

    Raises:
        StorageError: the stored model is damaged.
    """
    content = store.checkpoint(trial.training)
    if content is None:
        return RemainingWork(trial=trial)
    if not is_whole(content):
        path = f"{store.location}/artefacts/{trial.training}.safetensors"
        raise StorageError(
            f"{path!r} is damaged; delete it, and its model is trained again", setting="results", given=path
        )
    known = store.answers(trial.training, artefact_of(content))
    return RemainingWork(trial=trial, trained=Trained(checkpoint=content), known=known)


@dataclass(frozen=True, kw_only=True)
class RemainingCounts:
    """How much of some trials is missing in a store."""

    models: int
    """Models of these trials; trials may share one."""
    untrained: int
    """Models that are not stored."""
    questions: int
    """Evaluations of these models."""
    unanswered: int
    """Evaluations without stored results."""


def count_remaining(store: Store, trials: Sequence[Trial]) -> RemainingCounts:
    """Counts the models that are not trained and the evaluations that have no results.

    Args:
        store: of the results.
        trials: that are planned.

    Returns:
        The counts.
    """
    asked: dict[str, set[str]] = {}
    for trial in trials:
        asked.setdefault(trial.training, set()).update(trial.answer(evaluation) for evaluation in trial.evaluations)
    trained = set(store.models())
    return RemainingCounts(
        models=len(asked),
        untrained=len(asked.keys() - trained),
        questions=sum(map(len, asked.values())),
        unanswered=sum(
            len(answers - (store.answered(training) if training in trained else set()))
            for training, answers in asked.items()
        ),
    )


class Runner:
    """Runs trials and calls an observer before and after each.

    Args:
        observer: such as the keeper of the ledgers.
        environment: where this runs, for every record.
    """

    def __init__(self, observer: TrialObserver | None = None, environment: Mapping[str, Any] | None = None) -> None:
        self._observer: TrialObserver = observer or NoObserver()
        self.environment = dict(environment or {})

    def refused(self, trials: Sequence[Trial], datasets: Mapping[str, Dataset]) -> Mapping[str, TrialRecord]:
        """Reserves the ε of trials, and returns the records of those that must not run.

        Args:
            trials: that are going to train.
            datasets: by cohort.

        Returns:
            Records with the reason, by id of the trial.
        """
        errors = self._observer.reserve(trials, datasets)
        return {trial.id: self._refused(trial, errors[trial.id]) for trial in trials if trial.id in errors}

    def begin(self, work: RemainingWork, dataset: Dataset) -> None:
        """Calls the observer before a training, unless a model is stored, and before evaluations without results.

        Args:
            work: of the trial.
            dataset: of the trial.

        Raises:
            UserError: the training must not begin, for example because the budget is too small.
        """
        if work.trained is None:
            self._observer.begin(work.trial, dataset)
        for evaluation in work.trial.evaluations:
            if work.trial.answer(evaluation) not in work.known:
                self._observer.ask(work.trial, evaluation, dataset)

    def refusal(
        self, work: RemainingWork, dataset: Dataset, *, errors: type[UserError] = BudgetError
    ) -> TrialRecord | None:
        """Begins a trial as ``begin`` does, and returns a record where it is refused.

        Args:
            work: of the trial.
            dataset: of the trial.
            errors: that refuse the trial alone; others are raised.

        Returns:
            The record of a refused trial; None if it may run.
        """
        try:
            self.begin(work, dataset)
        except errors as error:
            return self._refused(work.trial, error)
        return None

    def end(self, trial: Trial, record: TrialRecord, dataset: Dataset) -> TrialRecord:
        """Calls the observer after a trial.

        Args:
            trial: that ended.
            record: of the trial.
            dataset: of the trial.

        Returns:
            The record with the environment added, to be stored.
        """
        record = stamped(record, self.environment)
        self._observer.end(trial, record, dataset)
        return record

    def _refused(self, trial: Trial, error: UserError) -> TrialRecord:
        return stamped(failed(trial, error), self.environment)


def evaluate_work(work: RemainingWork, datasets: Mapping[str, Dataset]) -> TrialRecord:
    """Trains and measures what a trial still needs, in this process.

    Args:
        work: of the trial.
        datasets: by cohort.

    Returns:
        The record.
    """
    dataset = datasets[work.trial.cohort]
    return run_trial(work.trial, LocalExecutor(), dataset, trained=work.trained, known=work.known)


def record_of(outcome: Outcome, trial: Trial) -> TrialRecord:
    """Returns the record of a trial that a worker ran; or one with an error where the worker died.

    Args:
        outcome: of the worker.
        trial: as this process names it.

    Returns:
        The record.
    """
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
