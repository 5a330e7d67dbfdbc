"""Local training on a worker: one network, on which clients train one after the other."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from assay import seeds
from assay.errors import FederationError, UserError
from assay.federated.buffers import BatchNormMoments
from assay.federated.client import ClientRound, LocalTraining, Records
from assay.federated.collected import Answer, Collected
from assay.federated.exact_sum import ExactSum
from assay.federated.flat import FlatNetwork
from assay.federated.messages import Assignment, Round
from assay.federated.personalisation.base import Personalisation
from assay.federated.record import Cause, Failure
from assay.federated.shared_part import SharedPart
from assay.federated.state import ClientState
from assay.federated.strategies.base import Contribution, Strategy
from assay.federated.transforms.pipeline import Pipeline
from assay.recipes import Federation
from assay.seeds import client_seed
from assay.training.hooks.round_hook import RoundHook
from assay.training.snapshots import under


class LocalTrainer:
    """Trains the clients of a worker, one after the other, on one network.

    Args:
        given: data, recipe and seed, the same at every worker.
        device: where training runs.
    """

    def __init__(self, given: LocalTraining, device: torch.device) -> None:
        assert given.recipe.federation is not None
        self._given, self._settings = given, given.recipe.federation
        self._strategy: Strategy = self._settings.strategy
        self._personal = self._settings.personalisation or Personalisation(name="none")
        network = given.network().to(device)
        self._flat = FlatNetwork(network, self._personal.is_shared(network))
        self._initial, self._initial_buffers = self._flat.initial, self._flat.initial_buffers
        self._moments = BatchNormMoments(network)
        self._pipeline = pipeline_of(self._settings, self._flat)
        self._records = Records(given, device)
        self._teacher: nn.Module | None = None
        if given.teacher is not None:
            self._teacher = given.network().to(device)
            self._teacher.load_state_dict(dict(given.teacher))

    def sums(self, shared: Round) -> dict[str, ExactSum]:
        """Returns the empty sums of a round.

        Args:
            shared: names the sums and their scales.

        Returns:
            Exact sums by name.
        """
        place, shared_size = self._flat.vector.device, self._flat.shared
        sizes = dict.fromkeys(shared.scales, shared_size) | {"buffers": self._moments.size}
        return {name: ExactSum(sizes[name], scale, place) for name, scale in shared.scales.items()}

    def train(self, assignment: Assignment, shared: Round, collected: Collected) -> None:
        """Trains one client, or makes its own model, and collects its answer or why there is none; never raises.

        Args:
            assignment: the client and its state.
            shared: weights and settings of the round.
            collected: takes the answer.
        """
        began = time.perf_counter()
        try:
            torch.set_num_threads(self._given.threads)
            state = ClientState() if assignment.state is None else assignment.state.copy()
            sent = shared.weights.to(self._flat.vector.device)
            self._load(state, shared, sent)
            session = self._session(assignment.client, state)
            if shared.last and (reason := self._personal.why_no_model(session, self._flat.network)):
                collected.add_none(assignment.client, reason)
            elif shared.last:
                own = self._personal.own(session, self._flat)
                collected.add_own(session, own, self._flat.buffers())
            else:
                collected.add(self._answer(session, shared, sent), self._strategy, since=began)
        except UserError as error:
            collected.refuse(assignment.client, error)
        except Exception as error:
            cause: Cause = "refused" if isinstance(error, FederationError) else "raised"
            collected.fail(assignment.client, Failure(cause=cause, reason=f"{type(error).__name__}: {error}"))

    def _session(self, number: int, state: ClientState) -> ClientRound:
        return ClientRound(self._given, self._records, self._flat.network, self._teacher, number=number, state=state)

    def _load(self, state: ClientState, shared: Round, sent: Tensor) -> None:
        """Puts the weights of the round, and what is the client's own, into the network."""
        own = state.tensors.get(_OWN, self._initial[self._flat.shared :])
        buffers = self._initial_buffers | dict(shared.buffers) | under(_BUFFERS, state.tensors)
        self._flat.load(torch.cat([sent, own.to(sent)]) if len(own) else sent, buffers)

    def _answer(self, session: ClientRound, shared: Round, sent: Tensor) -> Answer:
        """Trains one client and returns what the server may use of it."""
        flat, state = self._flat, session.state
        hooks = list(self._strategy.hooks())
        if flat.shared < len(flat.vector):
            hooks = [SharedPart(hook, flat.shared_names) for hook in hooks]
        self._start(hooks, state, shared)
        trainer = self._personal.train(session, flat, hooks)
        vectors = self._end(hooks, state)
        report = session.report(trainer)
        answer = Answer(
            state=state,
            report=report,
            contribution=Contribution(
                client=session.number,
                records=self._given.units(session.number),
                steps=report.steps,
                learning_rate_sum=report.learning_rate_sum,
                loss=report.first_loss,
            ),
            values=flat.vector[: flat.shared],
            minus=sent,
            vectors=vectors,
        )
        self._compress(answer, session, shared)
        self._keep_own(answer, shared)
        return answer

    def _start(self, hooks: Sequence[RoundHook], state: ClientState, shared: Round) -> None:
        """Restores the strategy's hooks, and tells them that a round begins."""
        named, shared_names = self._flat.network.named_parameters(), self._flat.shared_names
        weights = [p.detach() for name, p in named if p.requires_grad and name in shared_names]
        for hook in hooks:
            if (about := state.values.get(f"hooks.{hook.name}")) is not None:
                hook.restore(under(f"hooks.{hook.name}", state.tensors), about)
            hook.start_round(weights, shared.sent)

    def _end(self, hooks: Sequence[RoundHook], state: ClientState) -> dict[str, Tensor]:
        """Returns the vectors of the hooks, and stores their states."""
        vectors: dict[str, Tensor] = {}
        for hook in hooks:
            vectors |= hook.end_round()
            tensors, about = hook.state()
            state.values[f"hooks.{hook.name}"] = about
            state.tensors |= {f"hooks.{hook.name}.{key}": tensor for key, tensor in tensors.items()}
        return vectors

    def _compress(self, answer: Answer, session: ClientRound, shared: Round) -> None:
        """Replaces the update by what the server decodes, and counts the bytes that a client would send."""
        vectors = sum(vector.nbytes for vector in answer.vectors.values())
        answer.bytes_up = PLAIN_HEADER + self._flat.vector.element_size() * self._flat.shared + vectors
        if self._pipeline is None:
            return
        update = answer.values - shared.weights.to(answer.values)
        sent = self._pipeline.encode(
            update.cpu(),
            under(_TRANSFORMS, answer.state.tensors),
            generator=seeds.stream(client_seed(self._given.seed, session.number), "transforms", shared.number),
        )
        answer.values, answer.minus = sent.decoded.to(update), None
        answer.bytes_up = len(sent.message) + vectors
        kept = {name: tensor for name, tensor in answer.state.tensors.items() if not name.startswith(f"{_TRANSFORMS}.")}
        answer.state.tensors = kept | {f"{_TRANSFORMS}.{name}": tensor for name, tensor in sent.state.items()}

    def _keep_own(self, answer: Answer, shared: Round) -> None:
        """Stores the client's own parameters and buffers, and adds the moments of shared ones to its answer."""
        if self._flat.shared < len(self._flat.vector):
            answer.state.tensors[_OWN] = self._flat.vector[self._flat.shared :].clone()
        if not self._initial_buffers:
            return
        buffers = self._flat.buffers()
        if self._settings.buffers == "local" or self._personal.local_buffers:
            answer.state.tensors |= {f"{_BUFFERS}.{name}": buffer for name, buffer in buffers.items()}
            return
        before = self._initial_buffers | dict(shared.buffers)
        self._moments.refuse_others(before, buffers)
        if self._moments.size:
            answer.moments, answer.counters = self._moments.vector(before, buffers), self._moments.counters(buffers)
            answer.bytes_up += sum(buffer.nbytes for buffer in buffers.values())


_OWN = "personal"
"""Name of the client's own parameters in its state."""
_BUFFERS = "buffers"
_TRANSFORMS = "transforms"
PLAIN_HEADER = 6
"""Bytes before the weights of a message without transforms; see ``transforms.pipeline``."""


def pipeline_of(settings: Federation, flat: FlatNetwork) -> Pipeline | None:
    """Returns the transforms of updates; None if nothing is lost, so that weights are sent as they are.

    Args:
        settings: of the federation.
        flat: whose shared parameters travel.

    Returns:
        The pipeline.
    """
    if all(transform.lossless for transform in settings.transforms):
        return None
    return Pipeline(settings.transforms, flat.shared_shapes)
