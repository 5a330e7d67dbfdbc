"""Who does the work: this process, or (in ``assay.cluster``) a pool of Ray actors. Same contract, same results."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any, Protocol

from assay import progress


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one item of a map."""

    index: int
    """Position of the item."""
    value: Any = None
    error: str = ""
    """Why there is no value: the worker died, say. What ``fn`` itself raises is raised."""


class Client(Protocol):
    """Something that lives at a worker, keeps its state and answers requests."""

    def __call__(self, request: Any) -> Any: ...


class Host(Protocol):
    """Clients placed at workers, each kept there with its state until ``close``."""

    def call(self, requests: Mapping[int, Any], timeout: float) -> dict[int, Any]:
        """Replies by client; a client that failed or was too late has an exception instead, never silence."""
        ...

    def close(self) -> None: ...


class Executor(Protocol):
    """Runs functions over items, and hosts clients."""

    @property
    def workers(self) -> int:
        """How many do so at once."""
        ...

    def map(self, fn: Callable[..., Any], items: Iterable[Any], shared: Any) -> Iterator[Outcome]:
        """``fn(item, shared)`` for each item, in order of completion. ``shared`` travels to a worker once.

        Items are asked for one by one as workers take them, but for the first.
        """
        ...

    def host(self, clients: Mapping[int, Callable[[], Client]]) -> Host:
        """Make each client at a worker."""
        ...


class LocalExecutor:
    """Everything in this process, one thing after the other."""

    workers = 1

    def map(self, fn: Callable[..., Any], items: Iterable[Any], shared: Any) -> Iterator[Outcome]:
        known = len(items) if isinstance(items, Sized) else 0
        for index, item in enumerate(items):
            progress.tell(index, known)
            yield Outcome(index=index, value=fn(item, shared))

    def host(self, clients: Mapping[int, Callable[[], Client]]) -> Host:
        return LocalHost({number: make() for number, make in clients.items()})


class Watched:
    """An executor that tells how far each map has come.

    Args:
        executor: does the work.
        told: called with finished and all items after each.
    """

    def __init__(self, executor: Executor, told: Callable[[int, int], None]) -> None:
        self._executor, self._told = executor, told

    @property
    def workers(self) -> int:
        return self._executor.workers

    def map(self, fn: Callable[..., Any], items: Iterable[Any], shared: Any) -> Iterator[Outcome]:
        known = list(items)
        for number, outcome in enumerate(self._executor.map(fn, known, shared), start=1):
            self._told(number, len(known))
            yield outcome

    def host(self, clients: Mapping[int, Callable[[], Client]]) -> Host:
        return self._executor.host(clients)


class LocalHost:
    """Clients in this process."""

    def __init__(self, clients: dict[int, Client]) -> None:
        self._clients = clients

    def call(self, requests: Mapping[int, Any], timeout: float) -> dict[int, Any]:
        deadline = time.monotonic() + timeout
        replies = {}
        for number, request in requests.items():
            reply = answer(self._clients[number], request)
            late = time.monotonic() > deadline
            replies[number] = TimeoutError(f"no reply within {timeout:g} s") if late else reply
        return replies

    def close(self) -> None:
        self._clients.clear()


def answer(client: Client, request: Any) -> Any:
    """The client's reply, or the exception it raised: one client's failure must not hide another's reply."""
    try:
        return client(request)
    except Exception as error:
        return error
