"""What a worker has collected of a round; a client for whom nobody waits any longer adds nothing to it."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from assay.errors import UserError
from assay.federated.client import ClientRound, Report
from assay.federated.exact_sum import ExactSum
from assay.federated.messages import Replies
from assay.federated.record import Failure
from assay.federated.state import ClientState
from assay.federated.strategies.base import Contribution, Strategy


@dataclass(kw_only=True)
class Answer:
    """What one client has to say in a round."""

    state: ClientState
    report: Report
    contribution: Contribution
    values: Tensor
    """(k,) the shared weights after training, or the decoded update."""
    minus: Tensor | None
    """(k,) weights that it was sent; None where ``values`` is the update."""
    vectors: Mapping[str, Tensor]
    """(k,) vectors of the strategy's hooks."""
    moments: Tensor | None = None
    counters: Sequence[int] = ()
    bytes_up: int = 0

    @property
    def update(self) -> Tensor:
        """(k,) float64."""
        return self.values.double() if self.minus is None else self.values.double().sub_(self.minus)


class Collected:
    """Sums and reports of a worker's clients in one round.

    Every method holds a lock: a client that hangs has a thread of its own, and either all of its answer counts or none.

    Args:
        sums: exact sums by name, empty.
        single: whether each update is kept.
    """

    def __init__(self, sums: Mapping[str, ExactSum], *, single: bool) -> None:
        self._sums, self._single = sums, single
        self._replies = Replies()
        self._lock = threading.Lock()
        self._abandoned: set[int] = set()

    @property
    def refused(self) -> bool:
        """Whether an error of the user's ends the training."""
        with self._lock:
            return self._replies.refusal is not None

    def abandon(self, client: int, reason: str) -> None:
        """Notes that nobody waits for a client any longer; what it still adds is dropped.

        Args:
            client: its number.
            reason: for the record.
        """
        with self._lock:
            replies = self._replies
            if client not in replies.reports and client not in replies.singles and client not in replies.without:
                self._abandoned.add(client)
                replies.failures[client] = Failure(cause="late", reason=reason)
                replies.stuck = True

    def add(self, answer: Answer, strategy: Strategy, *, since: float) -> None:
        """Adds a client's answer to all sums, or to none.

        Args:
            answer: of the client.
            strategy: gives its weights.
            since: time of ``perf_counter`` at which the client began.

        Raises:
            FederationError: a value or a weight is refused; the sums are as before.
        """
        contribution = answer.contribution
        client = contribution.client
        further = {name: (vector, strategy.vector_scale(contribution)) for name, vector in answer.vectors.items()}
        if answer.moments is not None:
            further["buffers"] = (answer.moments, float(contribution.records))
        scalars = strategy.scalars(contribution, answer.update) if _asks_scalars(strategy) else {}
        with self._lock:
            if client in self._abandoned:
                return
            for name, (values, weight) in further.items():
                self._sums[name].refuse(values, weight)
            scale, divisor = strategy.scale(contribution), strategy.divisor(contribution)
            if divisor == 1.0:
                self._sums["update"].add(answer.values, scale, minus=answer.minus)
            else:
                self._sums["update"].add(answer.update / divisor, scale)
            for name, (values, weight) in further.items():
                self._sums[name].add(values, weight)
            if self._single:
                self._replies.singles[client] = answer.update.cpu()
            replies = self._replies
            replies.scalars[client] = scalars
            before = replies.counters or answer.counters
            replies.counters = [max(pair) for pair in zip(before, answer.counters, strict=True)]
            replies.states[client] = answer.state.on_cpu()
            seconds = time.perf_counter() - since
            replies.reports[client] = replace(
                answer.report, bytes_up=answer.bytes_up, overhead=max(0.0, seconds - answer.report.seconds)
            )

    def add_own(self, session: ClientRound, weights: Tensor, buffers: Mapping[str, Tensor]) -> None:
        """Adds a client's own model.

        Args:
            session: of the client, which may have trained.
            weights: (d,) of its network.
            buffers: of its network.
        """
        with self._lock:
            if session.number in self._abandoned:
                return
            self._replies.singles[session.number] = weights.cpu()
            self._replies.buffers[session.number] = {name: buffer.cpu() for name, buffer in buffers.items()}
            if (report := session.report_own()) is not None:
                self._replies.reports[session.number] = report
                self._replies.states[session.number] = session.state.on_cpu()

    def add_none(self, client: int, reason: str) -> None:
        """Notes that a client has no model of its own.

        Args:
            client: its number.
            reason: for the record.
        """
        with self._lock:
            if client not in self._abandoned:
                self._replies.without[client] = reason

    def fail(self, client: int, failure: Failure) -> None:
        """Notes that a client failed.

        Args:
            client: its number.
            failure: for the record.
        """
        with self._lock:
            self._replies.failures.setdefault(client, failure)

    def refuse(self, client: int, error: UserError) -> None:
        """Notes an error of the user's, such as a δ that is too great for a client; it ends the training.

        Args:
            client: its number.
            error: to be raised at the server.
        """
        with self._lock:
            if client not in self._abandoned:
                self._replies.refusal = error

    def close(self) -> Replies:
        """Ends the collection.

        Returns:
            What was collected.
        """
        with self._lock:
            self._replies.sums = {name: (each.total.cpu(), each.weight) for name, each in self._sums.items()}
            return self._replies


def _asks_scalars(strategy: Strategy) -> bool:
    return type(strategy).scalars is not Strategy.scalars
