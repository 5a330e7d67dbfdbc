"""The job of the dashboard: what it prints, what it refuses, and that it stays small."""

import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.dashboard import _told
from tests.dashboard.made import fill

TOKEN = "a-token-that-tests-alone-use"


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another process has."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_taken_port_is_refused_with_the_fix(job: Callable[..., Any], tmp_path: Path, taken: int) -> None:
    done = job("dashboard", "--results", str(tmp_path), "--port", str(taken))
    assert done.code == 2
    assert f"port {taken}" in done.said
    assert f"--port {taken + 1}" in done.said


def test_a_folder_that_is_not_there_is_refused(job: Callable[..., Any], tmp_path: Path) -> None:
    done = job("dashboard", "--results", str(tmp_path / "none"), "--port", "58123")
    assert done.code == 2
    assert str(tmp_path / "none") in done.said


def test_the_server_loads_neither_torch_nor_pandas_nor_ray() -> None:
    code = "import assay.dashboard.app, sys; print(sorted({'torch', 'pandas', 'ray', 'scipy'} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment())
    assert told.stdout.strip() == "[]"


@pytest.mark.slow  # a process of its own; tests/dashboard shows the same in this process
def test_the_address_is_printed_with_its_token_and_the_server_ends_when_it_is_told_to(tmp_path: Path) -> None:
    fill(tmp_path / "sweep", 3)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jobs.dashboard", "--results", str(tmp_path), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment()) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == f"3 trials in 1 folder of results below {tmp_path}\n"
        address = re.search(r"http://\S+", server.stdout.readline())
        assert address is not None
        # The user's own token is not printed: on a cluster others read the log.
        assert address[0] == f"http://localhost:{port}/?token=$ASSAY_DASHBOARD_TOKEN"
        with urllib.request.urlopen(f"http://localhost:{port}/?token={TOKEN}") as answer:
            assert answer.status == 200
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(address[0].partition("?")[0])
        server.terminate()
        server.wait(timeout=20)


def _environment() -> dict[str, str]:
    root = Path(__file__).parents[2]
    return {**os.environ, "PYTHONPATH": f"{root / 'platform'}:{root}", "ASSAY_DASHBOARD_TOKEN": TOKEN}


def test_the_log_of_a_submitted_job_does_not_hold_the_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ASSAY_DASHBOARD_TOKEN", raising=False)
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    assert _told("secret", tmp_path / "token") == "secret"
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert _told("secret", tmp_path / "token") == f"TOKEN, which {tmp_path / 'token'} on this machine holds"
