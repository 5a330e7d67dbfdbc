"""Both executors keep one contract; Ray's also survives its workers."""

import os
import platform
import resource
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from assay import progress
from assay.cluster.executor import RayExecutor
from assay.executors import LATER, Executor, LocalExecutor


class Counter:
    """A service that remembers what it was told."""

    def __init__(self, factor: int = 1) -> None:
        self.factor, self.total, self.process = factor, 0, os.getpid()

    def __call__(self, request: int, shared: int) -> tuple[int, int]:
        if request < 0:
            raise ValueError(f"the service refuses {request}")
        if request == 666:
            os._exit(1)
        if request > 100:
            time.sleep(request)
        self.total += self.factor * request + shared
        return self.total, self.process


def scaled(item: int, shared: int) -> int:
    return item * shared


def fatal(item: int, shared: str) -> int:
    """Ends its process at item 1, once or always."""
    if item == 1 and (shared == "always" or not Path(shared).exists()):
        if shared != "always":
            Path(shared).touch()
        os._exit(1)
    return item


def refaults(item: int, shared: int) -> int:
    """Pages that the system must bring while the same memory is asked for and left, over and over."""

    def fill() -> None:
        batch = [np.full(shared, 1, np.uint8) for _ in range(8)]
        del batch

    for _ in range(5):
        fill()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        fill()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.fixture(params=["local", "ray"])
def executor(request: pytest.FixtureRequest) -> Executor:
    return LocalExecutor() if request.param == "local" else request.getfixturevalue("pool")


def test_every_item_has_one_outcome(executor: Executor) -> None:
    asked: list[int] = []
    running = executor.map(scaled, (asked.append(n) or n for n in range(7)), 3)  # type: ignore[func-returns-value]
    first = next(running)
    assert len(asked) <= 1 + executor.workers, "an item is asked for when a worker takes it"
    outcomes = [first, *running]
    assert sorted((o.index, o.value) for o in outcomes) == [(i, 3 * i) for i in range(7)]


def test_items_may_depend_on_outcomes_within_one_map_and_what_is_shared_is_sent_once(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[int] = []
    put: list[Any] = []
    monkeypatch.setattr("ray.put", lambda value, send=ray.put: put.append(value) or send(value))  # type: ignore[func-returns-value]

    def items() -> Iterator[Any]:
        """Each but the first three needs the outcome of the third one before it."""
        for item in range(9):
            while item >= 3 and 3 * (item - 3) not in known:
                yield LATER
            yield item

    for outcome in executor.map(scaled, items(), 3):
        known.append(outcome.value)
    assert sorted(known) == [3 * item for item in range(9)]
    assert put == ([] if isinstance(executor, LocalExecutor) else [3])


def test_services_keep_their_state_between_calls(executor: Executor) -> None:
    host = executor.host(partial(Counter, 2))
    everywhere = dict.fromkeys(range(host.places), 10)
    first, second = host.call(everywhere, 1, timeout=60), host.call({0: 1}, 0, timeout=60)
    host.close()
    assert [total for total, _ in first.values()] == [21] * host.places
    assert second == {0: (23, first[0][1])}


def test_a_failing_service_hides_no_other_reply(pool: RayExecutor) -> None:
    host = pool.host(Counter)
    replies = host.call({0: -1, 1: 5}, 0, timeout=60)
    host.close()
    assert isinstance(replies[0], ValueError)
    assert replies[1][0] == 5


def test_every_worker_has_a_service_of_its_own(pool: RayExecutor) -> None:
    host = pool.host(Counter)
    replies = host.call({0: 1, 1: 1}, 0, timeout=60)
    host.close()
    assert host.places == len({process for _, process in replies.values()}) == 2


def test_a_late_service_is_an_exception_not_a_wait_and_can_be_replaced(pool: RayExecutor) -> None:
    host = pool.host(Counter)
    began = time.monotonic()
    replies = host.call({0: 1, 1: 101}, 0, timeout=2)
    assert time.monotonic() - began < 20
    assert replies[0][0] == 1
    assert isinstance(replies[1], TimeoutError)
    host.restart(1)
    assert {place: total for place, (total, _) in host.call({0: 1, 1: 1}, 0, timeout=60).items()} == {0: 2, 1: 1}
    host.close()


def test_a_service_whose_process_died_is_an_exception_and_can_be_replaced(pool: RayExecutor) -> None:
    host = pool.host(Counter)
    replies = host.call({0: 3, 1: 666}, 0, timeout=60)
    assert replies[0][0] == 3
    assert isinstance(replies[1], Exception)
    host.restart(1)
    assert host.call({1: 7}, 0, timeout=60)[1][0] == 7
    host.close()


def test_work_of_a_dead_worker_is_done_by_another(pool: RayExecutor, tmp_path: Path) -> None:
    outcomes = list(pool.map(fatal, range(4), str(tmp_path / "once")))
    assert sorted((o.index, o.value) for o in outcomes) == [(i, i) for i in range(4)]
    hopeless = {o.index: o for o in pool.map(fatal, range(4), "always")}
    assert "died 2 times" in hopeless[1].error
    assert [hopeless[i].value for i in (0, 2, 3)] == [0, 2, 3]
    assert len(list(pool.map(scaled, range(4), 1))) == 4, "the pool is whole again"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left alone")
def test_a_worker_uses_again_what_a_batch_has_left(pool: RayExecutor) -> None:
    pages = 8 * 16 * 2**20 / resource.getpagesize()
    (found,) = pool.map(refaults, [0], 16 * 2**20)
    assert found.value < pages / 10


def test_no_work_starts_no_ray() -> None:
    executor = RayExecutor(workers=2)
    assert list(executor.map(scaled, [], 1)) == []
    assert executor._pool is None


@pytest.mark.slow
def test_what_a_worker_does_is_told_here_while_it_does_it() -> None:
    said: list[str] = []
    with RayExecutor(workers=1) as executor, progress.listening(said.append):
        (outcome,) = executor.map(_long, ["long"], None)
    assert outcome.value == "long"
    assert any(line.startswith("trial: long, ") for line in said)


def _long(item: str, _: None) -> str:
    with progress.step("trial"), progress.step(item):
        time.sleep(1.8 * progress.EVERY)
    return item
