"""Rates of calls."""

from serve.auth.rates import MOST_CALLERS, Rates


def test_a_caller_may_make_a_burst_and_then_calls_at_the_rate() -> None:
    rates = Rates(2.0, 5)
    assert [rates.wait("a", now=0.0) for _ in range(5)] == [0.0] * 5
    assert rates.wait("a", now=0.0) == 0.5
    assert rates.wait("a", now=0.25) == 0.25
    assert rates.wait("a", now=0.5) == 0.0
    assert rates.wait("a", now=0.5) > 0
    assert sum(rates.wait("a", now=100 + 0.01 * at) == 0 for at in range(1000)) == 5 + 19


def test_callers_do_not_disturb_one_another() -> None:
    rates = Rates(1.0, 1)
    assert rates.wait("a", now=0.0) == 0 and rates.wait("a", now=0.0) > 0
    assert rates.wait("b", now=0.0) == 0


def test_the_memory_is_bounded() -> None:
    rates = Rates(1.0, 1)
    for number in range(3 * MOST_CALLERS):
        rates.wait(str(number), now=0.0)
    assert len(rates._left) == MOST_CALLERS
