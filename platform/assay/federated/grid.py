"""Flower's Grid over an executor: Flower's strategies run on the server, Assay's workers host the clients."""

from collections.abc import Iterable

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from assay.errors import FederationError
from assay.executors import Host


class ExecutorGrid(Grid):
    """Sends a strategy's messages to the clients of a host and returns their replies, ordered by client.

    The average of floats depends on their order; ordered replies make the result the same on any number of workers.

    Args:
        host: of the clients.
        clients: their numbers.
    """

    def __init__(self, host: Host, clients: list[int]) -> None:
        # Flower stamps messages with the identity of a task of its own runtime, which we replace.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 0, 0, 0
        self._host = host
        self._clients = sorted(clients)

    def get_node_ids(self) -> Iterable[int]:
        return list(self._clients)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Sends messages and returns the replies of all addressed clients, in the order of their IDs.

        Args:
            messages: one for each client of the round.
            timeout: seconds to wait for all replies; an hour by default.

        Returns:
            The replies.

        Raises:
            FederationError: a client failed, or did not answer in time. Averaging only the clients that answered would
                be a different experiment.
        """
        requests = {message.metadata.dst_node_id: message for message in messages}
        replies = self._host.call(dict(sorted(requests.items())), timeout=timeout or 3600.0)
        for number in requests:
            reply = replies.get(number)
            if not isinstance(reply, Message):
                cause = reply if isinstance(reply, BaseException) else None
                raise FederationError(f"client {number} did not complete its round: {reply!r}") from cause
        return [replies[number] for number in sorted(replies)]

    def set_run(self, run: Run) -> None:
        raise NotImplementedError("Assay's grid serves one run in this process")

    @property
    def run(self) -> Run:
        raise NotImplementedError("Assay's grid serves one run in this process")

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        return Message(content, dst_node_id=dst_node_id, message_type=message_type, ttl=ttl, group_id=group_id)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError("rounds are synchronous: use send_and_receive")

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError("rounds are synchronous: use send_and_receive")
