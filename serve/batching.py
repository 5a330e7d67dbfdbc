"""Batches of calls from several clients: one call of the model instead of many."""

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


class FullError(Exception):
    """Too many records wait for the model; the call may be repeated later."""


@dataclass
class _Call:
    x: Tensor
    answer: asyncio.Future[tuple[Any, ...]]


class Batcher:
    """Runs one function for the records of all callers that wait at the same time.

    Nobody waits while the model is idle: the first call starts at once, and the calls that arrive while it runs form
    the next batch. Calls whose client has gone are dropped before their batch begins. If a batch fails, each of its
    calls runs alone, so that a record which cannot be answered fails its own call only.

    Args:
        run: ``run(x, key)`` returns arrays or lists whose first length is that of ``x``.
        executor: where ``run`` works; None runs it in the event loop, for models that answer faster than a thread
            can be reached.
        most: greatest number of records in a batch. A single call may have more, and then runs alone.
        waiting: greatest number of records that wait.
    """

    def __init__(
        self,
        run: Callable[[Tensor, Hashable], tuple[Any, ...]],
        *,
        executor: Executor | None,
        most: int,
        waiting: int,
    ) -> None:
        self._run, self._executor, self._most, self._limit = run, executor, most, waiting
        self._calls: dict[Hashable, list[_Call]] = {}
        self._waiting = 0
        self._running = False
        self.sizes: Counter[int] = Counter()
        """Batches that ran, by their number of records."""
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Number of records that wait."""
        return self._waiting

    async def __call__(self, x: Tensor, key: Hashable = None) -> tuple[Any, ...]:
        """Answers the records of one call.

        Args:
            x: (n, ...) records.
            key: only calls with the same key share a batch.

        Returns:
            What ``run`` returns for these records.

        Raises:
            FullError: too many records wait.
        """
        if self._waiting and self._waiting + len(x) > self._limit:
            raise FullError(f"{self._waiting} records wait; at most {self._limit} may")
        loop = asyncio.get_running_loop()
        call = _Call(x, loop.create_future())
        self._calls.setdefault(key, []).append(call)
        self._waiting += len(x)
        if not self._running:
            self._running = True
            # Not yet: calls that the event loop holds ready belong to the same batch.
            loop.call_soon(self._begin, loop)
        return await call.answer

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._executor is None:
            self._work_here()
        else:
            self._task = loop.create_task(self._work_in(self._executor, loop))

    def _work_here(self) -> None:
        try:
            while self._calls:
                key = next(iter(self._calls))
                batches = [self._next(key)]
                for calls in batches:
                    if waiting := _still_waiting(calls):
                        try:
                            columns = self._run(self._joined(waiting), key)
                        except Exception as error:
                            batches += _failed(waiting, error)
                        else:
                            _share(waiting, columns)
        finally:
            self._running = False

    async def _work_in(self, executor: Executor, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while self._calls:
                key = next(iter(self._calls))
                batches = [self._next(key)]
                for calls in batches:
                    if waiting := _still_waiting(calls):
                        try:
                            columns = await loop.run_in_executor(executor, self._run, self._joined(waiting), key)
                        except Exception as error:
                            batches += _failed(waiting, error)
                        else:
                            _share(waiting, columns)
        finally:
            self._running = False

    def _next(self, key: Hashable) -> list[_Call]:
        """Takes the next calls of a key, without those whose client has gone; other keys have their turn after it."""
        calls, records = self._calls.pop(key), 0
        taken: list[_Call] = []
        while calls and (not taken or records + len(calls[0].x) <= self._most):
            call = calls.pop(0)
            self._waiting -= len(call.x)
            if not call.answer.done():
                taken.append(call)
                records += len(call.x)
        if calls:
            self._calls[key] = calls
        return taken

    def _joined(self, calls: list[_Call]) -> Tensor:
        """Returns the records of a batch, and counts it."""
        x = calls[0].x if len(calls) == 1 else torch.cat([call.x for call in calls])
        self.sizes[len(x)] += 1
        return x


def _still_waiting(calls: list[_Call]) -> list[_Call]:
    return [call for call in calls if not call.answer.done()]


def _failed(calls: list[_Call], error: Exception) -> list[list[_Call]]:
    """Fails a call that was alone; returns the calls of a larger batch, each of which is to run alone."""
    if len(calls) > 1:
        return [[call] for call in calls]
    if not calls[0].answer.done():
        calls[0].answer.set_exception(error)
    return []


def _share(calls: list[_Call], columns: tuple[Any, ...]) -> None:
    place = 0
    for call in calls:
        end = place + len(call.x)
        if not call.answer.done():
            call.answer.set_result(tuple(column[place:end] for column in columns))
        place = end
