"""The local executor keeps the contract of every executor."""

import time
from typing import Any

import pytest

from assay.executors import LATER, ByDevice, LocalExecutor, Outcome, answer


class Counter:
    """Counts its requests; raises at a negative one."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, request: Any, shared: Any) -> Any:
        if request < 0:
            raise KeyError("negative")
        self.count += request
        return self.count


def test_map_gives_every_item_and_what_is_shared() -> None:
    outcomes = LocalExecutor().map(lambda item, shared: item * shared, [1, 2, 3], 10)
    assert list(outcomes) == [Outcome(index=index, value=value) for index, value in enumerate([10, 20, 30])]


def test_where_all_workers_are_alike_both_streams_are_run() -> None:
    outcomes = LocalExecutor().map(lambda item, shared: item, ByDevice(gpu=iter("ab"), cpu=iter("cd")), None)
    assert [(outcome.index, outcome.value) for outcome in outcomes] == list(enumerate("abcd"))


def test_map_raises_what_the_function_raises() -> None:
    with pytest.raises(ZeroDivisionError):
        list(LocalExecutor().map(lambda item, shared: item / shared, [1], 0))


def test_an_item_that_waits_for_nothing_is_an_error() -> None:
    with pytest.raises(AssertionError, match="none runs"):
        list(LocalExecutor().map(lambda item, shared: item, [1, LATER, 2], None))


def test_map_works_one_item_at_a_time() -> None:
    begun: list[int] = []
    outcomes = LocalExecutor().map(lambda item, shared: begun.append(item), [1, 2], None)
    next(outcomes)
    assert begun == [1]


def test_a_service_keeps_its_state_between_calls() -> None:
    host = LocalExecutor().host(Counter)
    assert host.places == 1
    assert host.call({0: 5}, None, timeout=1.0) == {0: 5}
    assert host.call({0: 1}, None, timeout=1.0) == {0: 6}
    host.restart(0)
    assert host.call({0: 1}, None, timeout=1.0) == {0: 1}
    host.close()


def test_a_failure_is_returned() -> None:
    assert isinstance(LocalExecutor().host(Counter).call({0: -1}, None, timeout=1.0)[0], KeyError)


def test_a_service_that_is_too_late_has_an_exception_instead() -> None:
    def slow(_: Any, __: Any) -> str:
        time.sleep(0.05)
        return "late"

    replies = LocalExecutor().host(lambda: slow).call({0: None}, None, timeout=0.01)
    assert isinstance(replies[0], TimeoutError)


def test_a_closed_host_keeps_no_service() -> None:
    host = LocalExecutor().host(Counter)
    host.close()
    with pytest.raises(AssertionError):
        host.call({0: 1}, None, timeout=1.0)


def test_an_answer_is_the_reply_or_the_exception() -> None:
    assert answer(lambda request, shared: request + shared, 1, 1) == 2
    assert isinstance(answer(lambda request, shared: 1 / request, 0, None), ZeroDivisionError)


def test_the_keyboard_still_interrupts() -> None:
    def interrupt(_: Any, __: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answer(interrupt, 0, None)
