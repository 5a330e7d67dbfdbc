"""One pool of warm Ray actors a study: it runs trials and hosts federated clients, and nobody else imports torch."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from assay.cluster.session import ray_session
from assay.executors import Client, Outcome, answer

_TRIES = 2
"""How often an item is given to a worker before its death is blamed on the item."""


class Worker:
    """A warm process. Runs functions, and keeps clients alive between requests."""

    def __init__(self) -> None:
        self._clients: dict[int, Client] = {}

    def run(self, fn: Callable[..., Any], item: Any, shared: Any) -> Any:
        return fn(item, shared)

    def host(self, clients: dict[int, Callable[[], Client]]) -> None:
        self._clients = {number: make() for number, make in clients.items()}

    def call(self, number: int, request: Any) -> Any:
        return answer(self._clients[number], request)


class RayExecutor:
    """An ``Executor`` over actors that live until ``close``. Ray starts with the first work: none, no Ray.

    Args:
        address: cluster to join; see ``session.ray_session``.
        workers: number of actors; one per CPU of the cluster by default.
        cpus: CPUs that each reserves; match the threads of a trial.
        gpus: GPUs that each reserves.
    """

    def __init__(
        self, *, address: str | None = None, workers: int | None = None, cpus: int = 1, gpus: float = 0.0
    ) -> None:
        self._address, self._wanted = address, workers
        self._cpus, self._gpus = cpus, gpus
        self._session = contextlib.ExitStack()
        self._actors: list[Any] = []

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
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []
        self._session.close()

    def _start(self) -> None:
        if not self._actors:
            found = self._session.enter_context(ray_session(self._address, workers=self._wanted))
            self._actors = [self._make() for _ in range(found)]

    def _make(self) -> Any:
        return ray.remote(num_cpus=self._cpus, num_gpus=self._gpus, max_restarts=0)(Worker).remote()

    def map(self, fn: Callable[..., Any], items: Iterable[Any], shared: Any) -> Iterator[Outcome]:
        waiting: list[tuple[int, Any, int]] = [(index, item, 1) for index, item in enumerate(items)]
        if not waiting:
            return
        self._start()
        kept = ray.put(shared)
        waiting.reverse()
        idle = list(range(len(self._actors)))
        running: dict[ray.ObjectRef, tuple[int, tuple[int, Any, int]]] = {}
        while waiting or running:
            while waiting and idle:
                place, work = idle.pop(), waiting.pop()
                running[self._actors[place].run.remote(fn, work[1], kept)] = (place, work)
            (ready,), _ = ray.wait(list(running), num_returns=1)
            place, (index, item, attempt) = running.pop(ready)
            try:
                yield Outcome(index=index, value=ray.get(ready))
            except RayActorError as error:
                self._actors[place] = self._make()
                if attempt < _TRIES:
                    waiting.append((index, item, attempt + 1))
                else:
                    yield Outcome(index=index, error=f"its worker died {attempt} times: {error}")
            idle.append(place)

    def host(self, clients: Mapping[int, Callable[[], Client]]) -> "RayHost":
        self._start()
        self._replace_dead()
        return RayHost(self._actors, clients)

    def _replace_dead(self) -> None:
        for place, actor in enumerate(self._actors):
            try:
                ray.get(actor.host.remote({}))
            except RayActorError:
                self._actors[place] = self._make()


class RayHost:
    """Clients dealt out over actors; each stays where it was made."""

    def __init__(self, actors: list[Any], clients: Mapping[int, Callable[[], Client]]) -> None:
        self._actors = actors
        self._home = {number: actors[place % len(actors)] for place, number in enumerate(sorted(clients))}
        by_actor: dict[Any, dict[int, Callable[[], Client]]] = {}
        for number, actor in self._home.items():
            by_actor.setdefault(actor, {})[number] = clients[number]
        ray.get([actor.host.remote(own) for actor, own in by_actor.items()])

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
