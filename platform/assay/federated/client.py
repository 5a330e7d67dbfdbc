"""The local training of one client in one round, with the training loop of central training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from assay.data.base import Lazy
from assay.data.treatment import Treated
from assay.federated.state import ClientState
from assay.privacy.accounting import Mechanism
from assay.privacy.plan import training_steps
from assay.privacy.unit import protected
from assay.recipes import Recipe
from assay.seeds import client_seed
from assay.tasks.base import Task
from assay.threats import Bounds
from assay.training.build import build_trainer, treated_records
from assay.training.hooks.base import Hook
from assay.training.loop import Trainer
from assay.training.snapshots import under
from assay.training.update import learning_rate_at


def budgeted(recipe: Recipe) -> Recipe:
    """Returns the recipe of one training of a client: all trainings on its records share the budget of a private one.

    Args:
        recipe: with ``federation``.

    Returns:
        The recipe; the same where a client trains once, or training is not private.
    """
    assert recipe.federation is not None
    trainings = recipe.federation.private_trainings
    if recipe.privacy is None or trainings == 1:
        return recipe
    privacy = recipe.privacy.model_copy(update={"trainings": recipe.privacy.trainings * trainings})
    return recipe.model_copy(update={"privacy": privacy})


@dataclass(frozen=True, kw_only=True)
class LocalTraining:
    """All that a worker needs to train any client; it is sent to each worker once."""

    network: Callable[[], nn.Module]
    """Creates the initial network, the same for all clients."""
    recipe: Recipe
    x: np.ndarray | Lazy
    """(n, ...) records of all clients; a client is given its own rows only."""
    y: np.ndarray
    parts: Sequence[np.ndarray]
    """Positions of each client's records; the first client has number 1."""
    patients: np.ndarray | None
    """(n,) ID of each record's patient, None where records have none."""
    bounds: Bounds
    classes: int
    task: Task
    seed: int
    threads: int
    stage: str = ""
    teacher: Mapping[str, Tensor] | None = None
    """Weights of the network that the stage before trained."""
    on_cpu: bool = False
    """Whether clients compute on the CPU, also where their worker has a GPU."""

    def units(self, number: int, treated: Treated | None = None) -> int:
        """Returns the server's own count of a client: protected units where training is private, else records.

        Args:
            number: of the client.
            treated: its records after the recipe's treatments, to count those; private recipes have none.

        Returns:
            The number of units, before treatments by default.
        """
        if treated is not None:
            return len(treated.y)
        rows, privacy = self.parts[number - 1], self.recipe.privacy
        if privacy is None:
            return len(rows)
        return protected(privacy, None if self.patients is None else self.patients[rows], len(rows))


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a client tells the server about a round, beside its update. Times apart, it is the same on any worker."""

    client: int
    steps: int
    learning_rate_sum: float
    first_loss: float | None
    """Mean training loss over the first local epoch; None from private clients, whose losses no noise covers."""
    last_loss: float | None
    """Mean training loss over the last local epoch; None from private clients."""
    seconds: float
    """Time of its training steps and their hooks."""
    overhead: float = 0.0
    """Further seconds that the client took at its worker."""
    bytes_up: int = 0
    mechanism: Mechanism | None = None
    """Mechanism of all rounds so far: the privacy account belongs to the client, not to the round."""
    treatment: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()


class Records:
    """Records of clients as their recipe treats them, on a worker. Treated records are kept: treating may train.

    Args:
        given: with the records of all clients.
        device: of the tensors.
    """

    def __init__(self, given: LocalTraining, device: torch.device) -> None:
        self._given, self._device = given, device
        self._treats = any(step.treats for step in given.recipe.data)
        self._treated: dict[int, Treated] = {}

    def of(self, number: int) -> tuple[Tensor, Tensor]:
        """Returns the records of a client before treatment.

        Args:
            number: of the client.

        Returns:
            Records (n, ...) and labels (n,).
        """
        rows = self._given.parts[number - 1]
        x, y = (torch.from_numpy(np.array(values[rows])) for values in (self._given.x, self._given.y))
        return x.to(self._device), y.to(self._device)

    def treated(self, number: int, x: Tensor, y: Tensor) -> Treated | None:
        """Returns the records of a client after the recipe's treatments; None if these change no records.

        Args:
            number: of the client.
            x: (n, ...) its records.
            y: (n,) their labels.

        Returns:
            The treated records.
        """
        if not self._treats:
            return None
        if number not in self._treated:
            given = self._given
            treated = treated_records(
                given.recipe,
                x,
                y,
                model=given.network(),
                classes=given.classes,
                bounds=given.bounds,
                passes=given.recipe.passes,
                seed=client_seed(given.seed, number),
                task=given.task,
            )
            assert treated is not None
            self._treated[number] = treated
        return self._treated[number]


class ClientRound:
    """One client in one round: makes trainers over its records, continues its state, and reports.

    The state of the optimiser is new in each round, as published, or kept (``federation.optimizer_state``). The number
    of steps, on which random numbers and learning rates depend, and the privacy account always continue.

    Args:
        given: data, recipe and seed.
        records: of all clients on this worker.
        network: holds the weights that the client was sent; trained in place.
        teacher: network of the stage before.
        number: of the client.
        state: that it kept; changed by ``finish``.
    """

    def __init__(
        self,
        given: LocalTraining,
        records: Records,
        network: nn.Module,
        teacher: nn.Module | None,
        *,
        number: int,
        state: ClientState,
    ) -> None:
        self._given, self._records, self.network, self._teacher = given, records, network, teacher
        self.number, self.state = number, state
        assert given.recipe.federation is not None
        self.settings = given.recipe.federation
        self.seconds = 0.0
        self.notes: list[str] = []
        self._mechanisms: dict[str, Mechanism] = {}
        self._begun: dict[str, int] = {}

    @cached_property
    def _data(self) -> tuple[Tensor, Tensor]:
        return self._records.of(self.number)

    def trainer(
        self,
        hooks: Sequence[Hook] = (),
        *,
        training: str = "",
        parameters: str = "",
    ) -> Trainer:
        """Returns a trainer that continues this client's training; close it after use.

        Args:
            hooks: of local training.
            training: name of the training, where a client has several in a round, such as that of a personal model;
                each draws its own batches and noise.
            parameters: name of the parameters that require gradients, where one training changes between several sets
                of them; each has an optimiser of its own.

        Returns:
            The trainer, before the first step of the round. Noise is calibrated for all passes of the recipe.
        """
        given, (x, y) = self._given, self._data
        patients = None if given.patients is None else given.patients[given.parts[self.number - 1]]
        treated = self._records.treated(self.number, x, y)
        trainer = build_trainer(
            self.network,
            given.recipe,
            x,
            y,
            bounds=given.bounds,
            seed=client_seed(given.seed, self.number),
            stage=" ".join(filter(None, (given.stage, training))),
            classes=given.classes,
            task=given.task,
            teacher=self._teacher,
            steps=training_steps(given.recipe, given.units(self.number, treated)),
            patients=patients,
            hooks=hooks,
            treated=treated,
        )
        trainer.step = int(self.state.values.get(f"{training}step", 0))
        trainer.rollbacks = int(self.state.values.get(f"{training}rollbacks", 0))
        self._begun[training] = trainer.step
        moments = under(f"{training}{parameters}optimizer", self.state.tensors)
        if self.settings.optimizer_state == "kept" and moments:
            load_moments(trainer.optimizer, moments)
        return trainer

    def finish(self, trainer: Trainer, *, training: str = "", parameters: str = "") -> None:
        """Stores what a trainer leaves for the next round, and closes it.

        Args:
            trainer: that has run.
            training: name of the training; see ``trainer``.
            parameters: name of the parameters; see ``trainer``.
        """
        self.state.values[f"{training}step"] = trainer.step
        if trainer.rollbacks:
            self.state.values[f"{training}rollbacks"] = trainer.rollbacks
        if self.settings.optimizer_state == "kept":
            moments = moments_of(trainer.optimizer)
            self.state.tensors |= {f"{training}{parameters}optimizer.{key}": tensor for key, tensor in moments.items()}
        if (mechanism := trainer.mechanism) is not None:
            self._mechanisms[training] = mechanism
        self.seconds += trainer.seconds
        self.notes += trainer.notes
        trainer.close()

    @property
    def batch_size(self) -> int:
        """Records of a batch of the recipe."""
        return self._given.recipe.training.batch_size

    def run_round(self, trainer: Trainer) -> None:
        """Runs the steps of a trainer in one round.

        Args:
            trainer: of this client.
        """
        trainer.run(steps=self.settings.steps_of_round(trainer.steps_per_epoch))

    @property
    def took_part(self) -> bool:
        """Whether the server has accepted a round of this client."""
        return "step" in self.state.values

    def records(self) -> Tensor:
        """Returns the training records of this client, after the recipe's treatments.

        Returns:
            (n, ...) records.
        """
        x, y = self._data
        treated = self._records.treated(self.number, x, y)
        return x if treated is None else torch.from_numpy(treated.x).to(x.device)

    @property
    def mechanism(self) -> Mechanism | None:
        """Mechanism of all trainings and rounds so far; None if training is not private.

        Rounds whose noise was drawn and not used are added at the server; see ``accounts``.
        """
        if not self._mechanisms:
            return None
        first, *others = self._mechanisms.values()
        for other in others:
            first = first.then(other)
        return first

    def report(self, trainer: Trainer) -> Report:
        """Returns what the client tells the server about this round.

        Args:
            trainer: of the shared parameters, which has finished the round: the last that ``trainer`` returned of this
                training.

        Returns:
            The report, without bytes and overhead.
        """
        training = self._given.recipe.training
        private = trainer.mechanism is not None
        since = self._begun[""]
        rates = [learning_rate_at(training, step, trainer.total_steps) for step in range(since, trainer.step)]
        return Report(
            client=self.number,
            steps=trainer.step - since,
            learning_rate_sum=sum(rates),
            first_loss=None if private or not trainer.losses else trainer.losses[0],
            last_loss=None if private or not trainer.losses else trainer.losses[-1],
            seconds=self.seconds,
            mechanism=self.mechanism,
            treatment=trainer.treatment,
            notes=tuple(self.notes),
        )

    def report_own(self) -> Report | None:
        """Returns what the client tells about its own model after the last round.

        Returns:
            The report; None if it has not trained and has nothing to note.
        """
        if not self.seconds and not self.notes:
            return None
        return Report(
            client=self.number,
            steps=0,
            learning_rate_sum=0.0,
            first_loss=None,
            last_loss=None,
            seconds=self.seconds,
            mechanism=self.mechanism,
            notes=tuple(self.notes),
        )


def moments_of(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Returns copies of the tensors of an optimizer's state.

    Args:
        optimizer: that has taken steps.

    Returns:
        Tensors as ``INDEX.NAME``.
    """
    return {
        f"{index}.{key}": value.detach().clone()
        for index, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }


def load_moments(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restores the tensors of an optimizer's state.

    Args:
        optimizer: over parameters of the same shapes.
        tensors: that ``moments_of`` returned; copied.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".")
        state.setdefault(int(index), {})[key] = tensor.clone()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
