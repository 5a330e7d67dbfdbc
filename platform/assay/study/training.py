"""Trains the model of a trial: prepares its records, builds its network, and runs its stages, also at clients."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from assay import progress, seeds
from assay.data.base import Dataset
from assay.data.partition import partition_dataset
from assay.data.splits import Split, split
from assay.devices import device
from assay.errors import CheckpointError, IncompatibleRecipeError
from assay.executors import Executor
from assay.privacy.unit import refuse_unlikely_patients
from assay.recipes import Recipe
from assay.training.build import build_trainer
from assay.training.checkpoints import load_weights, networks_from_bytes, networks_to_bytes
from assay.training.feed import Decoded, Feed
from assay.training.log import TrainingLog
from assay.training.loop import Trainer

if TYPE_CHECKING:
    from assay.study.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Weights and training log, as they are stored."""

    checkpoint: bytes

    @classmethod
    def of(
        cls, model: nn.Module, log: TrainingLog, clients: Mapping[str, Mapping[str, Tensor]] | None = None
    ) -> "Trained":
        """Returns the result of a finished training.

        Args:
            model: the network of all clients that have none of their own.
            log: of the training.
            clients: state dicts of the networks of single clients, by their names.

        Returns:
            The result with its checkpoint.
        """
        networks = {"": model.state_dict()} | {name: dict(own) for name, own in (clients or {}).items()}
        return cls(checkpoint=networks_to_bytes(networks, asdict(log)))

    @property
    def clients(self) -> tuple[str, ...]:
        """Clients that have a network of their own."""
        networks, _ = networks_from_bytes(self.checkpoint, _SOURCE)
        return tuple(sorted(networks.keys() - {""}))

    def open(self, network: Callable[[], nn.Module], client: str = "") -> tuple[nn.Module, TrainingLog]:
        """Loads a network and the training log.

        Args:
            network: builds the network before training.
            client: whose network; the shared one by default.

        Returns:
            The network in evaluation mode, and the log.

        Raises:
            CheckpointError: the weights do not fit the network, or no such client has one.
        """
        networks, about = networks_from_bytes(self.checkpoint, _SOURCE)
        if client not in networks:
            known = ", ".join(self.clients) or "none"
            raise CheckpointError(
                f"no network of client {client!r} is stored; clients with a network of their own: {known}",
                setting="client",
                given=client,
                allowed=self.clients,
            )
        model = network()
        load_weights(model, networks[client], _SOURCE)
        return model.eval(), TrainingLog(**about)

    def open_clients(self, network: Callable[[], nn.Module]) -> dict[str, nn.Module]:
        """Loads the networks of all clients that have one of their own.

        Args:
            network: builds the network before training.

        Returns:
            Networks in evaluation mode, by the names of the clients.

        Raises:
            CheckpointError: the weights do not fit the network.
        """
        networks, _ = networks_from_bytes(self.checkpoint, _SOURCE)
        opened = {}
        for client in sorted(networks.keys() - {""}):
            opened[client] = network()
            load_weights(opened[client], networks[client], _SOURCE)
            opened[client].eval()
        return opened


_SOURCE = "checkpoint of the trial"


def train_trial(
    trial: "Trial",
    executor: Executor,
    dataset: Dataset,
    *,
    after_round: Callable[[int], None] | None = None,
    folder: Path | None = None,
) -> Trained:
    """Trains the recipe of a trial: in this process, or where the executor hosts the clients of a federated recipe.

    Args:
        trial: to train.
        executor: hosts the clients.
        dataset: of the trial, not yet prepared.
        after_round: called with the number of each finished round of a federated training.
        folder: where a federated training stores its rounds, to go on after the last of them; None stores none.

    Returns:
        The weights and the log.

    Raises:
        IncompatibleRecipeError: the recipe is federated, and the preparation of the data learns from all clients'
            records.
    """
    torch.set_num_threads(trial.threads)
    given = dataset
    dataset, parts = prepare_records(trial, given)
    if trial.tuned is not None:
        from assay.study.tuned_training import train_tuned

        return Trained.of(*train_tuned(trial, dataset, parts))
    if trial.recipe.federation is None:
        return Trained.of(*train_alone(trial, dataset, parts.train, held=parts.validation))
    if given.preparation is not None and (pooled := given.preparation.pools(trial.recipe.federation)):
        raise IncompatibleRecipeError(
            f"recipe {trial.recipe_name!r} is federated, but {dataset.name} is prepared from the pooled records of all "
            f"clients: {pooled}"
        )
    return Trained.of(*_train_at_clients(trial, executor, dataset, parts, after_round=after_round, folder=folder))


def _train_at_clients(
    trial: "Trial",
    executor: Executor,
    dataset: Dataset,
    parts: Split,
    *,
    after_round: Callable[[int], None] | None,
    folder: Path | None,
) -> tuple[nn.Module, TrainingLog, dict[str, Mapping[str, Tensor]]]:
    """Trains all stages of a federated recipe, each over the same clients.

    Returns the shared network, its log, and the networks of single clients: by site where each client is one, else by
    number.

    Args:
        dataset: prepared.
        parts: with the training records, which are dealt to the clients, and the validation records, on which the
            accuracy of some rounds is measured for the record.
        after_round: called with the number of each finished round.
        folder: of the rounds of each stage.
    """
    # Flower takes half a second to import, which only those who need it wait for.
    from assay.federated.server import train_federated

    assert trial.recipe.federation is not None
    dealt = partition_dataset(dataset, parts.train, trial.recipe.federation, seed=trial.trial_seed)
    # The data say how many clients there are where each site, or patient, is one.
    federation = trial.recipe.federation.dealt_to(len(dealt))
    said = [f"partition: {dealt.note}"] if dealt.note else []
    names = dealt.sites or tuple(str(number) for number in range(1, len(dealt) + 1))
    personal: dict[str, Mapping[str, Tensor]] = {}
    # Of a private recipe none: validation records are patients too, and no ε pays for a look at them.
    at_most = 0 if trial.recipe.privacy is not None else _CURVE
    looked_at = seeds.stream(trial.trial_seed, "curve").permutation(parts.validation)[:at_most]

    def train(recipe: Recipe, stage: str, teacher: nn.Module | None) -> tuple[nn.Module, TrainingLog]:
        finished = train_federated(
            network_of(trial, dataset),
            recipe.model_copy(update={"federation": federation}),
            dataset.x,
            dataset.y,
            list(dealt),
            bounds=dataset.bounds,
            classes=dataset.classes,
            task=trial.task,
            patients=dataset.patients,
            seed=trial.trial_seed,
            threads=trial.threads,
            executor=executor,
            stage=stage,
            teacher=teacher,
            after_round=after_round,
            folder=None if folder is None else folder / (stage.replace(" ", "-") or "last"),
            key=trial.training,
            measured=_accuracy_on(trial, dataset, looked_at),
            on_cpu=trial.device == "cpu",
        )
        finished.record.measured_records = len(looked_at)
        model = network_of(trial, dataset)()
        model.load_state_dict(dict(finished.weights))
        personal.clear()  # those of an earlier stage teach nobody
        personal.update({names[number - 1]: own for number, own in finished.personal.items()})
        return model, TrainingLog(
            seconds=finished.seconds,
            worker_seconds=finished.client_seconds,
            workers=executor.workers,
            losses=finished.losses,
            mechanisms={str(number): asdict(mechanism) for number, mechanism in finished.mechanisms.items()},
            treatment=dict(finished.treatment),
            notes=[*said, *finished.notes],
            federation=finished.record.to_json(),
        )

    return *in_stages(trial.recipe, train), personal


def _accuracy_on(trial: "Trial", dataset: Dataset, rows: np.ndarray) -> Callable[[nn.Module], float] | None:
    """Returns a function that measures the accuracy of a network on some records; None without records."""
    if not len(rows):
        return None
    x, y = torch.from_numpy(np.array(dataset.x[rows])), torch.from_numpy(dataset.y[rows])

    def accuracy(network: nn.Module) -> float:
        with torch.no_grad():
            return float((~trial.task.wrong(network(x), y)).double().mean())

    return accuracy


_CURVE = 500
"""Validation records on which the accuracy of a round is measured."""

Stage = Callable[[Recipe, str, nn.Module | None], tuple[nn.Module, TrainingLog]]
"""Trains one stage, given its recipe, its name (empty for the last) and the network of the stage before."""


def in_stages(recipe: Recipe, train: Stage) -> tuple[nn.Module, TrainingLog]:
    """Trains the teachers of a recipe, one after the other, and then the recipe itself.

    Args:
        recipe: with its stages.
        train: trains one stage.

    Returns:
        The last network, and the log of all stages.
    """
    *teachers, last = recipe.stages()
    model: nn.Module | None = None
    log: TrainingLog | None = None
    for number, stage in enumerate(teachers, start=1):
        model, own = train(stage, f"teacher {number}", model)
        log = own if log is None else log.then(own)
    model, own = train(last, "", model)
    return model, own if log is None else log.then(own)


def prepare_records(trial: "Trial", dataset: Dataset) -> tuple[Dataset, Split]:
    """Splits the records of a trial and prepares them; preparation learns from the training split alone.

    Args:
        trial: with its split.
        dataset: not yet prepared.

    Returns:
        The prepared data set, and the positions of training, validation, calibration and test records.
    """
    refuse_unlikely_patients(trial.recipe.privacy, dataset.origin.groups)
    parts = split(dataset, trial.splitting, fold=trial.fold, repeat=trial.repeat, seed=trial.seed)
    if dataset.preparation is None:
        return dataset, parts
    key = (trial.evaluation_data or trial.data_digest, parts.train.tobytes(), trial.trial_seed)
    if key not in _PREPARED:
        _PREPARED.clear()
        with progress.step("preparing the data"):
            _PREPARED[key] = dataset.prepared(parts.train, seed=trial.trial_seed)
    return _PREPARED[key], parts


_PREPARED: dict[tuple[str, bytes, int], Dataset] = {}
"""The last prepared data set: training, evaluation and all recipes of a fold share it."""


def train_alone(trial: "Trial", dataset: Dataset, rows: np.ndarray, **settings: Any) -> tuple[nn.Module, TrainingLog]:
    """Trains the recipe in this process, without its federation.

    Args:
        trial: with the recipe.
        dataset: prepared.
        rows: (n,) positions of the training records.
        settings: for ``trainer_of``.

    Returns:
        The network, and the log of all stages.
    """

    def train(recipe: Recipe, stage: str, teacher: nn.Module | None) -> tuple[nn.Module, TrainingLog]:
        about = {"stage": stage, "teacher": teacher, **settings}
        trainer = trainer_of(trial, dataset, rows, recipe=recipe, device=device(), **about)
        with progress.step(f"training {stage}".strip()):
            trainer.run(after_epoch=lambda so_far: progress.tell(so_far.step, so_far.total_steps))
        trainer.close()
        return trainer.model, log_of(trainer)

    return in_stages(trial.recipe, train)


def network_of(trial: "Trial", dataset: Dataset) -> Callable[[], nn.Module]:
    """Returns a function that builds the untrained network of the trial; it is picklable, so that clients can call it.

    Args:
        trial: with its model and seed.
        dataset: whose shape the network takes.

    Returns:
        A function without arguments.
    """
    return partial(trial.model.build_for, dataset.form, seed=trial.trial_seed)


def trainer_of(
    trial: "Trial",
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
    """Returns a trainer of one stage of the trial's recipe on some records of a prepared data set.

    Args:
        trial: with its model, task and seed.
        dataset: prepared.
        rows: (n,) positions of the training records.
        recipe: of the stage.
        device: of the network and the records.
        feed: loads those records; ``feed_of_dataset`` by default.
        held: (m,) positions of validation records, for a recipe that stops early.
        held_feed: loads the validation records; ``feed_of_dataset`` by default.
        settings: for ``build_trainer``.

    Returns:
        The trainer, before its first step.
    """
    if recipe.training.early_stopping is not None and held is not None:
        brought = feed_of_dataset(dataset, held, device) if held_feed is None else held_feed
        settings["validation"] = (brought, torch.from_numpy(dataset.y[held]).to(device))
    return build_trainer(
        network_of(trial, dataset)().to(device),
        recipe,
        feed_of_dataset(dataset, rows, device) if feed is None else feed,
        torch.from_numpy(dataset.y[rows]).to(device),
        bounds=dataset.bounds,
        classes=dataset.classes,
        task=trial.task,
        patients=None if dataset.patients is None else dataset.patients[rows],
        **{"seed": trial.trial_seed, **settings},
    )


def feed_of_dataset(dataset: Dataset, rows: np.ndarray, device: torch.device) -> Tensor | Feed:
    """Returns training records: in memory, or decoded when they are needed.

    Args:
        dataset: prepared.
        rows: (n,) positions of the records.
        device: of the tensors.

    Returns:
        A tensor (n, ...), or a feed.
    """
    if isinstance(dataset.x, np.ndarray):
        return torch.from_numpy(dataset.x[rows]).to(device)
    return Decoded(dataset.x, dataset.y, rows, device=device)


def log_of(trainer: Trainer, *, workers: int = 1) -> TrainingLog:
    """Returns the log of a finished central training.

    Args:
        trainer: that has run.
        workers: greatest number of workers that trained together.

    Returns:
        Times, losses, mechanisms and notes.
    """
    mechanism = trainer.mechanism
    return TrainingLog(
        seconds=trainer.seconds,
        worker_seconds=trainer.pace.worker_seconds,
        workers=workers,
        losses=trainer.losses,
        mechanisms={} if mechanism is None else {"central": asdict(mechanism)},
        treatment=trainer.treatment,
        notes=trainer.notes,
        validation=trainer.figures.get("robust_validation", []),
        speeds=trainer.pace.state()["speeds"],
    )


def train_again(
    trial: "Trial", dataset: Dataset, rows: np.ndarray, name: str, recipe: Recipe | None = None, *, held: np.ndarray
) -> nn.Module:
    """Trains the recipe, or another one, again on the given rows; see ``TrainAgain``.

    It trains without federation, and for as many passes over the data as the trial's own recipe.

    Args:
        trial: with the recipe.
        dataset: prepared.
        rows: (n,) positions of the training records.
        name: derives the seed of this training; empty for the trial's own seed.
        recipe: another recipe to train instead.
        held: (m,) positions of validation records, for early stopping.

    Returns:
        The trained network.
    """
    # Of the trial: another recipe in its place says nothing of a federation, and must learn for as long.
    federation = trial.recipe.federation
    steps = None if federation is None or federation.local_steps is None else federation.rounds * federation.local_steps
    passes = trial.recipe.passes
    trial = replace(trial, recipe=recipe or trial.recipe)
    seed = seeds.derive(trial.trial_seed, name) if name else trial.trial_seed
    return train_alone(trial, dataset, rows, held=held, epochs=passes, steps=steps, seed=seed)[0]
