"""A study as a submitted job on a cluster that demands tokens."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.study.store import Store

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """Environment of a client of a fresh local head with token authentication on."""
    dashboard = free_port()
    environment = {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    environment.pop("RAY_ADDRESS", None)
    head = subprocess.Popen(
        [
            BIN / "ray", "start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1",
            f"--port={free_port()}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1",
            f"--dashboard-agent-listen-port={free_port()}", "--disable-usage-stats",
        ],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    client = {**environment, "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}"}
    try:
        for _ in range(60):
            if (
                subprocess.run([BIN / "ray", "job", "list"], env=client, capture_output=True, check=False).returncode
                == 0
            ):
                break
            time.sleep(1)
        else:
            pytest.fail("the head did not come up within a minute")
        yield client
    finally:
        head.send_signal(signal.SIGTERM)
        try:
            head.wait(30)
        finally:
            with_group = os.getpgid(head.pid) if head.poll() is None else None
            if with_group is not None:
                os.killpg(with_group, signal.SIGKILL)


def submit(client: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [BIN / "ray", "job", "submit", "--working-dir", ".", "--", "python", "-m", "jobs.study", *arguments]
    return subprocess.run(command, cwd=ROOT, env=client, capture_output=True, text=True, timeout=240, check=False)


def test_a_submitted_study_keeps_its_results_at_an_absolute_path(cluster: dict[str, str], tmp_path: Path) -> None:
    changes = ("--set", "preset=smoke", "--set", "cohorts.wdbc.evaluations=[accuracy, cost]")
    done = submit(cluster, "quickstart", *changes, "--results", str(tmp_path))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert len(Store(str(tmp_path)).finished()) == 12
    assert (tmp_path / "report.html").is_file()


def test_a_submitted_study_refuses_to_lose_its_results(cluster: dict[str, str]) -> None:
    done = submit(cluster, "quickstart", "--set", "preset=smoke")
    assert done.returncode != 0
    assert "--results an absolute path" in " ".join(done.stdout.split())


def test_a_client_without_the_token_is_turned_away(cluster: dict[str, str]) -> None:
    stranger = {**cluster, "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    listed = subprocess.run([BIN / "ray", "job", "list"], env=stranger, capture_output=True, text=True, check=False)
    assert listed.returncode != 0
