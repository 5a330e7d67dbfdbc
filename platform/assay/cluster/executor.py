"""A pool of warm Ray actors for a study, which run trials and host services, such as that of a federated training.

Warm actors import torch once, not for every trial.
"""

import contextlib
import math
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from assay import progress
from assay.cluster.memory import keep_freed_memory
from assay.cluster.session import ray_session
from assay.errors import UserError
from assay.executors import Outcome, Service, answer

_PATIENCE = 30.0
"""Seconds that a federated training waits for workers beyond the first."""
_PLACING = 300.0
"""Seconds in which every worker must have created its service."""
_READING = 5.0
"""Seconds in which the board must answer; otherwise this progress report is skipped."""
_TRIES = 2
"""Attempts per item if workers die; afterwards the item fails."""


class Board:
    """Actor that collects the progress of workers; started when the first progress is to be reported."""

    def __init__(self) -> None:
        self._said: dict[int, str] = {}

    def say(self, place: int, said: str) -> None:
        """Stores the progress of a worker.

        Args:
            place: number of the worker in the pool.
            said: its progress, as one line.
        """
        self._said[place] = said

    def read(self) -> dict[int, str]:
        """Returns and clears the progress since the last call.

        Returns:
            Lines by number of the worker.
        """
        said, self._said = self._said, {}
        return said


class Worker:
    """Warm process that runs functions, and keeps a service alive between requests.

    Args:
        place: its number in the pool.
        board: name of the actor to which it reports progress, if that actor exists.
    """

    def __init__(self, place: int, board: str) -> None:
        keep_freed_memory()
        self._place, self._board = place, board
        self._service: Service | None = None

    def ready(self) -> None:
        """Returns once the process has started."""

    def run(self, fn: Callable[..., Any], item: Any, shared: Any) -> Any:
        """Runs one item of a map, and reports its progress to the board.

        Args:
            fn: the function.
            item: its first argument.
            shared: its second argument.

        Returns:
            Its result.
        """
        with progress.listening(self._tell):
            return fn(item, shared)

    def _tell(self, said: str) -> None:
        with contextlib.suppress(ValueError, RayError):  # the board does not exist yet, or has ended
            ray.get_actor(self._board).say.remote(self._place, said)

    def host(self, make: Callable[[], Service] | None) -> None:
        """Creates a service, and drops the earlier one.

        Args:
            make: creates it; None only drops the earlier one.
        """
        self._service = None if make is None else make()

    def call(self, request: Any, shared: Any) -> Any:
        """Sends a request to the service.

        Args:
            request: its first argument.
            shared: its second argument.

        Returns:
            The reply, or the exception that the service raised.
        """
        assert self._service is not None
        return answer(self._service, request, shared)


class RayExecutor:
    """``Executor`` over actors that live until ``close``. Ray starts at the first work, and not at all without work.

    Args:
        address: cluster to join; see ``session.ray_session``.
        workers: number of actors; by default as many as the CPUs of the cluster allow.
        cpus: CPUs that each reserves; should equal the threads of a trial.
    """

    def __init__(self, *, address: str | None = None, workers: int | None = None, cpus: int = 1) -> None:
        self._address, self._wanted, self._cpus = address, workers, cpus
        self._session = contextlib.ExitStack()
        self._actors: list[Any] = []
        self._gpus = 0.0
        self._name = f"assay-board-{uuid.uuid4().hex}"
        self._board: Any = None

    def __enter__(self) -> "RayExecutor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def workers(self) -> int:
        """Number of actors; starts them if necessary."""
        self._start()
        return len(self._actors)

    def close(self) -> None:
        """Stops the actors, and Ray if it was started here."""
        for actor in [*self._actors, *([] if self._board is None else [self._board])]:
            ray.kill(actor)
        self._actors, self._board = [], None
        self._session.close()

    def map(self, fn: Callable[..., Any], items: Iterable[Any], shared: Any) -> Iterator[Outcome]:
        """Runs ``fn(item, shared)`` for each item on the actors; see ``Executor.map``."""
        fresh = (_Work(index=index, item=item, attempt=1) for index, item in enumerate(items))
        again = [work for work in (next(fresh, None),) if work is not None]
        if not again:
            return
        self._start()
        shared_reference = ray.put(shared)
        # A worker gets work once it has started: on a busy or growing cluster some start late, and the others work.
        starting = {actor.ready.remote(): place for place, actor in enumerate(self._actors)}
        running: dict[ray.ObjectRef, tuple[int, _Work]] = {}
        idle: list[int] = []
        while True:
            # Items are taken from the iterator only when a worker is idle.
            while idle and (work := again.pop() if again else next(fresh, None)) is not None:
                place = idle.pop()
                running[self._actors[place].run.remote(fn, work.item, shared_reference)] = (place, work)
            if idle and not running:
                return
            patience = progress.EVERY / 2 if progress.wanted() else None
            finished, _ = ray.wait([*running, *starting], num_returns=1, timeout=patience)
            if not finished:
                self._relay({place for place, _ in running.values()})
                continue
            (done,) = finished
            if done in starting:
                _started(done)
                idle.append(starting.pop(done))
                continue
            place, work = running.pop(done)
            try:
                outcome = Outcome(index=work.index, value=ray.get(done))
            except RayActorError as error:
                self._actors[place] = self._make(place)
                starting[self._actors[place].ready.remote()] = place
                if work.attempt < _TRIES:
                    again.append(replace(work, attempt=work.attempt + 1))
                    continue
                yield Outcome(index=work.index, error=f"its worker died {work.attempt} times: {error}")
                continue
            idle.append(place)
            yield outcome

    def host(self, make: Callable[[], Service]) -> "RayHost":
        """Creates a service on each actor that has started; see ``Executor.host``."""
        self._start()
        self._replace_dead()
        return RayHost(self, self._ready(), make)

    def replace(self, place: int) -> Any:
        """Kills the actor at a place and starts another one there.

        Args:
            place: number of the actor in the pool.

        Returns:
            The new actor, which may not have started yet.
        """
        ray.kill(self._actors[place])
        self._actors[place] = self._make(place)
        return self._actors[place]

    def _start(self) -> None:
        if self._actors:
            return
        workers = self._session.enter_context(ray_session(self._address, workers=self._wanted, cpus=self._cpus))
        most = max(node["Resources"].get("CPU", 0) for node in ray.nodes())
        if most < self._cpus:
            raise UserError(
                f"a trial wants {self._cpus} threads, but no machine of the cluster has more than {most:g} CPUs; "
                "lower `threads` in the study"
            )
        self._gpus = gpu_share(ray.cluster_resources().get("GPU", 0.0), workers)
        self._actors = [self._make(place) for place in range(workers)]

    def _make(self, place: int) -> Any:
        return ray.remote(num_cpus=self._cpus, num_gpus=self._gpus, max_restarts=0)(Worker).remote(place, self._name)

    def _relay(self, places: set[int]) -> None:
        """Passes the progress of the workers at these places to the listener of this process."""
        if self._board is None:
            self._board = ray.remote(num_cpus=0)(Board).options(name=self._name).remote()
        with contextlib.suppress(RayError):
            for place, said in sorted(ray.get(self._board.read.remote(), timeout=_READING).items()):
                if place in places:
                    progress.relay(said)

    def _ready(self) -> dict[int, Any]:
        """Returns the actors that have started, by their place in the pool; waits for at least one."""
        answers = {actor.ready.remote(): place for place, actor in enumerate(self._actors)}
        ray.wait(list(answers), num_returns=1)
        started, _ = ray.wait(list(answers), num_returns=len(answers), timeout=_PATIENCE)
        for reference in started:
            _started(reference)
        arrived = set(started)
        return {place: self._actors[place] for reference, place in answers.items() if reference in arrived}

    def _replace_dead(self) -> None:
        answers = {actor.ready.remote(): place for place, actor in enumerate(self._actors)}
        finished, _ = ray.wait(list(answers), num_returns=len(answers), timeout=_PATIENCE)
        for reference in finished:
            try:
                ray.get(reference)
            except RayActorError:
                self._actors[answers[reference]] = self._make(answers[reference])


@dataclass(frozen=True, kw_only=True)
class _Work:
    """An item that is waiting or running."""

    index: int
    item: Any
    attempt: int


def _started(reference: Any) -> None:
    """Raises an error if a worker could not start."""
    try:
        ray.get(reference)
    except RayActorError as error:
        raise UserError(
            "a worker could not start. Is assay installed on the cluster? If not, submit with "
            f"jobs.submit --ship-assay. Ray says: {error}"
        ) from None


def gpu_share(gpus: float, workers: int) -> float:
    """Returns the share of a GPU for each worker: a whole one if there are enough, otherwise an equal fraction.

    The fraction is such that every worker fits on one device.

    Args:
        gpus: GPUs of the cluster.
        workers: number of workers.

    Returns:
        GPUs per worker; 0 without a GPU.
    """
    return 0.0 if gpus < 1 else 1.0 / math.ceil(workers / gpus)


class RayHost:
    """One service on each of some actors of a pool.

    Args:
        pool: starts another actor where one is restarted.
        actors: that have started, by their place in the pool.
        make: creates a service.
    """

    def __init__(self, pool: RayExecutor, actors: Mapping[int, Any], make: Callable[[], Service]) -> None:
        self._pool, self._at = pool, sorted(actors)
        self._actors = [actors[place] for place in self._at]
        self._make = ray.put(make)
        ray.get([actor.host.remote(self._make) for actor in self._actors], timeout=_PLACING)

    @property
    def places(self) -> int:
        """Number of actors."""
        return len(self._actors)

    def call(self, requests: Mapping[int, Any], shared: Any, timeout: float) -> dict[int, Any]:
        """Sends a request to each service and waits for the replies; see ``Host.call``."""
        # For several actors it is stored once; for one, that would only take time.
        given = shared if len(requests) == 1 else ray.put(shared)
        sent = {place: self._actors[place].call.remote(request, given) for place, request in requests.items()}
        ready, _ = ray.wait(list(sent.values()), num_returns=len(sent), timeout=timeout)
        arrived = set(ready)
        return {
            place: _received(reference) if reference in arrived else GetTimeoutError(f"no reply within {timeout:g} s")
            for place, reference in sent.items()
        }

    def restart(self, place: int) -> None:
        """Kills an actor and creates the service on another one; see ``Host.restart``."""
        self._actors[place] = self._pool.replace(self._at[place])
        ray.get(self._actors[place].host.remote(self._make), timeout=_PLACING)

    def close(self) -> None:
        """Ends the services; the actors stay."""
        for actor in self._actors:
            with contextlib.suppress(RayError):
                actor.host.remote(None)


def _received(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayError as error:
        return error
