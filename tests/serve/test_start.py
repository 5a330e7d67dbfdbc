"""The environment and the settings with which the service of a repository starts, and starts again."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from assay.store.folder import Store
from assay.study.finished import open_finished
from serve import local
from serve import replica_port as ports
from serve import start as starting
from serve.api import create_api
from serve.app import Checked
from serve.limits.settings import Limits
from serve.local import QUICK, STEADY
from serve.model import NoFiniteAnswerError
from serve.repository.loaded import Loaded
from serve.repository.online import bring_online
from serve.start import Service, keep, start


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], dict[str, str]]:
    """Starts a service, all but for Ray, and returns its environment."""
    given = {name: value for name, value in os.environ.items() if name not in QUICK | STEADY}
    monkeypatch.setattr(os, "environ", given)
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


def test_a_proxy_that_died_is_found_within_seconds(environment: Callable[[], dict[str, str]]) -> None:
    assert float(environment()["RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S"]) * 3 <= 10


@pytest.mark.parametrize("lost", [["gcs_server"], ["raylet"]])
def test_a_service_whose_head_has_died_starts_again_with_the_same_tokens(
    environment: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lost: list[str]
) -> None:
    environment()
    before, said = (tmp_path / "tokens.json").read_bytes(), list[str]()
    started = list[Any]()
    answers = iter([[], lost, []])

    def lost_processes() -> list[str]:
        try:
            return next(answers)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(starting, "_EVERY", 0.0)
    monkeypatch.setattr(starting, "lost_processes", lost_processes)
    monkeypatch.setattr(local.ray, "shutdown", lambda: started.append("shutdown"))
    monkeypatch.setattr(starting.serve, "run_many", lambda targets: started.append("run"))
    with pytest.raises(KeyboardInterrupt):
        keep(Service(repository=str(tmp_path), tokens=str(tmp_path / "tokens.json")), Limits(), said.append)
    assert started == ["shutdown", "run"]
    assert said == [
        f"Ray's {lost[0]} has ended; everything starts again",
        "ready again, with the same address and tokens",
    ]
    assert (tmp_path / "tokens.json").read_bytes() == before


def test_a_replica_tests_all_versions_of_its_models_and_needs_none(store: Store) -> None:
    first, second = (
        bring_online(open_finished(store, recipe="standard"), name="standard", version=version) for version in "12"
    )
    loaded = Loaded([first, second])
    replica = Checked()
    replica.app = create_api(loaded, public=False)
    asyncio.run(replica.check_health())
    next(iter(second.model.finished.model.parameters())).data.mul_(-1)
    with pytest.raises(NoFiniteAnswerError, match="otherwise"):
        asyncio.run(replica.check_health())
    # Until HAProxy sends no more calls, none is answered here, and callers may try again.
    client = TestClient(replica.app, base_url="http://localhost:8000", client=("127.0.0.1", 5000))
    refused = client.get("/v2/models/standard/versions/1/ready")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert "assay_serve_fit 0.0" in client.get("/metrics").text
    next(iter(second.model.finished.model.parameters())).data.mul_(-1)
    asyncio.run(replica.check_health())
    assert loaded.find("standard", "1") is first and "assay_serve_fit 1.0" in client.get("/metrics").text
    loaded.drop("standard")
    asyncio.run(replica.check_health())


def test_a_repository_that_cannot_be_read_for_a_moment_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([["m"], OSError("gone"), OSError("gone"), ["m", "n"], KeyboardInterrupt()])

    def names(_: Any) -> list[str]:
        found = next(answers)
        if isinstance(found, BaseException):
            raise found
        return found

    monkeypatch.setattr(starting.Repository, "names", names)
    monkeypatch.setattr(starting, "_EVERY", 0)
    monkeypatch.setattr(starting, "lost_processes", list)
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        starting.keep(Service(repository=str(tmp_path), apart=False), Limits(), said.append)
    assert said == ["the repository cannot be read; what is loaded answers: gone", "n is served"]


def test_without_tokens_everyone_on_this_machine_may_call() -> None:
    assert Service(repository="/somewhere", tokens="none").auth.anyone
    assert not Service(repository="/somewhere", tokens="/t.json").auth.anyone


def test_one_application_alone_offers_grpc() -> None:
    service = Service(repository="/somewhere", grpc_port=8001)
    assert (service.settings().grpc_port, service.settings("triage").grpc_port) == (8001, 0)


@pytest.mark.parametrize(("node", "bound"), [("127.0.0.1", "127.0.0.1:0"), ("10.0.0.7", "[::]:0")])
def test_replicas_call_each_other_on_this_machine_alone(monkeypatch: pytest.MonkeyPatch, node: str, bound: str) -> None:
    addresses: list[str] = []
    monkeypatch.setattr(ports.ray.util, "get_node_ip_address", lambda: node)
    monkeypatch.setattr(ports.replica, "add_port_to_grpc_server", lambda server, address: addresses.append(address))
    ports.bind_here()
    ports.replica.add_port_to_grpc_server(None, "[::]:0")
    assert addresses == [bound]
