"""The local executor keeps the contract of every executor."""

import time
from typing import Any

import pytest

from assay.executors import LocalExecutor, Outcome, Watched, answer


class Counter:
    """Counts its requests; raises at a negative one."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, request: Any) -> Any:
        if request < 0:
            raise KeyError("negative")
        self.count += request
        return self.count


def test_map_gives_every_item_and_what_is_shared() -> None:
    outcomes = LocalExecutor().map(lambda item, shared: item * shared, [1, 2, 3], 10)
    assert list(outcomes) == [Outcome(index=index, value=value) for index, value in enumerate([10, 20, 30])]


def test_map_raises_what_the_function_raises() -> None:
    with pytest.raises(ZeroDivisionError):
        list(LocalExecutor().map(lambda item, shared: item / shared, [1], 0))


def test_map_works_one_item_at_a_time() -> None:
    begun: list[int] = []
    outcomes = LocalExecutor().map(lambda item, shared: begun.append(item), [1, 2], None)
    next(outcomes)
    assert begun == [1]


def test_a_client_keeps_its_state_between_calls() -> None:
    host = LocalExecutor().host({1: Counter, 2: Counter})
    assert host.call({1: 5, 2: 7}, timeout=1.0) == {1: 5, 2: 7}
    assert host.call({2: 1}, timeout=1.0) == {2: 8}
    host.close()


def test_one_clients_failure_does_not_hide_anothers_reply() -> None:
    replies = LocalExecutor().host({1: Counter, 2: Counter}).call({1: -1, 2: 3}, timeout=1.0)
    assert isinstance(replies[1], KeyError)
    assert replies[2] == 3


def test_a_client_that_is_too_late_has_an_exception_instead() -> None:
    def slow(_: Any) -> str:
        time.sleep(0.05)
        return "late"

    replies = LocalExecutor().host({1: lambda: slow}).call({1: None}, timeout=0.01)
    assert isinstance(replies[1], Exception)


def test_a_closed_host_keeps_no_client() -> None:
    host = LocalExecutor().host({1: Counter})
    host.close()
    with pytest.raises(KeyError):
        host.call({1: 1}, timeout=1.0)


def test_an_answer_is_the_reply_or_the_exception() -> None:
    assert answer(lambda request: request + 1, 1) == 2
    assert isinstance(answer(lambda request: 1 / request, 0), ZeroDivisionError)


def test_the_keyboard_still_interrupts() -> None:
    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answer(interrupt, 0)


def test_a_watched_executor_tells_how_far_it_has_come() -> None:
    told: list[tuple[int, int]] = []
    watched = Watched(LocalExecutor(), lambda done, total: told.append((done, total)))
    assert [outcome.value for outcome in watched.map(lambda item, shared: item + shared, iter([1, 2, 3]), 1)] == [
        2,
        3,
        4,
    ]
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert watched.workers == 1
