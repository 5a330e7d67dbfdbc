"""The environment and the settings with which the service of a repository starts."""

import json
import os

import pytest

from serve.limits.settings import VARIABLE, Limits
from serve.start import Service, set_proxy

QUICK = {"RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0", "RAY_worker_niceness": "0"}


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    for name in list(os.environ):
        if name.startswith(("RAY_SERVE", "RAY_worker")):
            del os.environ[name]


@pytest.mark.parametrize("apart", [True, False])
def test_calls_run_in_one_event_loop_at_the_usual_priority(apart: bool) -> None:
    set_proxy(Limits(), apart=apart)
    assert {name: os.environ[name] for name in QUICK} == QUICK
    assert json.loads(os.environ[VARIABLE])
    assert os.environ["RAY_SERVE_ENABLE_HA_PROXY"] == ("1" if apart else "0")


def test_what_the_user_has_set_stays() -> None:
    given = {"RAY_worker_niceness": "5", "RAY_SERVE_HAPROXY_NBTHREAD": "7"}
    os.environ |= given
    set_proxy(Limits(), apart=True)
    assert {name: os.environ[name] for name in given} == given


def test_haproxy_has_no_more_threads_than_the_machine_has_cpus() -> None:
    set_proxy(Limits(), apart=True)
    assert 1 <= int(os.environ["RAY_SERVE_HAPROXY_NBTHREAD"]) <= (os.cpu_count() or 1)


def test_a_burst_of_all_calls_that_a_replica_takes_is_not_refused_by_it() -> None:
    settings = Service(repository="/somewhere").settings()
    assert settings.queued >= settings.ongoing
