"""One map over a pool of actors. The work for each finished item does not grow with the number of workers.

Waiting for all running calls with ``ray.wait`` costs time for each of them at every completion. Here each call tells a
queue when it has ended, and the driver takes the ends from this queue.
"""

import queue
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import (
    GetTimeoutError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    WorkerCrashedError,
)

from assay import progress
from assay.cluster.board import Reports
from assay.cluster.pool import LOOK, Pool, Slot
from assay.cluster.waiting import tell
from assay.executors import LATER, ByDevice, Outcome

TRIES = 2
"""Attempts per item if workers die alone; afterwards the item fails."""
LOSSES = 20
"""Attempts per item if nodes are lost; afterwards the item fails. It is not to blame, but the map must end."""
_FETCH = 600.0
"""Seconds in which the result of a finished item must arrive; otherwise it counts as lost."""
_WAITING = 1.0
"""Seconds between two looks while no worker has started."""
_DEATHS = (RayActorError, OutOfMemoryError, WorkerCrashedError)


@dataclass(frozen=True, kw_only=True)
class Work:
    """An item that is waiting or running."""

    index: int
    item: Any
    gpu: bool
    """Whether it needs a worker with a GPU, where there are any."""
    deaths: int = 0
    """Workers that died alone while they ran it."""
    losses: int = 0
    """Workers that were lost with their node while they ran it."""


class Source:
    """Items of a map, taken one by one; those that are to run again come first.

    A stream that has no item now (``LATER``) is asked again at the next call.

    Args:
        items: of the map.
    """

    def __init__(self, items: ByDevice) -> None:
        self._fresh: dict[bool, Iterator[Any]] = {True: iter(items.gpu), False: iter(items.cpu)}
        self._again: dict[bool, deque[Work]] = {True: deque(), False: deque()}
        self._taken = 0

    def peek(self, *, gpu: bool) -> bool:
        """Returns whether there is an item; it takes one, and keeps it for ``take``.

        Args:
            gpu: whether to look at the items that need a GPU, or at the others.

        Returns:
            False if there is none now.
        """
        if not self._again[gpu]:
            work = self._next(gpu)
            if work is None:
                return False
            self._again[gpu].append(work)
        return True

    def may_have(self, *, gpu: bool) -> bool:
        """Returns whether an item waits or may come; it takes none.

        Args:
            gpu: whether to look at the items that need a GPU, or at the others.

        Returns:
            False if none waits, and the last try to take one found the end.
        """
        return bool(self._again[gpu]) or gpu in self._fresh

    def take(self, *, gpu: bool) -> Work | None:
        """Returns the next item for a worker.

        Args:
            gpu: whether the worker may run items that need a GPU; it then runs these first.

        Returns:
            The item; None if there is none for this worker now.
        """
        for kind in (True, False) if gpu else (False,):
            if self._again[kind]:
                return self._again[kind].popleft()
            if (work := self._next(kind)) is not None:
                return work
        return None

    def put_back(self, work: Work) -> None:
        """Puts an item back, to be run again.

        Args:
            work: the item.
        """
        self._again[work.gpu].append(work)

    def exhausted(self) -> bool:
        """Returns whether nothing is left, while no item runs; it may take an item to know, and keeps it for ``take``.

        Returns:
            True if no item waits and none can be taken.
        """
        if self.peek(gpu=True) or self.peek(gpu=False):
            return False
        assert not self._fresh, "an item waits for the outcome of another one, and none runs"
        return True

    def _next(self, kind: bool) -> Work | None:
        if kind not in self._fresh:
            return None
        try:
            item = next(self._fresh[kind])
        except StopIteration:
            del self._fresh[kind]
            return None
        if item is LATER:
            return None
        self._taken += 1
        return Work(index=self._taken - 1, item=item, gpu=kind)


@dataclass(frozen=True)
class _End:
    """End of a call of an actor."""

    slot: Slot
    call: "_Call | None"
    """None for the call by which a worker shows that it has started."""
    value: Any
    error: BaseException | None


@dataclass(frozen=True)
class _Call:
    """A call that runs an item."""

    work: Work
    result: Any
    """Reference to the result."""


class Mapping:
    """One map over the actors of a pool.

    Args:
        pool: of the actors.
        reports: progress of the actors.
        fn: called with each item and ``shared``.
        source: of the items.
        shared: reference to the second argument.
    """

    def __init__(self, pool: Pool, reports: Reports, fn: Callable[..., Any], source: Source, shared: Any) -> None:
        self._pool, self._reports, self._fn, self._source, self._shared = pool, reports, fn, source, shared
        self._ends: queue.SimpleQueue[_End] = queue.SimpleQueue()
        self._idle: dict[bool, list[Slot]] = {True: [], False: []}
        """Workers without an item, by whether they may run items that need a GPU."""
        self._running: dict[Slot, _Call] = {}
        self._reported = time.monotonic()

    def outcomes(self) -> Iterator[Outcome]:
        """Runs all items.

        Returns:
            Iterator over outcomes in order of completion.
        """
        for gpu in (True, False):
            self._source.peek(gpu=gpu)
        self._tell_kinds()
        self._pool.refill()
        for slot in list(self._pool.slots.values()):
            self._expect(slot)
        while True:
            self._hand_out()
            if not self._running and self._source.exhausted():
                return
            end = self._next_end()
            if end is not None and self._pool.slots.get(end.slot.place) is end.slot:
                yield from self._handled(end)

    def _hand_out(self) -> None:
        """Gives items to idle workers; an item is taken from the source only for a worker that runs it at once."""
        self._pool.drop_surplus(self._idle[False])
        for may_use_gpu, idle in self._idle.items():
            while idle and (work := self._source.take(gpu=may_use_gpu)) is not None:
                slot = idle.pop()
                if self._pool.slots.get(slot.place) is not slot:
                    self._source.put_back(work)
                    continue
                ended, result = slot.actor.run.remote(self._fn, work.item, self._shared)
                self._running[slot] = call = _Call(work, result)
                self._notify(ended, slot, call)

    def _next_end(self) -> _End | None:
        """Returns the next end of a call; None after some seconds without one. Adapts the pool meanwhile."""
        waiting = not self._running
        try:
            end = self._ends.get(timeout=_WAITING if waiting else min(LOOK, progress.EVERY / 2))
        except queue.Empty:
            end = None
        if end is None and waiting and not self._pool.has_started:
            self._pool.wait()
        self._tell_kinds()
        for slot in self._pool.look():
            self._expect(slot)
        self._report()
        return end

    def _tell_kinds(self) -> None:
        """Tells the pool which kinds of items are left: a pool asks for no GPU that nothing needs."""
        running = {call.work.gpu for call in self._running.values()}
        self._pool.with_gpu_items = True in running or self._source.may_have(gpu=True)
        self._pool.with_cpu_items = False in running or self._source.may_have(gpu=False)

    def _report(self) -> None:
        if progress.wanted() and time.monotonic() - self._reported >= progress.EVERY / 2:
            self._reported = time.monotonic()
            self._reports.relay({slot.place for slot in self._running})

    def _handled(self, end: _End) -> Iterator[Outcome]:
        """Handles the end of a call; returns an outcome if it is the end of an item."""
        if isinstance(end.error, _DEATHS):
            yield from self._died(end.slot, end.call, end.error)
        elif end.error is not None:
            raise end.error
        elif end.call is None:
            self._pool.started(end.slot, end.value)
            self._idle[self._may_use_gpu(end.slot)].append(end.slot)
        else:
            del self._running[end.slot]
            self._idle[self._may_use_gpu(end.slot)].append(end.slot)
            try:
                value = ray.get(end.call.result, timeout=_FETCH)
            except (ObjectLostError, GetTimeoutError, *_DEATHS) as error:
                # The node was lost after the item had ended, and its result with it.
                yield from self._again(end.call.work, error, node_lost=True)
                return
            yield Outcome(index=end.call.work.index, value=value)

    def _died(self, slot: Slot, call: _Call | None, error: RayError) -> Iterator[Outcome]:
        """Replaces a worker, and puts its item back unless it has ended too many workers."""
        self._running.pop(slot, None)
        node_lost = self._pool.lost(slot, error)
        for added in self._pool.refill():
            self._expect(added)
        if call is not None:
            yield from self._again(call.work, error, node_lost=node_lost)

    def _again(self, work: Work, error: RayError, *, node_lost: bool) -> Iterator[Outcome]:
        """Puts an item back; returns a failed outcome if it has been tried too often."""
        work = replace(work, losses=work.losses + node_lost, deaths=work.deaths + (not node_lost))
        if work.deaths >= TRIES:
            yield Outcome(index=work.index, error=f"its worker died {work.deaths} times: {error}")
        elif work.losses >= LOSSES:
            yield Outcome(index=work.index, error=f"the machine of its worker was lost {work.losses} times: {error}")
        else:
            if node_lost:
                tell(f"a machine was lost; what ran there runs again (loss {work.losses} of at most {LOSSES})")
            self._source.put_back(work)

    def _may_use_gpu(self, slot: Slot) -> bool:
        return slot.reservation == self._pool.main

    def _expect(self, slot: Slot) -> None:
        """Asks a worker to tell when it has started, or ended its earlier work."""
        self._notify(slot.actor.ready.remote(), slot, None)

    def _notify(self, reference: Any, slot: Slot, call: _Call | None) -> None:
        """Puts the end of a call into the queue. Ray calls back from a thread of its own."""

        def ended(future: Any) -> None:
            error = future.exception()
            self._ends.put(_End(slot, call, None if error else future.result(), error))

        reference.future().add_done_callback(ended)
