"""Calls of several clients share a batch, and none of them is answered with the records of another."""

import asyncio
import threading
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from serve.batching import Batcher, FullError


class Model:
    """Doubles its records, and remembers its batches."""

    def __init__(self, held: threading.Event | None = None) -> None:
        self.batches: list[tuple[int, Hashable]] = []
        self._held = held

    def __call__(self, x: Tensor, key: Hashable) -> tuple[Any, ...]:
        if self._held is not None:
            self._held.wait(10)
        self.batches.append((len(x), key))
        if (x < 0).any():
            raise ValueError("negative")
        return (x * 2).tolist(), [key] * len(x)


def batcher(model: Model, *, most: int = 8, waiting: int = 100, thread: bool = False) -> Batcher:
    return Batcher(model, executor=ThreadPoolExecutor(1) if thread else None, most=most, waiting=waiting)


def test_calls_that_wait_together_share_a_batch_and_each_has_its_own_answers() -> None:
    model = Model()

    async def ask() -> list[Any]:
        shared = batcher(model)
        return await asyncio.gather(*(shared(torch.full((n,), float(n))) for n in (1, 2, 3)))

    answers = asyncio.run(ask())
    assert [values for values, _ in answers] == [[2.0], [4.0] * 2, [6.0] * 3]
    assert model.batches == [(6, None)]


def test_a_batch_has_its_limit_and_a_longer_call_runs_alone() -> None:
    model = Model()

    async def ask() -> list[Any]:
        shared = batcher(model, most=4)
        return await asyncio.gather(*(shared(torch.ones(n)) for n in (3, 3, 9, 1)))

    assert [len(values) for values, _ in asyncio.run(ask())] == [3, 3, 9, 1]
    assert [size for size, _ in model.batches] == [3, 3, 9, 1]


def test_only_calls_with_the_same_key_share_a_batch() -> None:
    model = Model()

    async def ask() -> list[Any]:
        shared = batcher(model)
        return await asyncio.gather(*(shared(torch.ones(1), key) for key in ("a", "b", "a")))

    assert [keys for _, keys in asyncio.run(ask())] == [["a"], ["b"], ["a"]]
    assert sorted(model.batches) == [(1, "b"), (2, "a")]


def test_a_record_that_cannot_be_answered_fails_its_own_call_only() -> None:
    async def ask() -> list[Any]:
        shared = batcher(Model())
        calls = (shared(torch.tensor([value])) for value in (1.0, -1.0, 3.0))
        return await asyncio.gather(*calls, return_exceptions=True)

    first, second, third = asyncio.run(ask())
    assert (first[0], third[0]) == ([2.0], [6.0])
    assert isinstance(second, ValueError)


def test_calls_whose_client_has_gone_are_not_computed() -> None:
    held = threading.Event()
    model = Model(held)

    async def ask() -> None:
        shared = batcher(model, thread=True)
        first = asyncio.ensure_future(shared(torch.ones(1)))
        await asyncio.sleep(0.05)  # it runs, and is held
        gone = asyncio.ensure_future(shared(torch.ones(5)))
        stays = asyncio.ensure_future(shared(torch.ones(2)))
        await asyncio.sleep(0)
        assert shared.waiting == 7
        gone.cancel()
        held.set()
        await asyncio.gather(first, stays)
        assert shared.waiting == 0

    asyncio.run(ask())
    assert [size for size, _ in model.batches] == [1, 2]


def test_too_many_waiting_records_are_refused_at_once_and_nothing_is_lost() -> None:
    held = threading.Event()
    model = Model(held)

    async def ask() -> None:
        shared = batcher(model, waiting=3, thread=True)
        running = asyncio.ensure_future(shared(torch.ones(1)))
        await asyncio.sleep(0.05)
        waits = [asyncio.ensure_future(shared(torch.ones(1))) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(FullError, match="3 records wait"):
            await shared(torch.ones(1))
        held.set()
        assert len(await asyncio.gather(running, *waits)) == 4
        assert await shared(torch.ones(1))

    asyncio.run(ask())
