"""Ray on this machine: a start that takes too long is tried again, and does not end in Ray's traceback."""

from typing import Any

import pytest

from assay.cluster import session
from assay.errors import UserError


class Starts:
    """Stands for ``ray.init`` and ``ray.shutdown``: the first starts fail."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.calls: list[str] = []

    def init(self, **_: Any) -> None:
        self.calls.append("init")
        if self.errors:
            raise self.errors.pop(0)

    def shutdown(self) -> None:
        self.calls.append("shutdown")


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> Starts:
    made = Starts()
    monkeypatch.setattr("ray.init", made.init)
    monkeypatch.setattr("ray.shutdown", made.shutdown)
    return made


def late() -> Exception:
    return Exception("The current node timed out during startup. This could happen because some of the raylet failed")


def test_a_start_that_takes_too_long_is_tried_again_from_nothing(starts: Starts) -> None:
    starts.errors = [late()]
    session.start_ray_here(num_cpus=1)
    assert starts.calls == ["init", "shutdown", "init"]


def test_starts_that_all_take_too_long_are_an_error_for_the_user(starts: Starts) -> None:
    starts.errors = [late() for _ in range(9)]
    with pytest.raises(UserError):
        session.start_ray_here(num_cpus=1)
    assert starts.calls == ["init", "shutdown"] * 3


def test_another_error_of_the_start_is_raised_at_once(starts: Starts) -> None:
    starts.errors = [ValueError("num_cpus")]
    with pytest.raises(ValueError, match="num_cpus"):
        session.start_ray_here(num_cpus=1)
    assert starts.calls == ["init"]
