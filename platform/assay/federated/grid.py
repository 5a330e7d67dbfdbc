"""Flower's Grid over an executor's workers: any strategy and any ServerApp on the server, ClientApps at the workers."""

import copy
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import Message, MessageType, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from assay.errors import FederationError, TooFewClientsError
from assay.executors import Host
from assay.federated.client_apps import RUN_ID, SERVER
from assay.federated.dispatch import Dispatch, Exchanged, fail
from assay.federated.replies import ReplyCheck
from assay.federated.reports import dominating

logging.getLogger("flwr").setLevel(logging.WARNING)

HOUR = 3600.0
POLLS = 5
"""Questions for nodes, one after the other with pauses and without a message, after which a ServerApp waits in vain."""
PAUSE = 0.2
"""Seconds between two such questions at least."""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """Account of the messages that were run together."""

    kind: str
    """Type of the messages, or several joined by a comma."""
    messages: int
    failures: Mapping[int, str]
    """Reason of each Error reply by node."""
    seconds: float


class ExecutorGrid(Grid):
    """Runs messages at the workers of a host when they are pulled, and returns their replies ordered by node.

    Averages of floats depend on their order; ordered replies make the result the same on any number of workers. A
    client's context lives here between messages, so it survives workers. Workers take clients one by one, those that
    took longest first. A message whose worker dies is run again once at a new worker, from the same state and with the
    same random numbers; after that, and where a client raises or is late, its reply is an ``Error``.

    Args:
        host: of ``ClientAppService``s.
        clients: number of nodes; node n holds partition n − 1.
        check: of the replies.
        deadline: greatest number of seconds until replies are late.
        told: called after messages were run.
    """

    def __init__(
        self,
        host: Host,
        clients: int,
        *,
        check: ReplyCheck | None = None,
        deadline: float = HOUR,
        told: Callable[[Exchange], None] = lambda exchange: None,
    ) -> None:
        # Flower stamps messages with the identity of a task of its own runtime, which we replace.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 0, RUN_ID, SERVER
        self._nodes, self._deadline, self._told = range(1, clients + 1), deadline, told
        self.check = ReplyCheck() if check is None else check
        self.states = {node: RecordDict() for node in self._nodes}
        """State of each client's context, by node."""
        self._dispatch = Dispatch(host, self.states)
        self._run = Run.create_empty(RUN_ID)
        self._sent: dict[str, Exchanged] = {}
        self._numbers = dict.fromkeys(self._nodes, 0)
        self._ids = 0
        self._polls: list[float] = []
        self._lock = threading.RLock()
        self._thread = threading.get_ident()

    @property
    def run(self) -> Run:
        """Run that this grid serves."""
        return self._run

    def set_run(self, run: Run) -> None:
        self._run = run

    def get_node_ids(self) -> Iterable[int]:
        """Returns the nodes, which never change.

        Raises:
            TooFewClientsError: the ServerApp asks again and again, and so waits for more.
        """
        if threading.get_ident() == self._thread:  # a client manager of Flower's older API asks in another one
            now = time.monotonic()
            self._polls = [*self._polls, now] if not self._polls or now - self._polls[-1] > PAUSE else [now]
            if len(self._polls) >= POLLS:
                raise too_few("the ServerApp", f"more than {len(self._nodes)}", len(self._nodes))
        return list(self._nodes)

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        return Message(content, dst_node_id=dst_node_id, message_type=message_type, ttl=ttl, group_id=group_id)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Takes messages, which run at the next pull: several clients at the same time, a client's own in this order.

        Args:
            messages: for any nodes, several for one node if need be.

        Returns:
            Their IDs, in order.
        """
        with self._lock:
            self._polls = []
            return [self._push(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Runs all messages that wait, and returns the replies to some, which can be pulled once.

        Args:
            message_ids: from ``push_messages``.

        Returns:
            Replies in the order of their nodes.

        Raises:
            FederationError: there is no such message, or its reply was pulled before.
        """
        return self._pull(list(message_ids), self._deadline)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Runs messages and returns a reply for each, an ``Error`` where a client failed or was late.

        Args:
            messages: for any nodes.
            timeout: seconds until replies are late, where that is before the grid's deadline.

        Returns:
            Replies in the order of their nodes.

        Raises:
            FederationError: no client could load the app, or every trained reply was refused.
        """
        with self._lock:
            patience = self._deadline if timeout is None else min(timeout, self._deadline)
            return self._pull(list(self.push_messages(messages)), patience)

    def _push(self, message: Message) -> str:
        self._ids += 1
        message.metadata.__dict__["_message_id"] = identity = f"{self._ids:016x}"
        # Copied, because the same message may be pushed again, or be changed.
        kept = Message(content=message.content, metadata=copy.copy(message.metadata))
        node = message.metadata.dst_node_id
        sent = Exchanged(message=kept, number=self._numbers.get(node, 0))
        if node in self._numbers:
            self._numbers[node] += 1
            self.check.sent(kept.content)
        else:
            fail(sent, ErrorCode.NODE_UNAVAILABLE, f"there is no node {node}; nodes are 1 to {len(self._nodes)}")
        self._sent[identity] = sent
        return identity

    def _pull(self, ids: list[str], timeout: float) -> list[Message]:
        with self._lock:
            self._polls = []
            unknown = [identity for identity in ids if identity not in self._sent]
            if unknown:
                raise FederationError(f"no message has the ID {unknown[0]!r}, or its reply was pulled before")
            waiting = [sent for sent in self._sent.values() if sent.reply is None]
            if waiting:
                self._exchange(waiting, timeout)
            replies = [self._sent.pop(identity).reply for identity in dict.fromkeys(ids)]
            return sorted(
                (reply for reply in replies if reply is not None), key=lambda reply: int(reply.metadata.src_node_id)
            )

    def _exchange(self, waiting: list[Exchanged], timeout: float) -> None:
        began = time.monotonic()
        self._dispatch.run(waiting, began + timeout)
        for sent in waiting:
            self._checked(sent)
        failed = {
            sent.message.metadata.dst_node_id: sent.reply.error.reason or ""
            for sent in waiting
            if sent.reply is not None and sent.reply.has_error()
        }
        kinds = ", ".join(dict.fromkeys(sent.message.metadata.message_type for sent in waiting))
        self._told(Exchange(kind=kinds, messages=len(waiting), failures=failed, seconds=time.monotonic() - began))
        self._refuse_hopeless(waiting)

    def _checked(self, sent: Exchanged) -> None:
        """Sets the ID of a reply, and puts an Error in the place of one that must not reach a strategy."""
        assert sent.reply is not None
        if sent.reply.has_content():
            partition = sent.message.metadata.dst_node_id - 1
            fault = self.check.fault(sent.message.content, sent.reply.content, partition)
            if fault:
                fail(sent, ErrorCode.UNKNOWN, f"refused: {fault}")
        sent.reply.metadata.__dict__["_message_id"] = f"{sent.message.metadata.message_id}-reply"

    def _refuse_hopeless(self, waiting: list[Exchanged]) -> None:
        """Raises an error where going on would only look like training."""
        replies = [sent.reply for sent in waiting if sent.reply is not None]
        errors = [reply.error for reply in replies if reply.has_error()]
        if len(errors) < len(replies):
            self._flag_dominating(replies)
            return
        if all(error.code == ErrorCode.LOAD_CLIENT_APP_EXCEPTION for error in errors):
            raise FederationError(f"no client could load the ClientApp: {errors[0].reason}")
        trained = all(reply.metadata.message_type.split(".")[0] == MessageType.TRAIN for reply in replies)
        if trained and all((error.reason or "").startswith("refused: ") for error in errors):
            raise FederationError(
                f"the replies of all {len(replies)} clients were {errors[0].reason}; if the app answers with other "
                "arrays than it is sent on purpose, set layout to `free`"
            )

    def _flag_dominating(self, replies: list[Message]) -> None:
        key = self.check.count_key
        counts = {
            int(reply.metadata.src_node_id): float(metrics[key])
            for reply in replies
            if reply.has_content()
            for metrics in reply.content.metric_records.values()
            if key in metrics
        }
        node = dominating(counts)
        if node is not None:
            self.check.flags.append(
                f"partition {node - 1} claimed {counts[node]:g} of {sum(counts.values()):g} examples, and decided the "
                "average alone; state the counts to cap claims"
            )


def too_few(who: str, wanted: Any, clients: int) -> TooFewClientsError:
    """Returns the error about a strategy that waits for more clients than there are.

    Args:
        who: waits.
        wanted: number of clients that it waits for.
        clients: number of clients.

    Returns:
        The error.
    """
    return TooFewClientsError(
        f"{who} needs {wanted} clients and would wait for ever: there are {clients}. Run more clients, or lower "
        "min_available_nodes, min_train_nodes and min_evaluate_nodes of the strategy (2 by default)",
        setting="clients",
        given=clients,
        allowed=wanted,
    )
