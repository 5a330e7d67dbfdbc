"""Ray on this machine: a start that takes too long is tried again, and does not end in Ray's traceback."""

import os
from typing import Any

import pytest
import ray
from ray._private import ray_constants

from assay.cluster import session
from assay.errors import UserError
from tests.cluster.listening import addresses


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


@pytest.mark.usefixtures("shared_ray")
def test_a_ray_of_this_machine_listens_on_loopback_alone() -> None:
    """Its metrics and its store of tasks would answer the whole network, without a token."""
    ray.get(ray.remote(lambda: None).remote())  # a worker listens too
    found = addresses(os.getpid())
    assert len(found) >= 5
    assert set(found) == {"127.0.0.1"}


def test_clusters_may_be_joined_after_a_start_here(starts: Starts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", raising=False)
    session.start_ray_here(num_cpus=1)
    assert ray_constants.ENABLE_RAY_CLUSTER
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in os.environ
