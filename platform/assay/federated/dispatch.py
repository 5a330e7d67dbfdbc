"""Runs messages at the workers of a host, one client after the other at each, and gives every message a reply."""

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from flwr.app import ArrayRecord, Error, Message, RecordDict
from flwr.common.constant import ErrorCode

from assay.executors import Host
from assay.federated.client_apps import ClientMessage, ClientReply, SharedArrays

TRIES = 2
"""Attempts at a message whose worker dies."""


@dataclass(kw_only=True)
class Exchanged:
    """A message and, later, its reply."""

    message: Message
    number: int
    reply: Message | None = None


class Dispatch:
    """Workers that take clients one by one, those that took longest before first.

    Array records that several messages carry are sent once for all workers. A message whose worker dies is run again
    once at a new worker; a worker that is late is replaced when it is needed next.

    Args:
        host: of ``ClientAppService``s.
        states: of the clients' contexts, by node; replaced by what each reply leaves.
    """

    def __init__(self, host: Host, states: dict[int, RecordDict]) -> None:
        self._host, self._states = host, states
        self._seconds: dict[int, float] = {}
        self._broken: set[int] = set()
        self._lost: set[int] = set()

    def run(self, waiting: list[Exchanged], deadline: float) -> None:
        """Runs messages at the workers; each has a reply in the end.

        Args:
            waiting: the messages; a client's own run in this order.
            deadline: time on the monotonic clock.
        """
        by_node: dict[int, list[Exchanged]] = {}
        for sent in waiting:
            by_node.setdefault(sent.message.metadata.dst_node_id, []).append(sent)
        longest_first = sorted(by_node, key=lambda node: (-self._seconds.get(node, 0.0), node))
        work = _Work(queue=deque(by_node[node] for node in longest_first), deadline=deadline)
        work.share(waiting)
        places = range(min(self._host.places, len(by_node)))
        if work.records:
            # One call for all workers: the records are sent once.
            sound = [place for place in places if place not in self._broken]
            replies = self._host.call(dict.fromkeys(sound, SharedArrays()), work.records, work.left())
            self._broken |= {place for place, reply in replies.items() if isinstance(reply, BaseException)}
            work.loaded |= set(sound) - self._broken
        self._lost.clear()
        if len(places) == 1:
            self._serve(0, work)
        else:
            threads = [threading.Thread(target=self._serve, args=(place, work), daemon=True) for place in places]
            for thread in threads:
                thread.start()
            try:
                for thread in threads:
                    thread.join()
            except BaseException:
                work.queue.clear()
                raise
        if work.errors:
            raise work.errors[0]
        for sent in waiting:
            if sent.reply is None:
                fail(sent, ErrorCode.NODE_UNAVAILABLE, "its worker could not be replaced")

    def _serve(self, place: int, work: "_Work") -> None:
        """Answers the messages of one client after the other at one worker, until none are left."""
        while (batch := work.next()) is not None:
            for sent in batch:
                try:
                    self._answer(place, sent, work)
                except Exception as error:  # of another thread than the one that waits
                    work.errors.append(error)
                    return
                if place in self._lost:
                    return

    def _answer(self, place: int, sent: Exchanged, work: "_Work") -> None:
        node = sent.message.metadata.dst_node_id
        request = ClientMessage(
            metadata=sent.message.metadata,
            content=work.stripped(sent.message.content),
            state=self._states[node],
            number=sent.number,
        )
        reply: Any = None
        for _ in range(TRIES):
            reply = self._call(place, request, work)
            if not isinstance(reply, BaseException):
                break
            self._broken.add(place)
            work.loaded.discard(place)
            if isinstance(reply, TimeoutError) or place in self._lost:
                break
        if isinstance(reply, ClientReply):
            self._states[node] = reply.state
            self._seconds[node] = reply.seconds
            sent.reply = Message(reply.content, reply_to=sent.message)
        elif isinstance(reply, TimeoutError):
            fail(sent, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, f"no reply before the deadline: {reply}")
        elif place in self._lost:
            fail(sent, ErrorCode.NODE_UNAVAILABLE, f"its worker could not be replaced: {reply}")
        else:
            fail(sent, ErrorCode.CLIENT_APP_CRASHED, f"its worker died {TRIES} times: {reply}")

    def _call(self, place: int, request: ClientMessage, work: "_Work") -> Any:
        if place in self._broken:
            if work.left() <= 0:
                return TimeoutError("its turn did not come")
            try:
                self._host.restart(place)
            except Exception as error:
                # The other workers go on without this one; the next messages try again.
                self._lost.add(place)
                return error
            self._lost.discard(place)
            self._broken.discard(place)
        if work.records and place not in work.loaded:
            loaded = self._host.call({place: SharedArrays()}, work.records, work.left())[place]
            if isinstance(loaded, BaseException):
                return loaded
            work.loaded.add(place)
        if work.left() <= 0:
            return TimeoutError("its turn did not come")
        return self._host.call({place: request}, None, work.left())[place]


class _Work:
    """Messages that workers share.

    Args:
        queue: the messages of each client, in the order in which workers take them.
        deadline: time on the monotonic clock.
    """

    def __init__(self, queue: deque[list[Exchanged]], deadline: float) -> None:
        self.queue, self.deadline = queue, deadline
        self.records: list[ArrayRecord] = []
        """Array records that several messages carry."""
        self.loaded: set[int] = set()
        """Workers that have them."""
        self.errors: list[Exception] = []
        """Raised by the threads of workers."""
        self._places: dict[int, int] = {}

    def share(self, waiting: list[Exchanged]) -> None:
        """Finds the array records that are the same object in several messages."""
        times: dict[int, int] = {}
        for sent in waiting:
            for record in sent.message.content.array_records.values():
                times[id(record)] = times.get(id(record), 0) + 1
                if times[id(record)] == 2:
                    self._places[id(record)] = len(self.records)
                    self.records.append(record)

    def stripped(self, content: RecordDict) -> dict[str, Any]:
        """Returns the records of a content by name, with the position of each shared one in its place."""
        return {name: self._places.get(id(record), record) for name, record in content.items()}

    def next(self) -> list[Exchanged] | None:
        """Returns the messages of the next client."""
        try:
            return self.queue.popleft()
        except IndexError:
            return None

    def left(self) -> float:
        """Returns the seconds until the deadline."""
        return self.deadline - time.monotonic()


def fail(sent: Exchanged, code: int, reason: str) -> None:
    """Gives a message an Error as its reply.

    Args:
        sent: the message.
        code: of Flower's ``ErrorCode``.
        reason: for the strategy's log and the user.
    """
    sent.reply = Message(Error(code, reason), reply_to=sent.message)
