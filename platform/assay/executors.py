"""Executors run work in this process or (``assay.cluster``) on a pool of Ray actors, with the same results."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any, Protocol

from assay import progress


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Result of one item of a map."""

    index: int
    """Position of the item."""
    value: Any = None
    error: str = ""
    """Why there is no value, such as a worker that died. An exception of ``fn`` itself is raised, not stored here."""


class Client(Protocol):
    """Object at a worker that keeps its state and answers requests."""

    def __call__(self, request: Any) -> Any: ...


class Host(Protocol):
    """Clients that run at workers and keep their state until ``close``."""

    def call(self, requests: Mapping[int, Any], timeout: float) -> dict[int, Any]:
        """Sends requests to clients and waits for the replies.

        Args:
            requests: one for each client number.
            timeout: seconds until a client counts as failed.

        Returns:
            Replies by client number; an exception stands for a client that failed or was late.
        """
        ...

    def close(self) -> None:
        """Ends the clients."""
        ...


class Executor(Protocol):
    """Runs functions over items, and hosts clients."""

    @property
    def workers(self) -> int:
        """How many items run at the same time."""
        ...

    def map(self, fn: Callable[..., Any], items: Iterable[Any], shared: Any) -> Iterator[Outcome]:
        """Runs ``fn(item, shared)`` for each item.

        Args:
            fn: the function; must be picklable where workers are other processes.
            items: the inputs. After the first ones they are taken one by one, as workers become free.
            shared: second argument of every call; sent to each worker once.

        Returns:
            Iterator over outcomes in order of completion.
        """
        ...

    def host(self, clients: Mapping[int, Callable[[], Client]]) -> Host:
        """Creates clients at workers.

        Args:
            clients: functions that create a client, by client number.

        Returns:
            The host that sends requests to them.
        """
        ...


class LocalExecutor:
    """Runs everything in this process, one item after the other."""

    workers = 1

    def map(self, fn: Callable[..., Any], items: Iterable[Any], shared: Any) -> Iterator[Outcome]:
        """Runs ``fn(item, shared)`` for each item, in order; see ``Executor.map``."""
        total = len(items) if isinstance(items, Sized) else 0
        for index, item in enumerate(items):
            progress.tell(index, total)
            yield Outcome(index=index, value=fn(item, shared))

    def host(self, clients: Mapping[int, Callable[[], Client]]) -> Host:
        """Creates clients in this process; see ``Executor.host``."""
        return LocalHost({number: make() for number, make in clients.items()})


class Watched:
    """Executor that reports the progress of each map.

    Args:
        executor: does the work.
        told: called with the number of finished items and of all items after each item.
    """

    def __init__(self, executor: Executor, told: Callable[[int, int], None]) -> None:
        self._executor, self._told = executor, told

    @property
    def workers(self) -> int:
        """How many items run at the same time."""
        return self._executor.workers

    def map(self, fn: Callable[..., Any], items: Iterable[Any], shared: Any) -> Iterator[Outcome]:
        """Runs ``fn(item, shared)`` for each item, and reports each; see ``Executor.map``."""
        inputs = list(items)
        for number, outcome in enumerate(self._executor.map(fn, inputs, shared), start=1):
            self._told(number, len(inputs))
            yield outcome

    def host(self, clients: Mapping[int, Callable[[], Client]]) -> Host:
        """Creates clients at workers; see ``Executor.host``."""
        return self._executor.host(clients)


class LocalHost:
    """Clients in this process."""

    def __init__(self, clients: dict[int, Client]) -> None:
        self._clients = clients

    def call(self, requests: Mapping[int, Any], timeout: float) -> dict[int, Any]:
        """Sends requests to clients, one after the other; see ``Host.call``."""
        deadline = time.monotonic() + timeout
        replies = {}
        for number, request in requests.items():
            reply = answer(self._clients[number], request)
            late = time.monotonic() > deadline
            replies[number] = TimeoutError(f"no reply within {timeout:g} s") if late else reply
        return replies

    def close(self) -> None:
        """Ends the clients."""
        self._clients.clear()


def answer(client: Client, request: Any) -> Any:
    """Calls a client and returns an exception instead of raising it, so that other clients' replies are not lost.

    Args:
        client: the client.
        request: its argument.

    Returns:
        The reply, or the exception that the client raised.
    """
    try:
        return client(request)
    except Exception as error:
        return error
