"""One trial from nothing to its record: train, and ask every question."""

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
from assay.devices import device
from assay.errors import UserError
from assay.evaluations.base import Evaluation, Subject
from assay.evaluations.constant_answers import ConstantAnswers
from assay.evaluations.copies import CopiedRecords, RepeatedTestRecords
from assay.evaluations.scales import FeatureScales
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
    """What evaluations found of one trained model, by the names of the answers."""

    name_of: Callable[[Evaluation], str]
    known: Mapping[str, Sequence[Finding]] = field(default_factory=dict)
    """Found before: nothing of it is measured again."""
    new: dict[str, Answer] = field(default_factory=dict)
    """Found now."""


def run_trial(
    trial: Trial,
    executor: Executor,
    dataset: Dataset,
    *,
    trained: Trained | None = None,
    known: Mapping[str, Sequence[Finding]] = MappingProxyType({}),
) -> TrialRecord:
    """Train, unless it was trained already, and measure what is not known yet.

    A failure is a record that says why, not an exception. It keeps the weights and what was measured before it.

    Args:
        executor: hosts the clients of a federated recipe, and its workers share the records of an evaluation.
        trained: the result of ``train_trial``, if it was called before, here or by an earlier run.
        known: what evaluations found of these very weights, by the names of the answers.
    """
    torch.set_num_threads(trial.threads)
    started = time.perf_counter()
    answers = AnswerLog(name_of=trial.answer, known=known)
    fresh = trained is None
    found: dict[str, Any] = {}
    try:
        with progress.step(trial.label):
            trained = trained or train_trial(trial, executor, dataset)
            found["measurements"] = tuple(evaluate(trial, dataset, trained, executor, answers))
    except Exception as error:
        found["error"] = f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-6)}"
    if trained is not None:
        found["artefact"] = artefact_of(trained.checkpoint)
        found["weights"] = trained.checkpoint if fresh else b""
    return trial.record(answers=answers.new, seconds=time.perf_counter() - started, **found)


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


def evaluate(
    trial: Trial, dataset: Dataset, trained: Trained, executor: Executor, answers: AnswerLog | None = None
) -> list[Measurement]:
    """Ask every question of a trained model; the answers do not depend on the executor."""
    dataset, parts = prepare_records(trial, dataset)
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
            task=trial.task,
            executor=executor,
        ),
        answers=answers,
    )


def ask(
    evaluations: tuple[Evaluation, ...],
    subject: Subject,
    *,
    keep_going: bool = False,
    answers: AnswerLog | None = None,
) -> list[Measurement]:
    """All answers; warnings of data set and training stand beside the accuracy that everything else is read against.

    Beside that of a private model stand none that were counted on records: the row may leave, and no ε pays for them.

    Args:
        keep_going: an evaluation that raises becomes one failed measurement of its name, and the others are asked all
            the same. Otherwise the exception ends the trial, whose checkpoint is kept and measured again on resuming.
        answers: those that are known, and are not asked again; what is asked is added.
    """
    answers = answers or AnswerLog(name_of=partial(key_of_question, task=subject.task))
    told: list[Finding] = []
    for evaluation in (*evaluations, *_implied(evaluations, subject)):
        name = answers.name_of(evaluation)
        if name in answers.known:
            told += evaluation.read(answers.known[name])
            continue
        try:
            found = answers_to(evaluation, subject)
        except Exception as error:  # a user's network may raise anything, at any record
            if not keep_going:
                raise
            told.append(_failure(evaluation.name, error))
            continue
        answers.new[name] = Answer(
            asked=evaluation.model_dump(mode="json", exclude=set(evaluation.read_later)), found=tuple(found)
        )
        told += evaluation.read(found)
    joined = judged(of_the_whole(told))
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
    """What is asked though nobody lists it: without it, what is asked may mislead.

    Copies of test records tell of training records, so they are not looked for unasked in a private recipe.
    """
    listed = {evaluation.name for evaluation in evaluations}
    private = subject.recipe is not None and subject.recipe.privacy is not None
    wanted: list[Evaluation] = [CopiedRecords()] if len(subject.split.train) and not private else []
    if subject.dataset.modality == "tabular":
        wanted.append(FeatureScales())
    wanted.append(RepeatedTestRecords())
    beside_accuracy = [one for one in wanted if "accuracy" in listed and one.name not in listed]
    return [*beside_accuracy, ConstantAnswers()]
