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

from assay.store.folder import Store

# A cluster with a dashboard, a process for each job and another for each submission take a minute: what is refused at
# once, and how a job's end becomes an exit code, is tested in test_submit.py.
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """Environment of a client of a fresh local head with token authentication on, and nothing of ours on its path."""
    dashboard = free_port()
    environment = {
        **os.environ,
        # No Python of ours on it: a job finds that of Ray.
        "PATH": os.defpath,
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
            if head.poll() is not None:
                pytest.fail(f"the head ended with exit code {head.returncode}")
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


# One cohort of two recipes on two folds: what is tested is the way there and back.
SMALL = (
    "cohorts={wdbc: {dataset: wdbc, evaluations: [accuracy, cost], "
    "recipes: {standard: {training: {epochs: 2}}, private: {training: {epochs: 2}, privacy: {epsilon: 3}}}}}"
)
STUDY = ("study", "quickstart", "--set", "split.folds=2", "--set", SMALL)


def submit(client: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.submit", *arguments]
    return subprocess.run(command, cwd=ROOT, env=client, capture_output=True, text=True, timeout=240, check=False)


def test_a_submitted_study_is_followed_to_its_results_at_an_absolute_path(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    done = submit(cluster, *STUDY, "--results", str(tmp_path))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "4 of 4 trials run" in done.stdout
    # Progress is a line now and then, neither one for each trial nor what the job prints for programs.
    assert "\n4 of 4 · wdbc · " in done.stdout
    assert "[  3/4] done" not in done.stdout
    assert "::assay-progress" not in done.stdout
    assert done.stdout.count("4 of 4 trials run") == 1
    assert done.stdout.rstrip().endswith("succeeded")
    assert len(Store(str(tmp_path)).finished()) == 4
    assert (tmp_path / "report.html").is_file()


def test_the_exit_code_is_that_of_the_job(cluster: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    done = submit(cluster, *STUDY, "--results", str(tmp_path / "file"))
    assert done.returncode == 2
    assert "submitted to" in done.stdout
    assert str(tmp_path / "file") in done.stdout
    assert done.stdout.rstrip().endswith("failed with exit code 2")


def test_a_detached_job_is_followed_later(cluster: dict[str, str], tmp_path: Path) -> None:
    begun = submit(cluster, "--detach", *STUDY, "--dry-run", "--results", str(tmp_path))
    assert begun.returncode == 0, begun.stdout
    name = begun.stdout.strip()
    done = submit(cluster, "--follow", name)
    assert done.returncode == 0, done.stdout
    assert "4 trials; nothing was run" in done.stdout
    assert f"{name} succeeded" in done.stdout


def test_results_that_would_be_lost_are_refused_by_the_job_itself(cluster: dict[str, str]) -> None:
    # As Ray's own command sends it: jobs.submit would refuse it before.
    sent = [BIN / "ray", "job", "submit", "--working-dir", ".", "--", "sh", "jobs/python.sh", "-m", "jobs.study"]
    done = subprocess.run(
        [*sent, *STUDY[1:]], cwd=ROOT, env=cluster, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode != 0
    assert "--results an absolute path" in " ".join(done.stdout.split())


def test_an_interrupt_stops_the_job_where_that_is_asked_for(cluster: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jobs.submit", "--stop-on-interrupt"]
    begun = subprocess.Popen(
        [*command, "study", "paper", "--results", str(tmp_path)],
        cwd=ROOT, env={**cluster, "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert begun.stdout is not None
    said = ""
    while "trials on" not in said:
        line = begun.stdout.readline()
        assert line, said
        said += line
    begun.send_signal(signal.SIGINT)
    rest, _ = begun.communicate(timeout=120)
    assert begun.returncode == 130, said + rest
    name = next(word for word in said.split() if word.startswith("raysubmit_"))
    assert f"{name} stopped" in rest
    status = subprocess.run(
        [BIN / "ray", "job", "status", name], env=cluster, capture_output=True, text=True, check=False
    )
    assert "was stopped" in status.stdout + status.stderr


def test_an_unknown_submission_is_named(cluster: dict[str, str]) -> None:
    done = submit(cluster, "--follow", "raysubmit_nobody")
    assert done.returncode == 2
    assert "has no submission 'raysubmit_nobody'" in done.stdout


def test_a_client_without_the_token_is_turned_away(cluster: dict[str, str]) -> None:
    stranger = {**cluster, "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    listed = subprocess.run([BIN / "ray", "job", "list"], env=stranger, capture_output=True, text=True, check=False)
    assert listed.returncode != 0
    refused = submit(stranger, *STUDY, "--results", "/kept")
    assert refused.returncode == 2
    assert "demands a token" in refused.stdout
    assert stranger["RAY_AUTH_TOKEN"] not in refused.stdout + refused.stderr
