"""What a finished item costs the driver: with 10 to 4,000 items in flight, and at 10 to 10,000 items.

A single machine cannot hold 1,000 workers. So an asynchronous actor stands for all of them: each of its calls is one
item in flight, which ends after a while; whatever their number, 400 end in a second. The driver's part is the real
one: it takes an item, sends it, is told of its end, and fetches the result. The peer is the same loop around
``ray.wait`` over all calls in flight, as pools of actors wait (``ray.util.ActorPool``). Time is the processor time of
the driver, all of its threads, an item. Then Assay's executor runs no-op items on two real workers.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from assay.cluster.board import Reports
from assay.cluster.executor import RayExecutor
from assay.cluster.mapping import Mapping, Source
from assay.cluster.pool import Slot
from assay.cluster.resources import Reservation
from assay.cluster.session import ray_session
from assay.executors import ByDevice

IN_FLIGHT = (10, 100, 1_000, 4_000)
ITEMS = (10, 100, 1_000, 10_000)
ROUNDS = 3
_EACH = 1_500
"""Items of a round with simulated workers, beside those that fill them."""
_RATE = 400
"""Ends in a second."""


def measure() -> dict[str, Any]:
    """Driver seconds an item, and memory an item."""
    ours: dict[int, float] = {}
    peer: dict[int, float] = {}
    with ray_session(None, workers=2):
        many = ray.remote(num_cpus=0, max_concurrency=5_000)(_Many).remote()
        ray.get(many.ready.remote(), timeout=60)
        for workers in IN_FLIGHT:
            found: dict[str, list[float]] = {"ours": [], "peer": []}
            for _ in range(ROUNDS):
                found["ours"].append(_cpu_seconds(_ours, many, workers))
                found["peer"].append(_cpu_seconds(_peer, many, workers))
            medians = {name: statistics.median(times) / (_EACH + workers) for name, times in found.items()}
            ours[workers], peer[workers] = medians["ours"], medians["peer"]
        ray.kill(many)
        real = _real()
    return {
        "unit": "driver processor seconds an item, median of alternating rounds",
        "in_flight": {
            workers: {"ours": round(ours[workers], 6), "ray_wait": round(peer[workers], 6)} for workers in IN_FLIGHT
        },
        "two_workers": real,
        "ratio": {
            "flat_in_workers": round(ours[10] / ours[1_000], 2),
            "peer_at_1000": round(peer[1_000] / ours[1_000], 2),
            "peer_at_4000": round(peer[4_000] / ours[4_000], 2),
            "flat_in_items": round(real[1_000]["driver_seconds_an_item"] / real[10_000]["driver_seconds_an_item"], 2),
        },
        "bar": {"flat_in_workers": 0.7, "peer_at_1000": 0.8, "peer_at_4000": 1.1, "flat_in_items": 0.8},
    }


class _Many:
    """Runs as many calls at a time as it is sent; each takes between half and one and a half times ``shared``."""

    async def ready(self) -> str:
        return "here"

    @ray.method(num_returns=2)
    async def run(self, fn: Any, item: Any, shared: Any) -> tuple[None, Any]:
        await asyncio.sleep((0.5 + item * 0.618 % 1) * shared)
        return None, item


class _Pool:
    """As many slots as there are simulated workers, all of one actor."""

    def __init__(self, actor: Any, workers: int) -> None:
        self.main = Reservation(cpus=1)
        self.slots = {place: Slot(place=place, actor=actor, reservation=self.main) for place in range(workers)}

    has_started = True

    def started(self, slot: Slot, node: str) -> None:
        slot.node = node

    def refill(self) -> list[Slot]:
        return []

    look = refill

    def drop_surplus(self, idle: list[Slot]) -> None:
        pass


def _ours(actor: Any, workers: int) -> None:
    pool: Any = _Pool(actor, workers)
    source = Source(ByDevice(gpu=range(_EACH + workers)))
    outcomes = Mapping(pool, Reports(), _nothing, source, ray.put(workers / _RATE)).outcomes()
    assert sum(1 for _ in outcomes) == _EACH + workers


def _peer(actor: Any, workers: int) -> None:
    items = iter(range(_EACH + workers))
    shared = ray.put(workers / _RATE)
    running = {}
    for _ in range(workers):
        ended, result = actor.run.remote(_nothing, next(items), shared)
        running[ended] = result
    done = 0
    while running:
        (ended,), _ = ray.wait(list(running), num_returns=1)
        ray.get(running.pop(ended))
        done += 1
        if (item := next(items, None)) is not None:
            ended, result = actor.run.remote(_nothing, item, shared)
            running[ended] = result
    assert done == _EACH + workers


def _real() -> dict[int, dict[str, float]]:
    """Time of the driver, wall time, and memory of no-op items on two workers."""
    found = {}
    with RayExecutor(workers=2) as pool:
        list(pool.map(_nothing, range(200), None))
        for items in ITEMS:
            memory, driver, began = _memory(), time.process_time(), time.perf_counter()
            assert sum(1 for _ in pool.map(_nothing, range(items), None)) == items
            found[items] = {
                "driver_seconds_an_item": round((time.process_time() - driver) / items, 6),
                "wall_seconds_an_item": round((time.perf_counter() - began) / items, 6),
                "kilobytes_kept_an_item": round((_memory() - memory) / items / 1000, 2),
            }
    return found


def _memory() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _nothing(item: Any, shared: Any) -> Any:
    return item


def _cpu_seconds(run: Callable[[Any, int], None], actor: Any, workers: int) -> float:
    before = time.process_time()
    run(actor, workers)
    return time.process_time() - before
