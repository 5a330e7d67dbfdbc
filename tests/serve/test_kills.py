"""What callers see of a service whose processes are killed, stopped, corrupted and updated, one after the other.

The printed figures are those of ``serve/README.md``: ``python -m pytest -s tests/serve/test_kills.py``. What the single
parts do is shown without Ray: the self-test and the start after a loss by ``test_start.py``, HAProxy by ``limits/``.
"""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from assay.errors import UserError
from serve.limits.ports import require_free
from tests.serve.running import REPLICA, ROOT, WRONG, Call, Load, Running, load, running, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

KILLS = 10
SHARE, BACK, BACK_PROXY, BACK_HEAD, OUT = 0.995, 15.0, 30.0, 60.0, 30.0
"""Least share of calls that succeed; greatest seconds until two replicas answer again, until calls succeed again after
the loss of a proxy and of the head, and until a replica that is not well gets no calls."""
ENDED = 150.0
"""Seconds until nothing runs: HAProxy ends with its last connection, and after two minutes in any case."""

CORRUPTING = '''
"""Changes the weights of the model in the process for which a file asks, in the folder of this one."""
import gc, os, sys, threading, time
from pathlib import Path

ASKED = Path(__file__).with_name(f"corrupt-{os.getpid()}")

def watch():
    while not ASKED.exists():
        time.sleep(0.2)
    import torch
    gc.unfreeze()
    served = sys.modules["serve.model"].ServedModel
    with torch.no_grad():
        for model in [one for one in gc.get_objects() if type(one) is served]:
            for weights in model._model.parameters():
                weights.add_(1.0)
    ASKED.with_suffix(".done").touch()

threading.Thread(target=watch, daemon=True).start()
'''
"""Python runs ``sitecustomize`` at the start of every process that has its folder on the path."""

UPDATING = """
import sys
import ray
from ray import serve
from ray.serve import RunTarget
from serve.app import application
from serve.start import FRONT, Service

address, repository, threads = sys.argv[1:]
ray.init(address=address, namespace="serve", log_to_driver=False)
settings = Service(repository=repository, log="none", replicas=2, threads=int(threads)).settings()
serve.run_many([RunTarget(application(settings), name=FRONT, route_prefix="/")])
"""
"""Deploys the front again with another setting, as ``serve deploy`` does on a cluster: replica after replica is new."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("kills")
    (found / "sitecustomize.py").write_text(CORRUPTING)
    return found


@pytest.fixture(scope="module")
def service(results: Path, folder: Path) -> Iterator[Running]:
    with running(results, folder, "--replicas", "2", also=str(folder)) as found:
        yield found


@pytest.fixture
def callers(service: Running, results: Path, tmp_path: Path) -> Iterator[Load]:
    two_answer(service, 60)
    with load(service, results, tmp_path) as found:
        yield found


def two_answer(service: Running, seconds: float, *, without: Sequence[str] = ()) -> float:
    """Waits until two replicas get calls, none of which is among ``without``."""
    return wait_until(
        lambda: len(service.in_rotation()) >= 2 and not service.in_rotation() & set(without),
        seconds,
        "no two replicas answer",
    )


def report(what: str, calls: Sequence[Call], **more: float) -> None:
    """Print what callers have seen."""
    statuses = Counter(one.status for one in calls)
    waited = sorted(one.seconds for one in calls)
    figures = {
        "calls": len(calls),
        "failed": len(calls) - statuses[200] - statuses[WRONG],
        "wrong": statuses[WRONG],
        "p99_ms": round(1e3 * waited[int(0.99 * len(waited))]),
        "longest_s": round(waited[-1], 1),
        **{name: round(value, 1) for name, value in more.items()},
    }
    print(f"\n{what}: {json.dumps(figures)} {dict(statuses)}")


def failed_for(calls: Sequence[Call], since: float) -> float:
    """Seconds from a moment until the last call that failed had been made."""
    return max((one.began - since for one in calls if one.status != 200), default=0.0)


def listening(pids: Sequence[int]) -> dict[int, str]:
    """Addresses by the ports at which processes listen, in hexadecimal digits, as the kernel gives them."""
    sockets = set[str]()
    for pid in pids:
        for file in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                sockets.add(str(file.readlink()))
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                address, _, port = fields[1].partition(":")
                found[int(port, 16)] = address
    return found


def test_no_port_of_a_service_is_open_to_the_network_and_none_takes_a_job(service: Running) -> None:
    """As a page of another site would send it, whose name leads here (DNS rebinding)."""
    found = listening(service.processes())
    assert service.port in found and len(found) > 10
    assert all(address.endswith("0100007F") for address in found.values()), found
    body = json.dumps({"entrypoint": "true"})
    for port in found:
        for path in ("/api/jobs/", "/api/job_agent/jobs/"):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            headers = {"host": f"evil.example:{port}", "content-type": "application/json"}
            # Some ports speak gRPC alone.
            with contextlib.suppress(http.client.HTTPException, OSError):
                connection.request("POST", path, body, headers)
                assert connection.getresponse().status >= 400, (port, path)
            connection.close()


def test_replicas_are_killed_and_callers_see_nothing_of_it(service: Running, callers: Load) -> None:
    seconds = []
    for number in range(KILLS):
        before = service.in_rotation()
        victims = service.processes(REPLICA)
        began = time.monotonic()
        os.kill(victims[number % len(victims)], signal.SIGKILL)
        wait_until(lambda before=before: service.in_rotation() != before, 30, "a replica that was killed gets calls")
        two_answer(service, 90)
        seconds.append(time.monotonic() - began)
        time.sleep(2)
    calls = callers.calls()
    report(f"{KILLS} replicas killed", calls, longest_until_two_answer_s=max(seconds), mean_s=sum(seconds) / KILLS)
    statuses = Counter(one.status for one in calls)
    assert statuses[WRONG] == 0
    assert statuses[200] >= SHARE * len(calls), statuses
    assert max(seconds) <= BACK, seconds


@pytest.mark.parametrize("name", ["bin/haproxy ", "^ray::HAProxyManager", "^ray::ServeController"])
def test_a_proxy_and_the_controller_come_back(service: Running, callers: Load, name: str) -> None:
    since = time.time()
    victim = service.kill(name)
    wait_until(
        lambda: bool(new := service.processes(name)) and victim not in new and service.is_ready(), 90, "nothing is new"
    )
    time.sleep(5)
    calls = callers.calls()
    report(f"{name.strip('^ ')} killed", calls, back_s=failed_for(calls, since))
    assert {one.status for one in calls} <= {200, 0, 503}, "nobody is told that the model does not exist"
    assert failed_for(calls, since) <= BACK_PROXY
    if "Controller" in name:
        assert {one.status for one in calls} == {200}, "calls do not pass through the controller"


def test_a_replica_that_hangs_gets_no_calls(service: Running, callers: Load) -> None:
    before, since = service.in_rotation(), time.time()
    victim = service.kill(REPLICA, by=signal.SIGSTOP)
    try:
        out = wait_until(lambda: bool(before - service.in_rotation()), OUT, "a replica that hangs gets calls")
        hangs = before - service.in_rotation()
        replaced = two_answer(service, 180, without=list(hangs))
        time.sleep(2)
        calls = callers.calls()
        report("a replica stopped", calls, out_of_rotation_s=out, replaced_s=out + replaced)
        slow = [one for one in calls if one.began > since + out + 1 and (one.status != 200 or one.seconds > 5)]
        assert not slow, "from then on no call waits for it"
        assert {one.status for one in calls} <= {200, 0, 504}
    finally:
        if victim in service.processes():
            os.kill(victim, signal.SIGKILL)


def test_a_replica_that_answers_otherwise_than_at_its_start_is_replaced(
    service: Running, callers: Load, folder: Path
) -> None:
    before = service.in_rotation()
    victim = service.processes(REPLICA)[0]
    asked = folder / f"corrupt-{victim}"
    asked.touch()
    wait_until(asked.with_suffix(".done").exists, 30, "the weights are as they were")
    since = time.time()
    out = wait_until(lambda: before > service.in_rotation(), OUT, "a replica that answers otherwise gets calls")
    wrong = before - service.in_rotation()
    replaced = two_answer(service, 120, without=list(wrong))
    time.sleep(2)
    calls = callers.calls()
    report("weights changed in memory", calls, out_of_rotation_s=out, replaced_s=out + replaced)
    assert Counter(one.status for one in calls)[WRONG] > 0, "the test has changed the answers"
    assert {one.status for one in calls if one.began > since + out + 1} == {200}
    # It goes on for half a minute, in which proxies learn that it ends.
    wait_until(lambda: victim not in service.processes(REPLICA), 120, "a replica that answers otherwise runs on")


def test_a_rolling_update_fails_no_call(service: Running, callers: Load, folder: Path) -> None:
    (raylet,) = service.processes(r"raylet/raylet ")
    command = Path(f"/proc/{raylet}/cmdline").read_bytes().decode()
    address = re.search(r"--gcs-address=([\d.:]+)", command)
    assert address is not None, command
    before, began = service.in_rotation(), time.monotonic()
    environment = service.environment(r"raylet/raylet ")
    arguments = [sys.executable, "-c", UPDATING, address[1], str(folder / "serving"), "2"]
    done = subprocess.run(arguments, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    two_answer(service, 120, without=list(before))
    seconds = time.monotonic() - began
    wait_until(lambda: len(service.processes(REPLICA)) == 2, 120, "the former replicas run on")
    calls = callers.calls()
    report("rolling update", calls, seconds=seconds)
    assert {one.status for one in calls} == {200}


@pytest.mark.parametrize("name", ["gcs/gcs_server ", "raylet/raylet "])
def test_everything_starts_again_with_the_same_token_when_the_head_dies(
    service: Running, callers: Load, name: str
) -> None:
    since, told = time.time(), service.said.read_text()
    service.kill(name)
    wait_until(
        lambda: service.said.read_text().count("ready again") > told.count("ready again"), 240, "nothing starts again"
    )
    time.sleep(3)
    calls = callers.calls()
    back = failed_for(calls, since)
    report(f"{name.strip()} killed", calls, back_s=back)
    assert f"Ray's {name.split('/')[1].strip()} has ended" in service.said.read_text().removeprefix(told)
    assert {one.status for one in calls[-50:]} == {200}, "the token that was printed is valid"
    assert {one.status for one in calls} <= {200, 0, 502, 503, 504}
    assert back <= BACK_HEAD


def test_nothing_is_left_of_a_service_that_is_killed_itself(service: Running) -> None:
    """The last of this file: it ends the service."""
    began = time.monotonic()
    service.process.kill()
    service.process.wait(10)

    def is_free() -> bool:
        with contextlib.suppress(UserError):
            require_free(service.port)
            return True
        return False

    free = wait_until(is_free, 30, "the port is taken")
    with contextlib.suppress(AssertionError):
        wait_until(lambda: not service.processes(), ENDED, "")
    assert not service.processes(), [Path(f"/proc/{pid}/cmdline").read_bytes()[:99] for pid in service.processes()]
    seconds = time.monotonic() - began
    print(
        f"\nthe service itself killed: the port is free after {free:.1f} s, everything has ended after {seconds:.1f} s"
    )
