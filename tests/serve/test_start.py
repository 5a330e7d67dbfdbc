"""The environment and the settings with which the service of a repository starts."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serve import local
from serve import start as starting
from serve.auth.settings import AuthSettings
from serve.limits.settings import Limits
from serve.local import QUICK
from serve.start import Service, start


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], dict[str, str]]:
    """Starts a service, all but for Ray, and returns its environment."""
    monkeypatch.setattr(os, "environ", {name: value for name, value in os.environ.items() if name not in QUICK})
    monkeypatch.setattr(local, "require_free", lambda port, **_: None)
    monkeypatch.setattr(local, "environment", lambda *_, **__: {})
    monkeypatch.setattr(local, "start_ray_here", lambda **_: None)
    monkeypatch.setattr(local.serve, "start", lambda **_: None)
    monkeypatch.setattr(starting.serve, "run_many", lambda _: None)

    def started() -> dict[str, Any]:
        start(Service(repository=str(tmp_path), tokens=str(tmp_path / "tokens.json")), Limits())
        return dict(os.environ)

    return started


def test_calls_run_in_one_event_loop_at_the_usual_priority(environment: Callable[[], dict[str, str]]) -> None:
    found = environment()
    assert found["RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD"] == found["RAY_worker_niceness"] == "0"
    assert 1 <= int(found["RAY_SERVE_HAPROXY_NBTHREAD"]) <= (os.cpu_count() or 1)


def test_what_the_user_has_set_stays(environment: Callable[[], dict[str, str]]) -> None:
    given = {"RAY_worker_niceness": "5", "RAY_SERVE_HAPROXY_NBTHREAD": "7"}
    os.environ |= given
    assert environment().items() >= given.items()


def test_a_burst_of_all_calls_that_a_replica_takes_is_not_refused_by_it() -> None:
    settings = Service(repository="/somewhere").settings()
    assert settings.queued >= settings.ongoing


def test_without_tokens_everyone_on_this_machine_may_call() -> None:
    assert Service(repository="/somewhere", tokens="none").auth == AuthSettings(anyone=True)
    assert not Service(repository="/somewhere", tokens="/t.json").auth.anyone


def test_one_application_alone_offers_grpc() -> None:
    service = Service(repository="/somewhere", grpc_port=8001)
    assert (service.settings().grpc_port, service.settings("triage").grpc_port) == (8001, 0)
