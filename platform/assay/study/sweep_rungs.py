"""Trainings that stop at a rung: what was measured there, and the state from which they go on."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from assay.data.base import Dataset
from assay.devices import device
from assay.evaluations.subject import Subject
from assay.executors import LocalExecutor
from assay.results import Measurement
from assay.store.files import Files
from assay.store.folder import Store
from assay.study.asking import answers_to
from assay.study.measure import subject_of
from assay.study.sweep_goals import ROBUST, Goal
from assay.study.training import Trained, log_of, prepare_records, trainer_of
from assay.study.trial import Trial
from assay.training.checkpoints import restore_trainer, trainer_state
from assay.training.loop import Trainer

_FOLDER = "rungs"


@dataclass(frozen=True, kw_only=True)
class RungResult:
    """A training that was measured on the validation records after some of its epochs. It is no finished trial."""

    training: str
    """Key of the model in training."""
    recipe: str
    """Name of the point."""
    label: str
    fold: int
    rung: int
    """Place of the rung, from 0."""
    epochs: int
    """Epochs so far."""
    of: int
    """Epochs of the whole training."""
    goal: str
    """What was measured."""
    value: float
    low: float
    high: float
    n: int
    """Validation records."""
    seconds: float
    """Of training and measuring up to here, since the rung before."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the point."""
    ended: bool = False
    """Whether the training was given up here: nothing goes on from it, and the ledger has recorded its end."""

    @property
    def text(self) -> str:
        """Where the training stopped, in words."""
        return (
            f"stopped at rung {self.rung + 1}, after {self.epochs} of {self.of} epochs: {self.goal} "
            f"{self.value:.3f} on {self.n} validation records"
        )


def train_to_rung(
    trial: Trial, dataset: Dataset, *, rung: int, epochs: int, goal: Goal, radius: float, state: bytes | None
) -> tuple[RungResult, bytes]:
    """Trains up to a number of epochs and measures the goal on the validation records.

    The training is the beginning of the whole one: its schedule of learning rates is that of all epochs, so with
    ``cosine`` a rung is measured while the rate is still high. Random numbers depend on the seed and the step alone, so
    a training that goes on from here ends with the weights of one that was never stopped.

    Args:
        trial: whose recipe is trained.
        dataset: of the trial, not yet prepared.
        rung: its place, from 0.
        epochs: of the rung.
        goal: what is measured.
        radius: at which the worst case is read.
        state: of the training at an earlier rung, or at this one; None to begin.

    Returns:
        What was measured, and the state of the training.
    """
    started = time.perf_counter()
    trainer = _resumed(trial, dataset, state)
    trainer.run(epochs - trainer.epoch)
    kept = trainer_state(trainer)
    trained = Trained.of(trainer.model, log_of(trainer))
    trainer.close()
    measured = _measured(trial, dataset, trained, goal, radius)
    result = RungResult(
        training=trial.training,
        recipe=trial.recipe_name,
        label=trial.label,
        fold=trial.fold,
        rung=rung,
        epochs=epochs,
        of=trial.recipe.training.epochs,
        goal=goal.key,
        value=measured.value,
        low=measured.low,
        high=measured.high,
        n=measured.n,
        seconds=time.perf_counter() - started,
    )
    return result, kept


def train_from(trial: Trial, dataset: Dataset, state: bytes) -> Trained:
    """Trains to the end from the state at a rung.

    Args:
        trial: whose recipe is trained.
        dataset: of the trial, not yet prepared.
        state: of the training.

    Returns:
        The weights and the log, as one uninterrupted training gives them.
    """
    trainer = _resumed(trial, dataset, state)
    trainer.run()
    trainer.close()
    return Trained.of(trainer.model, log_of(trainer))


def _resumed(trial: Trial, dataset: Dataset, state: bytes | None) -> Trainer:
    """Returns the trainer of a recipe with one stage, at a state, or at its beginning."""
    torch.set_num_threads(trial.threads)
    prepared, parts = prepare_records(trial, dataset)
    (stage,) = trial.recipe.stages()
    trainer = trainer_of(trial, prepared, parts.train, recipe=stage, device=device(), stage="")
    if state is not None:
        restore_trainer(trainer, state)
    return trainer


def _measured(trial: Trial, dataset: Dataset, trained: Trained, goal: Goal, radius: float) -> Measurement:
    """Returns the goal's measurement on the validation records, whatever records the sweep itself is evaluated on."""
    validating = replace(trial, splitting=trial.splitting.model_copy(update={"tested": "validation"}))
    subject: Subject = subject_of(validating, dataset, trained, LocalExecutor())
    (evaluation,) = [one for one in trial.evaluations if one.name == goal.evaluation]
    return next(
        finding
        for finding in answers_to(evaluation, subject)
        if isinstance(finding, Measurement)
        and finding.name == goal.measurement
        and (goal is not ROBUST or finding.conditions["epsilon"] == radius)
    )


class RungStore:
    """Results of rungs and states of trainings in the results of a sweep, one complete file each.

    - ``rungs/TRAINING-RUNG.json``: what was measured.
    - ``unfinished/TRAINING/rung.safetensors``: the state, until the training has ended.

    Both lie in the store, in an object store too: a sweep goes on from them on any machine.

    Args:
        store: of the sweep.
    """

    def __init__(self, store: Store) -> None:
        self._files = Files(store.location)

    def write(self, result: RungResult, state: bytes) -> None:
        """Stores the state of a training, then what was measured of it.

        Args:
            result: at the rung.
            state: of the training.
        """
        self._files.commit(_state_name(result.training), state)
        self._commit(result)

    def read(self, training: str, rung: int) -> RungResult | None:
        """Returns what was measured at a rung.

        Args:
            training: key of the model.
            rung: its place, from 0.

        Returns:
            The result; None if the training has not been there.
        """
        name = f"{_FOLDER}/{training}-{rung}.json"
        return RungResult(**json.loads(self._files.read(name))) if self._files.exists(name) else None

    def state(self, training: str) -> bytes | None:
        """Returns the state of a training.

        Args:
            training: key of the model.

        Returns:
            The state at the last rung; None if there is none.
        """
        name = _state_name(training)
        return self._files.read(name) if self._files.exists(name) else None

    def forget(self, training: str) -> None:
        """Deletes the state of a training that has ended.

        Args:
            training: key of the model.
        """
        self._files.delete_folder(f"unfinished/{training}")

    def end(self, result: RungResult) -> None:
        """Records that nothing goes on from a result, and deletes the state.

        Args:
            result: the last of its training.
        """
        self._commit(replace(result, ended=True))
        self.forget(result.training)

    def _commit(self, result: RungResult) -> None:
        self._files.commit(f"{_FOLDER}/{result.training}-{result.rung}.json", json.dumps(asdict(result)).encode())


def _state_name(training: str) -> str:
    return f"unfinished/{training}/rung.safetensors"


def last_rungs(store: Store) -> list[RungResult]:
    """Returns the last result of each training of a sweep that did not reach its end.

    Args:
        store: of the sweep.

    Returns:
        One result a training, sorted by the name of the point.
    """
    files, finished = Files(store.location), set(store.models())
    last: dict[str, RungResult] = {}
    for result in _results(files, files.names(_FOLDER, ".json")):
        if result.training not in finished and (
            result.training not in last or last[result.training].rung < result.rung
        ):
            last[result.training] = result
    return sorted(last.values(), key=lambda result: (result.recipe, result.fold))


def _results(files: Files, names: set[str]) -> Iterator[RungResult]:
    for name in sorted(names):
        content: Mapping[str, Any] = json.loads(files.read(f"{_FOLDER}/{name}.json"))
        yield RungResult(**content)
