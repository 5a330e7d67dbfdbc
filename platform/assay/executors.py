"""Executors run work in this process or (``assay.cluster``) on a pool of Ray actors, with the same results."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from typing import Any, Final, Protocol

from assay import progress


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Result of one item of a map."""

    index: int
    """Position among the items; one that stands for a later item (``LATER``) has none."""
    value: Any = None
    error: str = ""
    """Why there is no value, such as a worker that died. An exception of ``fn`` itself is raised, not stored here."""


class Later(Enum):
    """What a stream of items gives in the place of an item while it has none; see ``LATER``."""

    LATER = "later"


LATER: Final = Later.LATER
"""Stands for an item that is not known yet, for it depends on the outcome of one that runs. The executor asks the
stream again after the next outcome, and the other workers go on meanwhile."""


@dataclass(frozen=True, kw_only=True)
class ByDevice:
    """Items of a map in two streams, by the device on which ``fn`` computes them; iterating gives all of them.

    Executors with workers that have a GPU and workers without draw each worker's next item from the stream that suits
    it, so that no item of one stream waits behind one of the other.
    """

    gpu: Iterable[Any] = ()
    """Items that are computed on a GPU where there is one."""
    cpu: Iterable[Any] = ()
    """Items that are computed on the CPU on every worker."""

    def __iter__(self) -> Iterator[Any]:
        return chain(self.gpu, self.cpu)


class Service(Protocol):
    """Object at a worker that keeps its state and answers requests."""

    def __call__(self, request: Any, shared: Any) -> Any: ...


class Host(Protocol):
    """One service at each worker, which keeps its state until ``close``. Workers are numbered from 0."""

    @property
    def places(self) -> int:
        """Number of workers."""
        ...

    def call(self, requests: Mapping[int, Any], shared: Any, timeout: float) -> dict[int, Any]:
        """Sends one request to each of some services, which answer at the same time, and waits for the replies.

        Args:
            requests: by worker.
            shared: second argument of every call; it is sent once, however many workers read it, and is read-only.
            timeout: seconds until a service counts as failed.

        Returns:
            Replies by worker; an exception stands for a service that raised it, died or was late.
        """
        ...

    def restart(self, place: int) -> None:
        """Replaces the service of a worker by a new one, whatever the old one is doing.

        Args:
            place: of the worker.
        """
        ...

    def close(self) -> None:
        """Ends the services."""
        ...


class Executor(Protocol):
    """Runs functions over items, and hosts services."""

    @property
    def workers(self) -> int:
        """How many items run at the same time."""
        ...

    def map(self, fn: Callable[..., Any], items: Iterable[Any], shared: Any) -> Iterator[Outcome]:
        """Runs ``fn(item, shared)`` for each item.

        Args:
            fn: the function; must be picklable where workers are other processes.
            items: the inputs, perhaps as ``ByDevice``. They are taken one by one, as workers become free; the first one
                before any worker starts. A stream may give ``LATER`` in the place of an item, as long as an item runs.
            shared: second argument of every call; sent to each worker once.

        Returns:
            Iterator over outcomes in order of completion.
        """
        ...

    def host(self, make: Callable[[], Service]) -> Host:
        """Creates a service at each worker.

        Args:
            make: creates a service; must be picklable where workers are other processes, and is sent once.

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
            assert item is not LATER, "an item waits for the outcome of another one, and none runs"
            progress.tell(index, total)
            yield Outcome(index=index, value=fn(item, shared))

    def host(self, make: Callable[[], Service]) -> Host:
        """Creates one service in this process; see ``Executor.host``."""
        return LocalHost(make)


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

    def host(self, make: Callable[[], Service]) -> Host:
        """Creates a service at each worker; see ``Executor.host``."""
        return self._executor.host(make)


class LocalHost:
    """One service in this process.

    Args:
        make: creates the service.
    """

    places = 1

    def __init__(self, make: Callable[[], Service]) -> None:
        self._make = make
        self._service: Service | None = make()

    def call(self, requests: Mapping[int, Any], shared: Any, timeout: float) -> dict[int, Any]:
        """Sends a request to the service. A call in this process cannot be ended from outside; see ``Host.call``."""
        assert self._service is not None
        deadline = time.monotonic() + timeout
        replies = {}
        for place, request in requests.items():
            reply = answer(self._service, request, shared)
            late = time.monotonic() > deadline
            replies[place] = TimeoutError(f"no reply within {timeout:g} s") if late else reply
        return replies

    def restart(self, place: int) -> None:
        """Replaces the service by a new one; see ``Host.restart``."""
        self._service = self._make()

    def close(self) -> None:
        """Ends the service."""
        self._service = None


def answer(service: Service, request: Any, shared: Any) -> Any:
    """Calls a service and returns an exception instead of raising it, so that other services' replies are not lost.

    Args:
        service: to call.
        request: its first argument.
        shared: its second argument.

    Returns:
        The reply, or the exception that the service raised.
    """
    try:
        return service(request, shared)
    except Exception as error:
        return error
