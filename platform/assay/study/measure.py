"""One trial from nothing to its record: train, and ask every question."""

import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from assay import progress
from assay.data.base import Dataset
from assay.errors import UserError
from assay.evaluations.base import Evaluation, Subject
from assay.evaluations.copies import CopiedRecords
from assay.evaluations.scales import FeatureScales
from assay.executors import Executor
from assay.results import TELLS_OF, Finding, Measurement, TrialRecord, judged
from assay.study.beside import of_the_whole, on_samples
from assay.study.training import Trained, device, network_of, prepared, train_again, train_trial
from assay.study.trial import Trial


def run_trial(trial: Trial, executor: Executor, dataset: Dataset, *, trained: Trained | None = None) -> TrialRecord:
    """Train, unless it was trained already, and evaluate. A failure is a record that says why, not an exception.

    Args:
        executor: hosts the clients of a federated recipe, and its workers share the records of an evaluation.
        trained: the result of ``train_trial``, if it was called before.
    """
    torch.set_num_threads(trial.threads)
    started = time.perf_counter()
    try:
        with progress.step(trial.label):
            trained = trained or train_trial(trial, executor, dataset)
            measurements = evaluate(trial, dataset, trained, executor)
    except Exception as error:
        why = f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-6)}"
        return trial.record(error=why, seconds=time.perf_counter() - started)
    return trial.record(
        measurements=tuple(measurements), weights=trained.checkpoint, seconds=time.perf_counter() - started
    )


def failed(trial: Trial, error: Exception, seconds: float = 0.0) -> TrialRecord:
    """The record of a trial that was refused, or came to nothing outside of ``run_trial``, with why.

    What was raised and is no user's mistake keeps its traceback.

    Args:
        seconds: that it took.
    """
    why = f"{type(error).__name__}: {error}"
    if error.__traceback__ is not None and not isinstance(error, UserError):
        why += "\n" + "".join(traceback.format_exception(error, limit=-6))
    return trial.record(error=why, seconds=seconds)


def stamped(record: TrialRecord, environment: Mapping[str, Any]) -> TrialRecord:
    """The same record, which says where it was made."""
    return replace(record, provenance={**record.provenance, "environment": dict(environment)})


def evaluate(trial: Trial, dataset: Dataset, trained: Trained, executor: Executor) -> list[Measurement]:
    """Ask every question of a trained model; the answers do not depend on the executor."""
    dataset, parts = prepared(trial, dataset)
    model, log = trained.open(network_of(trial, dataset))
    return ask(
        trial.evaluations,
        Subject(
            model=model.to(device()),
            dataset=dataset,
            split=parts,
            recipe=trial.recipe,
            log=log,
            seed=trial.trial_seed,
            device=device(),
            train=partial(train_again, trial, dataset, held=parts.validation),
            network=network_of(trial, dataset),
            architecture=trial.model,
            executor=executor,
        ),
    )


def ask(evaluations: tuple[Evaluation, ...], subject: Subject, *, keep_going: bool = False) -> list[Measurement]:
    """All answers; warnings of data set and training stand beside the accuracy that everything else is read against.

    Beside that of a private model stand none that were counted on records: the row may leave, and no ε pays for them.

    Args:
        keep_going: an evaluation that raises becomes one failed measurement of its name, and the others are asked all
            the same. Otherwise the exception ends the trial, whose checkpoint is kept and measured again on resuming.
    """
    answers = _answers_or_failure if keep_going else _answers
    asked = (*evaluations, *_implied(evaluations, subject))
    told = [finding for evaluation in asked for finding in answers(evaluation, subject)]
    found = judged([*told, *_of_the_whole(evaluations, subject, told, keep_going=keep_going)])
    private = subject.recipe is not None and subject.recipe.privacy is not None
    data = subject.dataset.for_others if private else subject.dataset
    warnings = (*data.warnings, *(() if subject.log is None else subject.log.notes))
    return [m.warn(*warnings) if m.name == "accuracy" else m for m in found]


def _answers_or_failure(evaluation: Evaluation, subject: Subject) -> list[Finding]:
    """What an evaluation finds, or one failed measurement that says what it raised and where."""
    try:
        return _answers(evaluation, subject)
    except Exception as error:  # a user's network may raise anything, at any record
        return [_failure(evaluation.name, error)]


def _of_the_whole(
    evaluations: tuple[Evaluation, ...], subject: Subject, asked: Sequence[Finding], *, keep_going: bool
) -> list[Finding]:
    """What concerns several evaluations, or one failed measurement, as ``_answers_or_failure``."""
    try:
        return [*on_samples(evaluations, subject), *of_the_whole(subject, asked)]
    except Exception as error:
        if not keep_going:
            raise
        return [_failure("answers_one_class", error)]


def _failure(name: str, error: Exception) -> Measurement:
    why = f"{type(error).__name__}: {error}"
    if not isinstance(error, UserError):
        why += "\n" + "".join(traceback.format_exception(error, limit=-6))
    return Measurement(name=name, status="failed", unit="", warnings=(why,))


def _implied(evaluations: tuple[Evaluation, ...], subject: Subject) -> list[Evaluation]:
    """What is asked beside accuracy though nobody lists it: without it, the accuracy may mislead.

    Copies of test records tell of training records, so they are not looked for unasked in a private recipe.
    """
    listed = {evaluation.name for evaluation in evaluations}
    private = subject.recipe is not None and subject.recipe.privacy is not None
    wanted: list[Evaluation] = [CopiedRecords()] if len(subject.split.train) and not private else []
    if subject.dataset.modality == "tabular":
        wanted.append(FeatureScales())
    return [one for one in wanted if "accuracy" in listed and one.name not in listed]


def _answers(evaluation: Evaluation, subject: Subject) -> list[Finding]:
    """What an evaluation finds; where it tells of training records it says so, for whoever would release it."""
    told = {TELLS_OF: "training records"} if evaluation.of_training_records else {}
    with progress.step(evaluation.name):
        found = evaluation.measure(subject)
    return [replace(one, conditions={**one.conditions, **told}) for one in found]
