"""Runs one trial: trains its model and runs all its evaluations."""

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import torch

from assay import progress
from assay.data.base import Dataset
from assay.devices import device, on_cpu
from assay.errors import UserError
from assay.evaluations.base import Evaluation
from assay.evaluations.constant_answers import ConstantAnswers
from assay.evaluations.copies import CopiedRecords, RepeatedTestRecords
from assay.evaluations.rounds import Rounds
from assay.evaluations.scales import FeatureScales
from assay.evaluations.subject import Subject
from assay.executors import Executor
from assay.results import Answer, Finding, Measurement, TrialRecord, judged
from assay.study.asking import answers_to
from assay.study.beside import of_the_whole
from assay.study.identity import key_of_question
from assay.study.training import Trained, network_of, prepare_records, train_again, train_trial
from assay.study.trial import Trial
from assay.training.checkpoints import artefact_of


@dataclass(frozen=True, kw_only=True)
class AnswerLog:
    """Findings of evaluations of one trained model, by the keys of their results."""

    name_of: Callable[[Evaluation], str]
    known: Mapping[str, Sequence[Finding]] = field(default_factory=dict)
    """Findings of earlier runs: these evaluations are not run again."""
    new: dict[str, Answer] = field(default_factory=dict)
    """Findings of this run."""


def run_trial(
    trial: Trial,
    executor: Executor,
    dataset: Dataset,
    *,
    trained: Trained | None = None,
    known: Mapping[str, Sequence[Finding]] = MappingProxyType({}),
) -> TrialRecord:
    """Trains a model, unless it was trained already, and runs the evaluations that have no results yet.

    A failure becomes a record with the error, not an exception. The record keeps the weights and all earlier results.

    Args:
        trial: to run.
        executor: hosts the clients of a federated recipe, and its workers share the records of an evaluation.
        dataset: of the trial.
        trained: the result of ``train_trial``, if it was called before, here or by an earlier run.
        known: findings of evaluations of these very weights, by the keys of their results.

    Returns:
        The record of the trial.
    """
    torch.set_num_threads(trial.threads)
    started = time.perf_counter()
    answers = AnswerLog(name_of=trial.answer, known=known)
    fresh = trained is None
    fields: dict[str, Any] = {}
    try:
        with on_cpu(trial.device == "cpu"), progress.step(trial.label):
            trained = trained or train_trial(trial, executor, dataset)
            fields["measurements"] = tuple(evaluate(trial, dataset, trained, executor, answers))
    except Exception as error:
        fields["error"] = f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-6)}"
    if trained is not None:
        fields["artefact"] = artefact_of(trained.checkpoint)
        fields["weights"] = trained.checkpoint if fresh else b""
    return trial.record(answers=answers.new, seconds=time.perf_counter() - started, **fields)


def failed(trial: Trial, error: Exception, seconds: float = 0.0) -> TrialRecord:
    """Returns the record of a trial that was refused, or failed outside of ``run_trial``, with the error.

    The traceback is kept unless the error is a user's mistake.

    Args:
        trial: that failed.
        error: that was raised.
        seconds: that the trial took.

    Returns:
        A record without measurements.
    """
    why = f"{type(error).__name__}: {error}"
    if error.__traceback__ is not None and not isinstance(error, UserError):
        why += "\n" + "".join(traceback.format_exception(error, limit=-6))
    return trial.record(error=why, seconds=seconds)


def stamped(record: TrialRecord, environment: Mapping[str, Any]) -> TrialRecord:
    """Adds the environment to a record.

    Args:
        record: of a trial.
        environment: where the trial ran.

    Returns:
        A copy of the record.
    """
    return replace(record, provenance={**record.provenance, "environment": dict(environment)})


def evaluate(
    trial: Trial, dataset: Dataset, trained: Trained, executor: Executor, answers: AnswerLog | None = None
) -> list[Measurement]:
    """Runs all evaluations of a trial on a trained model; the results do not depend on the executor.

    Args:
        trial: with its evaluations.
        dataset: of the trial, not yet prepared.
        trained: weights and training log.
        executor: its workers share the records of an evaluation.
        answers: results that are known already; new ones are added. By default none are known.

    Returns:
        All measurements.
    """
    return ask(trial.evaluations, subject_of(trial, dataset, trained, executor), answers=answers)


def subject_of(trial: Trial, dataset: Dataset, trained: Trained, executor: Executor) -> Subject:
    """Returns a trained model with its data, as evaluations take it.

    Args:
        trial: that trained it.
        dataset: of the trial, not yet prepared.
        trained: weights and training log.
        executor: its workers share the records of an evaluation.

    Returns:
        The subject.
    """
    dataset, parts = prepare_records(trial, dataset)
    model, log = trained.open(network_of(trial, dataset))
    # What trains again trains with the settings that were chosen.
    trial = replace(trial, recipe=log.tuned_recipe(trial.recipe))
    personal = trained.open_clients(network_of(trial, dataset))
    return Subject(
        model=model.to(device()),
        dataset=dataset,
        split=parts,
        recipe=trial.recipe,
        personal={name: own.to(device()) for name, own in personal.items()},
        log=log,
        seed=trial.trial_seed,
        device=device(),
        train=partial(train_again, trial, dataset, held=parts.validation),
        network=network_of(trial, dataset),
        architecture=trial.model,
        task=trial.task,
        executor=executor,
    )


def ask(
    evaluations: tuple[Evaluation, ...],
    subject: Subject,
    *,
    keep_going: bool = False,
    answers: AnswerLog | None = None,
) -> list[Measurement]:
    """Runs all evaluations on a model.

    Warnings of the data set and of the training are attached to the accuracy, with which all other figures are
    compared. For a private model, warnings that were counted on records are left out: this row may be released, and no
    ε pays for them.

    Args:
        evaluations: to run.
        subject: the trained model with its data.
        keep_going: an evaluation that raises becomes one failed measurement with its name, and the others still run.
            Otherwise the exception ends the trial, whose checkpoint is kept and measured again on resuming.
        answers: results that are known already and are not computed again; new ones are added.

    Returns:
        All measurements.
    """
    answers = answers or AnswerLog(name_of=partial(key_of_question, task=subject.task))
    findings: list[Finding] = []
    for evaluation in (*evaluations, *_implied(evaluations, subject)):
        name = answers.name_of(evaluation)
        if name in answers.known:
            findings += evaluation.read(answers.known[name])
            continue
        try:
            found = answers_to(evaluation, subject)
        except Exception as error:  # a user's network may raise anything, at any record
            if not keep_going:
                raise
            findings.append(_failure(evaluation.name, error))
            continue
        answers.new[name] = Answer(
            asked=evaluation.model_dump(mode="json", exclude=set(evaluation.read_later)), found=tuple(found)
        )
        findings += evaluation.read(found)
    joined = judged(of_the_whole(findings))
    private = subject.recipe is not None and subject.recipe.privacy is not None
    data = subject.dataset.for_others if private else subject.dataset
    warnings = (*data.warnings, *(() if subject.log is None else subject.log.notes))
    return [m.warn(*warnings) if m.name == "accuracy" else m for m in joined]


def _failure(name: str, error: Exception) -> Measurement:
    why = f"{type(error).__name__}: {error}"
    if not isinstance(error, UserError):
        why += "\n" + "".join(traceback.format_exception(error, limit=-6))
    return Measurement(name=name, status="failed", reason="error", unit="", warnings=(why,))


def _implied(evaluations: tuple[Evaluation, ...], subject: Subject) -> list[Evaluation]:
    """Returns the evaluations that run without being listed, because other figures may mislead without them.

    The search for copies of test records depends on training records, so it does not run unlisted for a private recipe.
    """
    listed = {evaluation.name for evaluation in evaluations}
    private = subject.recipe is not None and subject.recipe.privacy is not None
    wanted: list[Evaluation] = [CopiedRecords()] if len(subject.split.train) and not private else []
    if subject.dataset.modality == "tabular":
        wanted.append(FeatureScales())
    wanted.append(RepeatedTestRecords())
    implied = wanted if "accuracy" in listed else []
    # What clients have by joining rests on who answered.
    if "clients" in listed and subject.recipe is not None and subject.recipe.federation is not None:
        implied.append(Rounds())
    return [*(evaluation for evaluation in implied if evaluation.name not in listed), ConstantAnswers()]
