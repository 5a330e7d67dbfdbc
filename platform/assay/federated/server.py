"""The server of a federated training: rounds of clients on an executor's workers, and the new weights of each."""

import logging
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay.data.base import Lazy
from assay.errors import FederationError
from assay.executors import Executor, Host
from assay.federated.buffers import LARGEST_MOMENT, Moments
from assay.federated.client import LocalTraining, Report
from assay.federated.exact_sum import ExactSum, FixedPoint
from assay.federated.flat import FlatNetwork
from assay.federated.local_trainer import PLAIN_HEADER
from assay.federated.messages import Assignment, Replies, Round
from assay.federated.participation import Participants, participants
from assay.federated.personalisation.base import Personalisation
from assay.federated.record import Failure, FederationRecord, RoundRecord
from assay.federated.resume import RoundFolder, split_tensors
from assay.federated.rules import Answers, rule_of
from assay.federated.state import ClientState, ClientStates
from assay.federated.strategies.base import Cohort, Contribution
from assay.federated.worker import ClientWorker
from assay.privacy.accounting import Mechanism
from assay.recipes import Recipe
from assay.tasks.base import Task
from assay.tasks.classification import CLASSIFICATION
from assay.threats import Bounds

# Flower logs every round, and warns of settings that the runtime chooses on purpose.
logging.getLogger("flwr").setLevel(logging.ERROR)

LARGEST_CHANGE = 2.0**8
"""Greatest change of a weight, or element of a strategy's vector, that is accepted from a client in a round."""
_GRACE = 30.0
"""Seconds beyond the deadline until a silent worker counts as dead: workers keep the deadline themselves."""
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
            None stores nothing that outlives the call.
        key: of the training in the folder.
        measured: returns a figure of the shared network for the record, such as its accuracy on validation records;
            called after about twenty of the rounds. It changes no weights.

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
    settings.strategy.refuse(settings.least_answers, recipe)
    if settings.personalisation is not None:
        settings.personalisation.refuse(network())
    if recipe.privacy is not None and settings.private_trainings > 1:
        privacy = recipe.privacy.model_copy(update={"trainings": recipe.privacy.trainings * settings.private_trainings})
        recipe = recipe.model_copy(update={"privacy": privacy})
    given = LocalTraining(
        network=network,
        recipe=recipe,
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
        self._moments = Moments(network)
        self._pools = self._settings.buffers == "pooled" and not (personal and personal.local_buffers)
        self._buffers = self._flat.buffers() if self._pools else {}
        self._units = [given.units(number) for number in range(1, len(given.parts) + 1)]
        self._rule = rule_of(self._strategy, given.recipe)
        self._scales = self._all_scales()
        self._states = ClientStates(folder)
        self._folder = RoundFolder(folder, key) if keep else None
        self._saved = time.monotonic()
        self._record = FederationRecord(sizes=self._units, settings=_described(given.recipe))
        self._reports: dict[int, Report] = {}
        self._notes: dict[int, list[str]] = {}
        self._own_seconds = 0.0

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
            for number in range(first, self._settings.rounds + 1):
                self._round(number, host)
                if measured is not None and self._is_measured(number):
                    self._record.rounds[-1] = replace(
                        self._record.rounds[-1], measured=measured(self._shared_network())
                    )
                self._save(number)
                if after_round is not None:
                    after_round(number)
            personal = self._personal_models(host) if self._settings.personalisation is not None else {}
        finally:
            host.close()
        result = self._result(time.perf_counter() - started, personal)
        if self._folder is not None:
            self._folder.remove()
        return result

    def _is_measured(self, number: int) -> bool:
        """Returns whether the shared network is measured after a round: the last one, and about twenty before."""
        return number == self._settings.rounds or number % max(1, self._settings.rounds // _MEASURED) == 0

    def _shared_network(self) -> nn.Module:
        """Returns the network with the global weights, in evaluation mode."""
        whole = torch.cat([self._weights, self._initial[self._flat.shared :]])
        self._flat.load(whole, self._flat.initial_buffers | self._buffers)
        return self._flat.network.eval()

    def _round(self, number: int, host: Host) -> None:
        """Runs one round, and replaces the global weights."""
        began = time.perf_counter()
        drawn = participants(self._settings, clients=len(self._units), seed=self._given.seed, number=number)
        if self._folder is not None and self._draws_entropy:
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
        replies = self._ask(host, order, drawn.asked)
        failures = dict.fromkeys(drawn.absent, Failure(cause="absent", reason="not available")) | replies.failures
        self._refuse_few(number, drawn.asked, replies)
        if replies.reports:
            answers = self._answers(number, replies, single=single)
            self._weights = self._new_weights(number, answers)
            self._join_buffers(replies)
        self._states.put(replies.states)
        self._note(number, replies, failures, drawn, seconds=time.perf_counter() - began)

    def _ask(self, host: Host, order: Round, clients: Sequence[int]) -> Replies:
        """Sends a round to the workers, replaces those that died or are stuck, and asks the clients of dead ones again.

        Returns:
            All replies together.
        """
        together = Replies()
        left = list(clients)
        for attempt in (1, 2):
            if not left:
                break
            asked = self._assignments(left, host.places)
            longest = max(len(assignments) for assignments in asked.values())
            replies = host.call(asked, order, timeout=longest * order.deadline + _GRACE)
            left = []
            for place, assignments in asked.items():
                reply = replies.get(place)
                if isinstance(reply, Replies):
                    _join(together, reply, self._scales)
                    if reply.stuck:
                        host.restart(place)
                    continue
                host.restart(place)
                lost = [assignment.client for assignment in assignments]
                self._charge_lost(lost)
                if attempt == 1:
                    left += lost
                failure = Failure(cause="lost", reason=f"its worker was lost: {reply!r}")
                together.failures |= dict.fromkeys(lost, failure)
        if together.refusal is not None:
            raise together.refusal
        for client in together.reports.keys() | together.singles.keys():
            together.failures.pop(client, None)
        return together

    def _assignments(self, clients: Sequence[int], places: int) -> dict[int, list[Assignment]]:
        """Deals clients to workers such that each has about as many records: the largest first, to the least loaded."""
        load = [0.0] * places
        dealt: dict[int, list[Assignment]] = {place: [] for place in range(places)}
        for client in sorted(clients, key=lambda number: (-self._units[number - 1], number)):
            place = load.index(min(load))
            load[place] += self._units[client - 1]
            dealt[place].append(Assignment(client=client, state=self._states.get(client)))
        return {place: assignments for place, assignments in dealt.items() if assignments}

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

    def _answers(self, number: int, replies: Replies, *, single: bool) -> Answers:
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
        return Answers(
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

    def _new_weights(self, number: int, answers: Answers) -> Tensor:
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

    def _note(
        self,
        number: int,
        replies: Replies,
        failures: Mapping[int, Failure],
        drawn: Participants,
        *,
        seconds: float,
    ) -> None:
        """Adds the round to the record, and keeps each client's last report."""
        reports = [report for _, report in sorted(replies.reports.items())]
        losses = [(report.last_loss, self._units[report.client - 1]) for report in reports]
        known = [(loss, units) for loss, units in losses if loss is not None]
        asked = len(drawn.asked) + len(drawn.absent)
        vectors = len(self._rule.sent()) + 1
        down = PLAIN_HEADER + self._weights.element_size() * len(self._weights) * vectors
        times = [report.seconds for report in reports]
        self._record.add(
            RoundRecord(
                asked=asked,
                answered=len(reports),
                failures={str(client): failure.reason for client, failure in sorted(failures.items())},
                causes={str(client): failure.cause for client, failure in sorted(failures.items())},
                loss=sum(loss * units for loss, units in known) / sum(units for _, units in known) if known else None,
                seconds=seconds,
                client_seconds=sum(times),
                slowest_seconds=max(times, default=0.0),
                bytes_up=sum(report.bytes_up for report in reports),
                bytes_down=down * len(drawn.asked),
            ),
            [report.client for report in reports],
        )
        for report in reports:
            self._reports[report.client] = report
            self._notes.setdefault(report.client, []).extend(report.notes)

    def _personal_models(self, host: Host) -> dict[int, dict[str, Tensor]]:
        """Returns the state dict of every client's own network after the last round, drawn in it or not."""
        everyone = range(1, len(self._units) + 1)
        if self._folder is not None and self._draws_entropy:
            self._folder.begin(self._settings.rounds + 1, list(everyone))
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
        replies = self._ask(host, order, list(everyone))
        if replies.failures:
            client = min(replies.failures)
            raise FederationError(f"client {client} did not complete its own model: {replies.failures[client].reason}")
        for client, report in replies.reports.items():
            before = self._reports.get(client)
            self._reports[client] = report if before is None else replace(report, treatment=before.treatment)
            self._notes.setdefault(client, []).extend(report.notes)
            self._own_seconds += report.seconds
        self._states.put(replies.states)
        self._record.without_model = {str(client): reason for client, reason in sorted(replies.without.items())}
        return {
            client: self._state_dict(weights, replies.buffers[client])
            for client, weights in sorted(replies.singles.items())
        }

    def _state_dict(self, weights: Tensor, buffers: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self._flat.load(weights, buffers)
        return {name: tensor.detach().clone() for name, tensor in self._flat.network.state_dict().items()}

    def _all_scales(self) -> dict[str, FixedPoint]:
        """Returns the public scale of each exact sum, from the server's own counts."""
        if not sum(self._units):
            raise FederationError("no client has a record; deal at least one to each")
        limits = [self._strategy.scale_limit(units, self._given.recipe) for units in self._units]
        scales = {"update": FixedPoint.of(weights=limits, largest=LARGEST_CHANGE)}
        if self._strategy.summed_vectors:
            heaviest = [max(1.0, float(units)) for units in self._units]
            vectors = FixedPoint.of(weights=heaviest, largest=LARGEST_CHANGE)
            scales |= dict.fromkeys(self._strategy.summed_vectors, vectors)
        if self._pools and self._moments.size:
            scales["buffers"] = FixedPoint.of(weights=self._units, largest=LARGEST_MOMENT)
        return scales

    @property
    def _draws_entropy(self) -> bool:
        privacy = self._given.recipe.privacy
        return privacy is not None and privacy.noise == "entropy"

    def _charge_lost(self, clients: Sequence[int]) -> None:
        """Counts a round whose result was lost in the clients' accounts: its noise cannot be drawn again."""
        if not self._draws_entropy:
            return
        for client in clients:
            state = self._states.get(client)
            state = ClientState() if state is None else state.copy()
            state.values["lost_rounds"] = int(state.values.get("lost_rounds", 0)) + 1
            self._states.put({client: state})

    def _save(self, number: int) -> None:
        """Stores a finished round, unless the last one was stored a moment ago and can be computed again."""
        if self._folder is None:
            return
        now = time.monotonic()
        if not self._draws_entropy and number < self._settings.rounds and now - self._saved < _SAVE_EVERY:
            return
        self._saved = now
        held, about = self._rule.state()
        tensors = {f"rule.{name}": tensor for name, tensor in held.items()}
        tensors |= {f"buffers.{name}": tensor for name, tensor in self._buffers.items()}
        self._folder.save(
            number,
            tensors={**tensors, "weights.all": self._weights},
            about={
                "rule": about,
                "record": self._record.to_json(),
                "mechanisms": {c: vars(r.mechanism) for c, r in self._reports.items() if r.mechanism is not None},
                "treatment": {client: dict(report.treatment) for client, report in self._reports.items()},
                "notes": self._notes,
            },
            states=self._states,
        )

    def _resume(self) -> int:
        """Takes up the last stored round; returns its number, 0 if there is none."""
        if self._folder is None:
            return 0
        found = self._folder.load(self._states)
        if found is None:
            self._charge_lost(self._folder.lost_first())
            return 0
        number, tensors, about, lost = found
        rule, buffers, weights = split_tensors(tensors, "rule", "buffers", "weights")
        self._rule.restore(rule, about["rule"])
        self._buffers, self._weights = buffers, weights["all"]
        self._record = FederationRecord.of(about["record"])
        self._notes = {int(client): list(notes) for client, notes in about["notes"].items()}
        for client, treatment in about["treatment"].items():
            mechanism = about["mechanisms"].get(client)
            self._reports[int(client)] = Report(
                client=int(client),
                steps=0,
                learning_rate_sum=0.0,
                first_loss=None,
                last_loss=None,
                seconds=0.0,
                mechanism=None if mechanism is None else Mechanism(**mechanism),
                treatment=treatment,
            )
        self._charge_lost(lost)
        return number

    def _result(self, seconds: float, personal: Mapping[int, Mapping[str, Tensor]]) -> Federated:
        reports = [self._reports[client] for client in sorted(self._reports)]
        treatment: dict[str, int] = {}
        for report in reports:
            for name, count in report.treatment.items():
                treatment[name] = treatment.get(name, 0) + count
        rounds = self._record.rounds
        return Federated(
            weights={name: tensor.detach().clone() for name, tensor in self._shared_network().state_dict().items()},
            seconds=seconds,
            losses=[math.nan if each.loss is None else each.loss for each in rounds],
            client_seconds=sum(each.client_seconds for each in rounds) + self._own_seconds,
            mechanisms={r.client: r.mechanism for r in reports if r.mechanism is not None},
            treatment=treatment,
            notes=[f"client {client}: {note}" for client, notes in sorted(self._notes.items()) for note in notes],
            record=self._record,
            personal=personal,
        )


def _join(together: Replies, reply: Replies, scales: Mapping[str, FixedPoint]) -> None:
    """Adds the replies of one worker to those of the others."""
    together.reports |= reply.reports
    together.failures |= reply.failures
    together.states |= reply.states
    together.scalars |= reply.scalars
    together.singles |= reply.singles
    together.buffers |= reply.buffers
    together.without |= reply.without
    together.refusal = together.refusal or reply.refusal
    if reply.counters:
        together.counters = [
            max(pair) for pair in zip(together.counters or reply.counters, reply.counters, strict=True)
        ]
    for name, (total, weight) in reply.sums.items():
        exact = ExactSum(len(total), scales[name])
        exact.join(*together.sums.get(name, (torch.zeros_like(total), 0.0)))
        exact.join(total, weight)
        together.sums[name] = (exact.total, exact.weight)


def _described(recipe: Recipe) -> dict[str, Any]:
    """Returns the choices that a reader of federated figures must know."""
    assert recipe.federation is not None
    chosen = recipe.federation.model_dump(mode="json")
    names = ("strategy", "personalisation", "transforms", "optimizer_state", "buffers", "participation", "policy")
    return {name: chosen[name] for name in names}
