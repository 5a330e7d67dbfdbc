"""One unit of work: data set × split × model × recipe × evaluations, named by the hash of its content."""

import hashlib
import importlib.util
import json
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import assay
from assay import seeds
from assay.data.base import Dataset
from assay.data.splits import Split, Splitting, split
from assay.errors import IncompatibleRecipeError
from assay.evaluations.base import Evaluation, Subject, TrainingLog
from assay.executors import Executor
from assay.federated.lead import train_federated
from assay.federated.partition import partition
from assay.models.base import Architecture
from assay.recipes import Recipe
from assay.results import Measurement, TrialRecord, judged
from assay.training.checkpoints import from_bytes, load_weights, to_bytes
from assay.training.feed import Decoded, Feed
from assay.training.loop import Trainer

_DEPENDENCIES = (
    "torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "opacus",
    "dp-accounting",
    "flwr",
    "gensim",
    "pillow",
    "pydicom",
    "wfdb",
)
_IF_INSTALLED = ("transformers",)
_NOT_HASHED = ("report", "cluster", "tracking.py")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one trial asks. Frozen and picklable; its ``id`` changes whenever its result could."""

    cohort: str
    recipe_name: str
    fold: int
    repeat: int
    seed: int
    """Of the study."""
    threads: int
    splitting: Splitting
    model: Architecture
    recipe: Recipe
    evaluations: tuple[Evaluation, ...]
    data_digest: str
    dataset_name: str
    official: bool = False
    """Whether the data set's own split is used: then repeats vary the seed alone."""
    data_about: Mapping[str, Any] = field(default_factory=dict)
    """What is said of the data set: its licence, citation and warnings; no part of the id beyond the digest."""

    @property
    def id(self) -> str:
        content = {**self.description(), "versions": versions(), "source": source_digest()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]

    @property
    def label(self) -> str:
        if self.official:
            return f"{self.cohort} · {self.recipe_name} · repeat {self.repeat + 1}"
        return f"{self.cohort} · {self.recipe_name} · fold {self.fold + 1}" + (
            f" · repeat {self.repeat + 1}" if self.repeat else ""
        )

    @property
    def trial_seed(self) -> int:
        """The same for every recipe of a fold: recipes are compared in pairs."""
        return seed_of(self.seed, fold=self.fold, repeat=self.repeat)

    def record(self, **found: Any) -> TrialRecord:
        """What became of this trial: measurements and weights, or an error."""
        return TrialRecord(
            trial=self.id,
            dataset=self.dataset_name,
            model=self.model.name,
            recipe=self.recipe_name,
            fold=self.fold,
            repeat=self.repeat,
            provenance={
                "asked": self.description(),
                "data": self.data_about,
                "versions": versions(),
                "source": source_digest(),
            },
            **found,
        )

    def description(self) -> dict[str, Any]:
        """All that is asked, as plain values."""
        return {
            "data": self.data_digest,
            "split": self.splitting.model_dump(
                mode="json", exclude={"repeats", "folds"} if self.official else {"repeats"}
            ),
            "official": self.official,
            "fold": self.fold,
            "repeat": self.repeat,
            "seed": self.seed,
            "threads": self.threads,
            "model": self.model.model_dump(mode="json"),
            "model_code": self.model.fingerprint(),
            "recipe": self.recipe.model_dump(mode="json"),
            "recipe_name": self.recipe_name,
            "cohort": self.cohort,
            "evaluations": [evaluation.model_dump(mode="json") for evaluation in self.evaluations],
            "evaluation_data": [evaluation.fingerprint() for evaluation in self.evaluations],
        }


def seed_of(seed: int, *, fold: int, repeat: int) -> int:
    """The seed of all trials of one fold and repeat."""
    return seeds.derive(seed, "repeat", repeat, "fold", fold)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Weights and what training left behind, as they are stored."""

    checkpoint: bytes

    @classmethod
    def of(cls, model: nn.Module, log: TrainingLog) -> "Trained":
        return cls(checkpoint=to_bytes(model.state_dict(), asdict(log)))

    def open(self, network: Callable[[], nn.Module]) -> tuple[nn.Module, TrainingLog]:
        """The model in evaluation mode, and its log."""
        tensors, about = from_bytes(self.checkpoint, "checkpoint of the trial")
        model = network()
        load_weights(model, tensors, "checkpoint of the trial")
        return model.eval(), TrainingLog(**about)


def run_trial(trial: Trial, executor: Executor, dataset: Dataset, *, trained: Trained | None = None) -> TrialRecord:
    """Train, unless it was trained already, and evaluate. A failure is a record that says why, not an exception.

    Args:
        executor: hosts the clients of a federated recipe, and its workers share the records of an evaluation.
        trained: the result of ``train_trial``, if it was called before.
    """
    torch.set_num_threads(trial.threads)
    started = time.perf_counter()
    try:
        trained = trained or train_trial(trial, executor, dataset)
        measurements = evaluate(trial, dataset, trained, executor)
    except Exception as error:
        why = f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-6)}"
        return trial.record(error=why, seconds=time.perf_counter() - started)
    return trial.record(
        measurements=tuple(measurements), weights=trained.checkpoint, seconds=time.perf_counter() - started
    )


def train_trial(
    trial: Trial, executor: Executor, dataset: Dataset, *, after_round: Callable[[int], None] | None = None
) -> Trained:
    """Train the recipe: in this process, or where the executor hosts the clients of a federated one.

    Raises:
        IncompatibleRecipeError: the recipe is federated, and what prepares the data learns from all clients' records.
    """
    torch.set_num_threads(trial.threads)
    given = dataset
    dataset, parts_of_data = prepared(trial, given)
    rows = parts_of_data.train
    if trial.recipe.federation is None:
        return Trained.of(*train_alone(trial, dataset, rows, held=parts_of_data.validation))
    if given.preparation is not None and dataset.unpaid_preprocessing and not given.unpaid_preprocessing:
        raise IncompatibleRecipeError(
            f"recipe {trial.recipe_name!r} is federated, but the words of {dataset.name} would be learnt from the "
            f"pooled texts of all clients, by {given.preparation.describe()}; use the embedding encoder, word2vec with "
            "the path of public vectors, or learned with a public vocabulary"
        )
    parts = partition(
        rows,
        dataset.y[rows],
        trial.recipe.federation,
        seed=trial.trial_seed,
        groups=None if dataset.groups is None else dataset.groups[rows],
    )

    def train(recipe: Recipe, stage: str, teacher: nn.Module | None) -> tuple[nn.Module, TrainingLog]:
        finished = train_federated(
            network_of(trial, dataset),
            recipe,
            dataset.x,
            dataset.y,
            parts,
            bounds=dataset.bounds,
            classes=dataset.classes,
            seed=trial.trial_seed,
            threads=trial.threads,
            executor=executor,
            stage=stage,
            teacher=teacher,
            after_round=after_round,
        )
        model = network_of(trial, dataset)()
        model.load_state_dict(dict(finished.weights))
        return model, TrainingLog(
            seconds=finished.seconds,
            worker_seconds=finished.client_seconds,
            workers=executor.workers,
            losses=finished.losses,
            mechanisms={str(number): asdict(mechanism) for number, mechanism in finished.mechanisms.items()},
            treatment=dict(finished.treatment),
            notes=list(finished.notes),
        )

    return Trained.of(*in_stages(trial.recipe, train))


Stage = Callable[[Recipe, str, nn.Module | None], tuple[nn.Module, TrainingLog]]
"""Trains one stage of a recipe: told the stage, its name (empty for the last) and the network of the one before."""


def in_stages(recipe: Recipe, train: Stage) -> tuple[nn.Module, TrainingLog]:
    """Train a recipe's teachers and then what it asks for; the last network, and the log of all."""
    *teachers, last = recipe.stages()
    model: nn.Module | None = None
    log: TrainingLog | None = None
    for number, stage in enumerate(teachers, start=1):
        model, own = train(stage, f"teacher {number}", model)
        log = own if log is None else log.then(own)
    model, own = train(last, "", model)
    return model, own if log is None else log.then(own)


def prepared(trial: Trial, dataset: Dataset) -> tuple[Dataset, Split]:
    """The records as the network takes them, and who is trained on and tested; learns from the training split alone."""
    parts = split(dataset, trial.splitting, fold=trial.fold, repeat=trial.repeat, seed=trial.seed)
    if dataset.preparation is None:
        return dataset, parts
    key = (trial.data_digest, parts.train.tobytes(), trial.trial_seed)
    if key not in _PREPARED:
        _PREPARED.clear()
        _PREPARED[key] = dataset.prepared(parts.train, seed=trial.trial_seed)
    return _PREPARED[key], parts


_PREPARED: dict[tuple[str, bytes, int], Dataset] = {}
"""The last one: training and evaluation, and all recipes of a fold that follow each other, share it."""


def train_alone(trial: Trial, dataset: Dataset, rows: np.ndarray, **settings: Any) -> tuple[nn.Module, TrainingLog]:
    """Train the recipe in this process, without its federation, on the given rows."""

    def train(recipe: Recipe, stage: str, teacher: nn.Module | None) -> tuple[nn.Module, TrainingLog]:
        about = {"stage": stage, "teacher": teacher, **settings}
        trainer = trainer_of(trial, dataset, rows, recipe=recipe, device=device(), **about)
        trainer.run()
        trainer.close()
        return trainer.model, log_of(trainer)

    return in_stages(trial.recipe, train)


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
            train=partial(_train_again, trial, dataset, held=parts.validation),
            executor=executor,
        ),
    )


def ask(evaluations: tuple[Evaluation, ...], subject: Subject) -> list[Measurement]:
    """All answers; warnings of data set and training stand beside the accuracy that everything else is read against."""
    found = judged([finding for evaluation in evaluations for finding in evaluation.measure(subject)])
    warnings = (*subject.dataset.warnings, *(() if subject.log is None else subject.log.notes))
    return [m.warn(*warnings) if m.name == "accuracy" else m for m in found]


def network_of(trial: Trial, dataset: Dataset) -> Callable[[], nn.Module]:
    """Makes the first network of the trial; picklable, so that a client can make it where it lives."""
    return partial(trial.model.build_for, dataset.form, seed=trial.trial_seed)


def trainer_of(
    trial: Trial,
    dataset: Dataset,
    rows: np.ndarray,
    *,
    recipe: Recipe,
    device: torch.device,
    feed: Feed | None = None,
    held: np.ndarray | None = None,
    held_feed: Feed | None = None,
    **settings: Any,
) -> Trainer:
    """A trainer of one stage of the trial's recipe on some records of a prepared data set.

    Args:
        feed: brings those records; ``feed_of`` does by default.
        held: validation records, for a recipe that stops early; brought by ``held_feed``, or likewise.
    """
    if recipe.training.early_stopping is not None and held is not None:
        brought = feed_of(dataset, held, device) if held_feed is None else held_feed
        settings["validation"] = (brought, torch.from_numpy(dataset.y[held]).to(device))
    return Trainer(
        network_of(trial, dataset)().to(device),
        recipe,
        feed_of(dataset, rows, device) if feed is None else feed,
        torch.from_numpy(dataset.y[rows]).to(device),
        bounds=dataset.bounds,
        classes=dataset.classes,
        **{"seed": trial.trial_seed, **settings},
    )


def feed_of(dataset: Dataset, rows: np.ndarray, device: torch.device) -> Tensor | Feed:
    """Records to learn from: in memory, unless they are of a kind that is decoded as it is needed."""
    if isinstance(dataset.x, np.ndarray):
        return torch.from_numpy(dataset.x[rows]).to(device)
    return Decoded(dataset.x, dataset.y, rows, device=device)


def log_of(trainer: Trainer, *, workers: int = 1) -> TrainingLog:
    """What a finished central training leaves behind."""
    mechanism = trainer.mechanism
    return TrainingLog(
        seconds=trainer.seconds,
        worker_seconds=trainer.seconds * workers,
        workers=workers,
        losses=trainer.losses,
        mechanisms={} if mechanism is None else {"central": asdict(mechanism)},
        treatment=trainer.treatment,
        notes=trainer.notes,
        validation=trainer.robust_validation,
    )


def device() -> torch.device:
    """The GPU that this process was given, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of everything a result could depend on."""
    extras = [name for name in _IF_INSTALLED if importlib.util.find_spec(name) is not None]
    return {"assay": assay.__version__, **{name: metadata.version(name) for name in (*_DEPENDENCIES, *extras)}}


@lru_cache(maxsize=1)
def source_digest() -> str:
    """Hash of the code that makes results: a changed line makes new trials."""
    root = Path(assay.__file__).parent
    sha = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if relative.parts[0] not in _NOT_HASHED:
            sha.update(str(relative).encode())
            sha.update(path.read_bytes())
    return sha.hexdigest()[:20]


def _train_again(
    trial: Trial, dataset: Dataset, rows: np.ndarray, name: str, recipe: Recipe | None = None, *, held: np.ndarray
) -> nn.Module:
    """The recipe, or another, without its federation, for as many passes, on the given rows; see ``TrainAgain``."""
    # Of the trial: another recipe in its place says nothing of a federation, and must learn for as long.
    federation = trial.recipe.federation
    trial = replace(trial, recipe=recipe or trial.recipe)
    seed = seeds.derive(trial.trial_seed, name) if name else trial.trial_seed
    passes = trial.recipe.training.epochs if federation is None else federation.rounds * federation.local_epochs
    return train_alone(trial, dataset, rows, held=held, epochs=passes, seed=seed)[0]
