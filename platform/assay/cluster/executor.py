"""One pool of warm Ray actors a study: it runs trials and hosts federated clients, and nobody else imports torch."""

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
from assay.executors import Client, Outcome, answer

_PATIENCE = 30.0
"""Seconds that a federated training waits for workers beyond the first."""
_PLACING = 300.0
"""Seconds in which every worker must have made its clients."""
_READING = 5.0
"""Seconds in which the board must answer; if it does not, nothing is told this time."""
_TRIES = 2
"""How often an item is given to a worker before its death is blamed on the item."""


class Board:
    """Where workers write what they are doing; an actor of its own, started once there is something long to tell."""

    def __init__(self) -> None:
        self._said: dict[int, str] = {}

    def say(self, place: int, said: str) -> None:
        self._said[place] = said

    def read(self) -> dict[int, str]:
        """What was said since the last call, by worker."""
        said, self._said = self._said, {}
        return said


class Worker:
    """A warm process. Runs functions, and keeps clients alive between requests.

    Args:
        place: its number in the pool.
        board: name of the actor that it tells what it is doing, if there is one by then.
    """

    def __init__(self, place: int, board: str) -> None:
        keep_freed_memory()
        self._place, self._board = place, board
        self._clients: dict[int, Client] = {}

    def ready(self) -> None:
        """Answers once the process has started."""

    def run(self, fn: Callable[..., Any], item: Any, shared: Any) -> Any:
        with progress.listening(self._tell):
            return fn(item, shared)

    def _tell(self, said: str) -> None:
        with contextlib.suppress(ValueError, RayError):  # no board yet, or none any more
            ray.get_actor(self._board).say.remote(self._place, said)

    def host(self, clients: dict[int, Callable[[], Client]]) -> None:
        self._clients = {number: make() for number, make in clients.items()}

    def call(self, number: int, request: Any) -> Any:
        return answer(self._clients[number], request)


class RayExecutor:
    """An ``Executor`` over actors that live until ``close``. Ray starts with the first work: none, no Ray.

    Args:
        address: cluster to join; see ``session.ray_session``.
        workers: number of actors; as many as the cluster's CPUs carry by default.
        cpus: CPUs that each reserves; match the threads of a trial.
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
        self._start()
        return len(self._actors)

    def close(self) -> None:
        """Stop the actors, and Ray if it was started here."""
        for actor in [*self._actors, *([] if self._board is None else [self._board])]:
            ray.kill(actor)
        self._actors, self._board = [], None
        self._session.close()

    def map(self, fn: Callable[..., Any], items: Iterable[Any], shared: Any) -> Iterator[Outcome]:
        fresh = (_Work(index=index, item=item, attempt=1) for index, item in enumerate(items))
        again = [work for work in (next(fresh, None),) if work is not None]
        if not again:
            return
        self._start()
        kept = ray.put(shared)
        # A worker takes work once it has answered: on a busy or growing cluster some come late, and nobody waits.
        coming = {actor.ready.remote(): place for place, actor in enumerate(self._actors)}
        running: dict[ray.ObjectRef, tuple[int, _Work]] = {}
        idle: list[int] = []
        while True:
            # An item is asked for when a worker is there to take it, and not before.
            while idle and (work := again.pop() if again else next(fresh, None)) is not None:
                place = idle.pop()
                running[self._actors[place].run.remote(fn, work.item, kept)] = (place, work)
            if idle and not running:
                return
            patience = progress.EVERY / 2 if progress.wanted() else None
            finished, _ = ray.wait([*running, *coming], num_returns=1, timeout=patience)
            if not finished:
                self._relay({place for place, _ in running.values()})
                continue
            (done,) = finished
            if done in coming:
                _started(done)
                idle.append(coming.pop(done))
                continue
            place, work = running.pop(done)
            try:
                outcome = Outcome(index=work.index, value=ray.get(done))
            except RayActorError as error:
                self._actors[place] = self._make(place)
                coming[self._actors[place].ready.remote()] = place
                if work.attempt < _TRIES:
                    again.append(replace(work, attempt=work.attempt + 1))
                    continue
                yield Outcome(index=work.index, error=f"its worker died {work.attempt} times: {error}")
                continue
            idle.append(place)
            yield outcome

    def host(self, clients: Mapping[int, Callable[[], Client]]) -> "RayHost":
        self._start()
        self._replace_dead()
        return RayHost(self._ready(), clients)

    def _start(self) -> None:
        if self._actors:
            return
        found = self._session.enter_context(ray_session(self._address, workers=self._wanted, cpus=self._cpus))
        most = max(node["Resources"].get("CPU", 0) for node in ray.nodes())
        if most < self._cpus:
            raise UserError(
                f"a trial wants {self._cpus} threads, but no machine of the cluster has more than {most:g} CPUs; "
                "lower `threads` in the study"
            )
        self._gpus = gpu_share(ray.cluster_resources().get("GPU", 0.0), found)
        self._actors = [self._make(place) for place in range(found)]

    def _make(self, place: int) -> Any:
        return ray.remote(num_cpus=self._cpus, num_gpus=self._gpus, max_restarts=0)(Worker).remote(place, self._name)

    def _relay(self, places: set[int]) -> None:
        """Tell who listens here what the workers at these places are doing."""
        if self._board is None:
            self._board = ray.remote(num_cpus=0)(Board).options(name=self._name).remote()
        with contextlib.suppress(RayError):
            for place, said in sorted(ray.get(self._board.read.remote(), timeout=_READING).items()):
                if place in places:
                    progress.relay(said)

    def _ready(self) -> list[Any]:
        """The actors that have started; waits for the first."""
        answers = {actor.ready.remote(): actor for actor in self._actors}
        ray.wait(list(answers), num_returns=1)
        started, _ = ray.wait(list(answers), num_returns=len(answers), timeout=_PATIENCE)
        for reference in started:
            _started(reference)
        return [answers[reference] for reference in answers if reference in set(started)]

    def _replace_dead(self) -> None:
        answers = {actor.ready.remote(): place for place, actor in enumerate(self._actors)}
        known, _ = ray.wait(list(answers), num_returns=len(answers), timeout=_PATIENCE)
        for answer_ in known:
            try:
                ray.get(answer_)
            except RayActorError:
                self._actors[answers[answer_]] = self._make(answers[answer_])


@dataclass(frozen=True, kw_only=True)
class _Work:
    """An item on its way."""

    index: int
    item: Any
    attempt: int


def _started(reference: Any) -> None:
    """Raise if a worker did not come up."""
    try:
        ray.get(reference)
    except RayActorError as error:
        raise UserError(
            "a worker could not start. Is assay installed on the cluster? If not, submit with "
            f"jobs.submit --ship-assay. Ray says: {error}"
        ) from None


def gpu_share(gpus: float, workers: int) -> float:
    """GPUs a worker: one each while they last, else a fraction such that every worker fits on one device."""
    return 0.0 if gpus < 1 else 1.0 / math.ceil(workers / gpus)


class RayHost:
    """Clients dealt out over actors; each stays where it was made."""

    def __init__(self, actors: list[Any], clients: Mapping[int, Callable[[], Client]]) -> None:
        self._actors = actors
        self._home = {number: actors[place % len(actors)] for place, number in enumerate(sorted(clients))}
        by_actor: dict[Any, dict[int, Callable[[], Client]]] = {}
        for number, actor in self._home.items():
            by_actor.setdefault(actor, {})[number] = clients[number]
        ray.get([actor.host.remote(own) for actor, own in by_actor.items()], timeout=_PLACING)

    def call(self, requests: Mapping[int, Any], timeout: float) -> dict[int, Any]:
        sent = {number: self._home[number].call.remote(number, request) for number, request in requests.items()}
        ready, _ = ray.wait(list(sent.values()), num_returns=len(sent), timeout=timeout)
        arrived = set(ready)
        return {
            number: _received(reference) if reference in arrived else GetTimeoutError(f"no reply within {timeout:g} s")
            for number, reference in sent.items()
        }

    def close(self) -> None:
        for actor in self._actors:
            with contextlib.suppress(RayError):
                actor.host.remote({})


def _received(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayError as error:
        return error
