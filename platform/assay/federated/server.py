"""The server of a federated training: rounds of clients on an executor's workers, and the new weights of each."""

import logging
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from assay.data.base import Lazy
from assay.errors import FederationError
from assay.executors import Executor
from assay.federated.accounts import account_of
from assay.federated.bookkeeping import Bookkeeping
from assay.federated.buffers import BatchNormMoments, refuse_buffers, refuse_local_statistics, refuse_single_records
from assay.federated.calls import Calls, charge_lost, draws_entropy
from assay.federated.client import LocalTraining, budgeted
from assay.federated.exact_sum import ExactSum
from assay.federated.flat import FlatNetwork
from assay.federated.local_trainer import PLAIN_HEADER
from assay.federated.messages import Replies, Round
from assay.federated.participation import participants
from assay.federated.personalisation.base import Personalisation
from assay.federated.record import Failure, FederationRecord
from assay.federated.resume import RoundFolder
from assay.federated.rules import RoundAnswers, rule_of
from assay.federated.scales import scales_of
from assay.federated.state import ClientStates
from assay.federated.strategies.base import Cohort, Contribution
from assay.federated.worker import ClientWorker
from assay.privacy.accounting import Mechanism
from assay.recipes import Recipe
from assay.tasks.base import Task
from assay.tasks.classification import CLASSIFICATION
from assay.threats import Bounds
from assay.training.snapshots import under

# Flower logs every round, and warns of settings that the runtime chooses on purpose.
logging.getLogger("flwr").setLevel(logging.ERROR)

_MEASURED = 20
"""About how many rounds of a training are measured."""
_SAVE_EVERY = 5.0
"""Seconds between two rounds that are stored, unless noise cannot be drawn again."""


@dataclass(frozen=True, kw_only=True)
class Federated:
    """Result of a federated training."""

    weights: Mapping[str, Tensor]
    """State dict of the shared network."""
    seconds: float
    """Wall time of all rounds, including the start of the workers."""
    losses: list[float]
    """Mean training loss of each round, weighted by records; NaN where training is private, or nobody took part."""
    client_seconds: float
    """Training time in seconds, summed over clients: what one worker would need."""
    mechanisms: Mapping[int, Mechanism]
    """Mechanism of each client, for the privacy accountants; empty if training is not private."""
    treatment: Mapping[str, int]
    """Counts of the recipe's treatments, summed over clients; empty if there are none."""
    notes: list[str]
    """Notes of the clients on their trainings, each with the client's number."""
    record: FederationRecord
    """Round by round: participation, failures, times and bytes."""
    personal: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)
    """State dict of each client's own network, where the recipe personalises."""


def train_federated(
    network: Callable[[], nn.Module],
    recipe: Recipe,
    x: np.ndarray | Lazy,
    y: np.ndarray,
    parts: Sequence[np.ndarray],
    *,
    bounds: Bounds,
    classes: int,
    seed: int,
    threads: int,
    executor: Executor,
    patients: np.ndarray | None = None,
    stage: str = "",
    teacher: nn.Module | None = None,
    after_round: Callable[[int], None] | None = None,
    task: Task = CLASSIFICATION,
    folder: Path | None = None,
    key: str = "",
    measured: Callable[[nn.Module], float] | None = None,
    on_cpu: bool = False,
) -> Federated:
    """Trains a model, or one for each client, over clients that keep their records.

    Args:
        network: creates the initial network, the same for all clients.
        recipe: with ``federation``.
        x: (n, ...) records; each client trains on its own rows and no others.
        y: (n,) labels.
        parts: positions of each client's records.
        bounds: valid inputs.
        classes: number of classes.
        seed: of the training; each client derives its own.
        threads: of each client's computation.
        executor: hosts the workers.
        patients: (n,) ID of each record's patient, None where records have none; see ``training.build.build_trainer``.
        stage: name of a stage before the last; see ``training.build.build_trainer``.
        teacher: the network that the stage before trained.
        after_round: called with the number of each finished round.
        task: what labels are, and the loss of a record.
        folder: where finished rounds are stored; a training whose rounds are there goes on after the last of them.
            The caller removes it once the model is stored (``resume.remove_rounds``). None stores nothing that
            outlives the call.
        key: of the training in the folder.
        measured: returns a figure of the shared network for the record, such as its accuracy on validation records;
            called after about twenty of the rounds. It changes no weights.
        on_cpu: whether clients compute on the CPU, also where their worker has a GPU.

    Returns:
        The weights of the last round, with times, losses, mechanisms and the record of all rounds.

    Raises:
        FederationError: a round did not have the answers that the recipe's policy asks for, or a value overflowed.
        UserError: strategy, privacy and number of clients do not fit each other.
        ValueError: the number of parts is not the recipe's number of clients.
    """
    settings = recipe.federation
    assert settings is not None
    if len(parts) != settings.clients:
        raise ValueError(f"records are dealt to {len(parts)} clients, the recipe has {settings.clients}")
    if empty := [number for number, rows in enumerate(parts, start=1) if not len(rows)]:
        raise ValueError(f"client {empty[0]} has no record: deal at least one to each")
    settings.strategy.refuse(settings.least_answers, recipe)
    refuse_single_records(network(), parts, recipe.training.batch_size)
    if settings.buffers == "refused":
        refuse_buffers(network())
    if settings.buffers == "local" and settings.personalisation is None:
        refuse_local_statistics(network())
    if settings.personalisation is not None:
        settings.personalisation.refuse(network())
    given = LocalTraining(
        network=network,
        recipe=budgeted(recipe),
        x=x,
        y=y,
        parts=parts,
        patients=patients,
        bounds=bounds,
        classes=classes,
        task=task,
        seed=seed,
        threads=threads,
        stage=stage,
        teacher=None if teacher is None else {name: t.cpu() for name, t in teacher.state_dict().items()},
        on_cpu=on_cpu,
    )
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory())) if folder is None else folder
        server = Server(given, scratch, key=key, keep=folder is not None)
        return server.run(executor, after_round, measured)


class Server:
    """One federated training: global weights, the strategy's state, and what each client keeps.

    Args:
        given: data, recipe and seed.
        folder: of finished rounds and client states.
        key: of the training in the folder.
        keep: whether finished rounds are stored.
    """

    def __init__(self, given: LocalTraining, folder: Path, *, key: str, keep: bool) -> None:
        assert given.recipe.federation is not None
        self._given, self._settings = given, given.recipe.federation
        self._strategy = self._settings.strategy
        network = given.network()
        personal = self._settings.personalisation
        self._flat = FlatNetwork(network, (personal or Personalisation(name="none")).is_shared(network))
        self._initial = self._flat.vector.clone()
        self._weights = self._initial[: self._flat.shared].clone()
        self._moments = BatchNormMoments(network)
        self._pools = self._settings.buffers == "pooled" and not (personal and personal.local_buffers)
        self._buffers = self._flat.buffers() if self._pools else {}
        self._units = [given.units(number) for number in range(1, len(given.parts) + 1)]
        self._rule = rule_of(self._strategy, given.recipe)
        self._scales = scales_of(given.recipe, self._units, buffers=self._pools and self._moments.size > 0)
        self._states = ClientStates(folder)
        self._folder = RoundFolder(folder, key) if keep else None
        self._saved = time.monotonic()
        self._books = Bookkeeping(given.recipe, self._units)
        self._entropy = draws_entropy(given.recipe)

    def run(
        self,
        executor: Executor,
        after_round: Callable[[int], None] | None = None,
        measured: Callable[[nn.Module], float] | None = None,
    ) -> Federated:
        """Runs all rounds that are left.

        Args:
            executor: hosts the workers.
            after_round: called with the number of each finished round.
            measured: returns a figure of the shared network for the record.

        Returns:
            The result.
        """
        started = time.perf_counter()
        first = self._resume() + 1
        host = executor.host(partial(ClientWorker, self._given))
        try:
            calls = Calls(host, self._units, self._states, scales=self._scales, recipe=self._given.recipe)
            for number in range(first, self._settings.rounds + 1):
                self._round(number, calls)
                if measured is not None and self._is_measured(number):
                    self._books.add_figure(measured(self._shared_network()))
                self._save(number)
                if after_round is not None:
                    after_round(number)
            personal = self._personal_models(calls) if self._settings.personalisation is not None else {}
        finally:
            host.close()
        if not self._books.record.participation:
            raise FederationError(
                f"no client took part in any of {self._settings.rounds} rounds: the network is as it was before "
                "training; raise federation.share or federation.available, or the number of rounds"
            )
        return self._result(time.perf_counter() - started, personal)

    def _is_measured(self, number: int) -> bool:
        """Returns whether the shared network is measured after a round: the last one, and about twenty before."""
        return number == self._settings.rounds or number % max(1, self._settings.rounds // _MEASURED) == 0

    def _shared_network(self) -> nn.Module:
        """Returns the network with the global weights, in evaluation mode."""
        whole = torch.cat([self._weights, self._initial[self._flat.shared :]])
        self._flat.load(whole, self._flat.initial_buffers | self._buffers)
        return self._flat.network.eval()

    def _round(self, number: int, calls: Calls) -> None:
        """Runs one round, and replaces the global weights."""
        began = time.perf_counter()
        drawn = participants(self._settings, clients=len(self._units), seed=self._given.seed, number=number)
        if self._folder is not None and self._entropy:
            self._folder.begin(number, list(drawn.asked))
        single = self._strategy.needs_single_updates or len(drawn.asked) == 1
        order = Round(
            number=number,
            weights=self._weights,
            buffers=self._buffers,
            sent=self._rule.sent(),
            scales=self._scales,
            deadline=self._settings.deadline_seconds,
            single=single,
        )
        replies = calls.ask(order, drawn.asked)
        failures = dict.fromkeys(drawn.absent, Failure(cause="absent", reason="not available")) | replies.failures
        self._refuse_few(number, drawn.asked, replies)
        if replies.reports:
            answers = self._answers(number, replies, single=single)
            self._weights = self._new_weights(number, answers)
            self._join_buffers(replies)
        self._states.put(replies.states)
        further = [*order.sent.values(), *order.buffers.values()]
        self._books.add_round(
            drawn,
            replies.reports,
            failures,
            seconds=time.perf_counter() - began,
            bytes_down=PLAIN_HEADER + self._weights.nbytes + sum(tensor.nbytes for tensor in further),
        )

    def _refuse_few(self, number: int, asked: Sequence[int], replies: Replies) -> None:
        """Raises if a round has fewer answers than the policy asks for."""
        policy, answered = self._settings.policy, len(replies.reports)
        needed = {"all": len(asked), "at_least": self._settings.at_least, "those_that_answer": 0}[policy]
        if replies.reports:
            needed = max(needed, self._strategy.least_clients)
        if answered >= needed:
            return
        failures = sorted(replies.failures.items())
        said = "; ".join(f"client {client} did not complete its round: {f.reason}" for client, f in failures[:5])
        more = f"; and {len(failures) - 5} more" if len(failures) > 5 else ""
        raise FederationError(
            f"round {number}: {answered} of {len(asked)} clients answered, and {needed} are needed (policy {policy}, "
            f"strategy {self._strategy.name}). {said}{more}"
        )

    def _answers(self, number: int, replies: Replies, *, single: bool) -> RoundAnswers:
        """Returns what the strategy may see of a round, in the order of the clients."""
        contributions = [
            Contribution(
                client=client,
                records=self._units[client - 1],
                steps=report.steps,
                learning_rate_sum=report.learning_rate_sum,
                loss=report.first_loss,
            )
            for client, report in sorted(replies.reports.items())
        ]
        cohort = Cohort(number=number, clients=len(self._units), records=sum(self._units), contributions=contributions)
        sums = {name: self._sum(name, *given) for name, given in replies.sums.items()}
        names = {name for scalars in replies.scalars.values() for name in scalars}
        return RoundAnswers(
            cohort=cohort,
            update=None if single else sums["update"],
            singles=replies.singles,
            vectors={name: sums[name] for name in self._strategy.summed_vectors},
            scalars={
                name: math.fsum(replies.scalars[each.client][name] for each in contributions) for name in sorted(names)
            },
        )

    def _sum(self, name: str, total: Tensor, weight: float) -> Tensor:
        exact = ExactSum(len(total), self._scales[name])
        exact.join(total, weight)
        return exact.sum()

    def _new_weights(self, number: int, answers: RoundAnswers) -> Tensor:
        new = self._rule.step(self._weights.double(), answers).to(self._weights.dtype)
        if not bool(new.isfinite().all()):
            raise FederationError(
                f"round {number}: strategy {self._strategy.name} gives weights that are not finite; lower the learning "
                "rate of the server or of the clients"
            )
        return new

    def _join_buffers(self, replies: Replies) -> None:
        if not self._pools or not self._moments.size:
            return
        total, weight = replies.sums["buffers"]
        exact = ExactSum(len(total), self._scales["buffers"])
        exact.join(total, weight)
        self._buffers = self._buffers | self._moments.joined(exact.mean(), replies.counters, self._buffers)

    def _personal_models(self, calls: Calls) -> dict[int, dict[str, Tensor]]:
        """Returns the state dict of every client's own network after the last round, drawn in it or not."""
        everyone = list(range(1, len(self._units) + 1))
        if self._folder is not None and self._entropy:
            self._folder.begin(self._settings.rounds + 1, everyone)
        order = Round(
            number=self._settings.rounds + 1,
            weights=self._weights,
            buffers=self._buffers,
            sent={},
            scales={},
            deadline=self._settings.deadline_seconds,
            single=True,
            last=True,
        )
        replies = calls.ask(order, everyone)
        if replies.failures:
            client = min(replies.failures)
            reason = replies.failures[client].reason
            raise FederationError(f"client {client} did not complete its own model: {reason}")
        self._states.put(replies.states)
        self._books.add_own(replies.reports, replies.without)
        return {
            client: self._state_dict(weights, replies.buffers[client])
            for client, weights in sorted(replies.singles.items())
        }

    def _state_dict(self, weights: Tensor, buffers: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self._flat.load(weights, buffers)
        return {name: tensor.detach().clone() for name, tensor in self._flat.network.state_dict().items()}

    def _save(self, number: int) -> None:
        """Stores a finished round, unless the last one was stored a moment ago and can be computed again."""
        if self._folder is None:
            return
        now = time.monotonic()
        if not self._entropy and number < self._settings.rounds and now - self._saved < _SAVE_EVERY:
            return
        self._saved = now
        held, about = self._rule.state()
        tensors = {f"rule.{name}": tensor for name, tensor in held.items()}
        tensors |= {f"buffers.{name}": tensor for name, tensor in self._buffers.items()}
        self._folder.save(
            number,
            tensors={**tensors, "weights": self._weights},
            values={"rule": about, "books": self._books.to_json()},
            states=self._states,
        )

    def _resume(self) -> int:
        """Takes up the last stored round; returns its number, 0 if there is none."""
        if self._folder is None:
            return 0
        stored = self._folder.load(self._states)
        if stored.number:
            self._rule.restore(under("rule", stored.tensors), stored.values["rule"])
            self._buffers = under("buffers", stored.tensors)
            self._weights = stored.tensors["weights"]
            self._books.restore(stored.values["books"])
        self._charge(stored.lost)
        return stored.number

    def _mechanisms(self) -> dict[int, Mechanism]:
        """Returns the mechanism of each client; rounds that were lost are added, of clients without an answer too."""
        spent = self._books.mechanisms
        if self._entropy:
            numbers = range(1, len(self._units) + 1)
            spent |= {n: each for n in numbers if (each := account_of(self._given, n, self._states.get(n))) is not None}
        return dict(sorted(spent.items()))

    def _charge(self, clients: Sequence[int]) -> None:
        """Counts a round that a crash has lost in its clients' accounts, where its noise cannot be drawn again."""
        if self._entropy:
            charge_lost(self._states, clients)

    def _result(self, seconds: float, personal: Mapping[int, Mapping[str, Tensor]]) -> Federated:
        return Federated(
            weights={name: tensor.detach().clone() for name, tensor in self._shared_network().state_dict().items()},
            seconds=seconds,
            losses=[math.nan if each.loss is None else each.loss for each in self._books.record.rounds],
            client_seconds=self._books.client_seconds,
            mechanisms=self._mechanisms(),
            treatment=self._books.treatment,
            notes=self._books.notes,
            record=self._books.record,
            personal=personal,
        )
