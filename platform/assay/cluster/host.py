"""One service on each of some actors of a pool, such as that of a federated training."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from assay.cluster.pool import Pool, Slot
from assay.executors import Service

_PATIENCE = 30.0
"""Seconds that a federated training waits for workers beyond the first."""
_PLACING = 300.0
"""Seconds in which every worker must have created its service."""
_LOOK = 1.0
"""Seconds between two looks while no worker has started."""


class RayHost:
    """One service on each of some actors of a pool.

    Args:
        pool: starts another actor where one is restarted.
        slots: of the actors, which have started.
        make: creates a service.
    """

    def __init__(self, pool: Pool, slots: Sequence[Slot], make: Callable[[], Service]) -> None:
        self._pool = pool
        self._at = [slot.place for slot in slots]
        self._actors = [slot.actor for slot in slots]
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
        self._actors[place] = self._pool.replace(self._at[place]).actor
        ray.get(self._actors[place].host.remote(self._make), timeout=_PLACING)

    def close(self) -> None:
        """Ends the services; the actors stay."""
        for actor in self._actors:
            with contextlib.suppress(RayError):
                actor.host.remote(None)


def ready_slots(pool: Pool) -> list[Slot]:
    """Replaces the workers of a pool that have died, and waits for the others.

    Args:
        pool: of the workers that run any item.

    Returns:
        Those that have started, by their number; at least one.

    Raises:
        UserError: none starts until the deadline of the pool.
    """
    asked: dict[Any, Slot] = {}
    ready: list[Slot] = []
    began: float | None = None
    while began is None or time.monotonic() - began < _PATIENCE:
        known = {*asked.values(), *ready}
        asked |= {slot.actor.ready.remote(): slot for slot in _main(pool) if slot not in known}
        if not asked:
            break
        for reference in ray.wait(list(asked), num_returns=len(asked), timeout=_LOOK)[0]:
            slot = asked.pop(reference)
            try:
                pool.started(slot, ray.get(reference))
            except RayError as error:
                pool.lost(slot, error)
                pool.refill()
            else:
                ready.append(slot)
                began = time.monotonic() if began is None else began
        if not ready:
            pool.wait()
    return sorted(ready, key=lambda slot: slot.place)


def _main(pool: Pool) -> list[Slot]:
    return [slot for slot in pool.slots.values() if slot.reservation == pool.main]


def _received(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayError as error:
        return error
