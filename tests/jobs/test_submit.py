"""What may be submitted is what can be run; what is sent is what was asked for; how a job ends is told."""

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from processes import Ended
from ray.job_submission import JobStatus

from jobs import submit
from jobs.submit import ADDRESS_VARIABLE, HERE, JOBS, LOCAL

QUICKSTART = ("study", "quickstart", "--results", "/kept")


def test_whatever_can_be_run_is_a_job_and_what_jobs_share_is_none() -> None:
    assert JOBS == ["audit", "benchmark", "dashboard", "evaluate", "flower", "ledger", "study", "sweep", "train"]
    shared = {path.stem for path in HERE.glob("[!_]*.py")} - {*JOBS, *LOCAL, "submit"}
    assert shared == {
        *("console", "following", "ledger_places", "ledger_tables", "options", "progress", "progress_lines"),
        *("refusals", "sweep_plan", "verdicts"),
    }
    probe = "import runpy, sys\nfor name in sys.argv[1:]: runpy.run_module(f'jobs.{name}', run_name='__main__')"
    said = subprocess.run([sys.executable, "-c", probe, *shared], cwd=HERE.parent, capture_output=True, check=True)
    assert said.stdout == b""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give either a job"),
        (("--follow", "raysubmit_x", "study"), "give either a job"),
        (("--follow", "raysubmit_x", "--detach"), "--follow and --detach exclude each other"),
        (("--follow", "raysubmit_x", "--gpus", "1"), "--follow and --gpus exclude each other"),
        (("--gpus", "nan", "study", "quickstart", "--results", "/kept"), "--gpus nan is no number"),
        (("--address", "ftp://head:8265", *QUICKSTART), "give http://HOST:8265, https://HOST or HOST:8265"),
        (("--address", "ray://head:10001", *QUICKSTART), "give http://HOST:8265, https://HOST or HOST:8265"),
        (("--address", "auto", *QUICKSTART), "give http://HOST:8265, https://HOST or HOST:8265"),
        (("--address", "http://", *QUICKSTART), "give http://HOST:8265, https://HOST or HOST:8265"),
        (("--address", "http://head:port", *QUICKSTART), "give http://HOST:8265, https://HOST or HOST:8265"),
        ((*QUICKSTART, "--address", "http://head:8265"), "a job joins a Ray cluster by auto, HOST:6379 or ray://"),
        (("--address", "http://127.0.0.1:1", *QUICKSTART), "no Ray cluster answers at http://127.0.0.1:1"),
    ],
)
def test_a_call_that_cannot_work_is_refused_at_once(
    arguments: tuple[str, ...], said: str, job: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ADDRESS_VARIABLE, "http://127.0.0.1:8265")
    ended = job("submit", *arguments)
    assert ended.code == 2, ended.said
    assert said in ended.words


class Server:
    """A job server on which one job runs to its end; keeps what it was sent."""

    def __init__(self, status: JobStatus = JobStatus.SUCCEEDED, code: int | None = 0) -> None:
        self.sent: dict[str, Any] = {}
        self._end = SimpleNamespace(submission_id="sub_1", status=status, driver_exit_code=code, message="no node fits")

    def submit_job(self, **sent: Any) -> str:
        self.sent = sent
        return "sub_1"

    def get_job_info(self, submission: str) -> Any:
        if submission != "sub_1":
            raise RuntimeError(f"Request failed with status code 404: Job {submission} does not exist.")
        return self._end

    async def tail_job_logs(self, submission: str) -> Any:
        for text in ("one line\n", "another\n"):
            yield text

    def get_job_logs(self, submission: str) -> str:
        return "one line\nanother\n"


@pytest.mark.parametrize(
    ("status", "driver", "code", "words"),
    [
        (JobStatus.SUCCEEDED, 0, 0, "sub_1 succeeded"),
        (JobStatus.FAILED, 2, 2, "sub_1 failed with exit code 2"),
        (JobStatus.FAILED, -9, 137, "sub_1 was ended by signal 9"),
        (JobStatus.FAILED, None, 1, "sub_1 failed: no node fits"),
        (JobStatus.STOPPED, None, 1, "sub_1 stopped: no node fits"),
    ],
)
def test_the_exit_code_is_that_of_the_job(  # noqa: PLR0917
    status: JobStatus, driver: int | None, code: int, words: str, job: Callable[..., Ended],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    server = Server(status, driver)
    monkeypatch.setattr(submit, "connect", lambda address: server)
    ended = job("submit", "--address", "head:8265", *QUICKSTART)
    assert (ended.code, ended.said.rstrip().endswith(words)) == (code, True), ended.said
    assert "one line\nanother\n" in ended.said
    assert server.sent["entrypoint"] == "sh jobs/python.sh -m jobs.study quickstart --results /kept"
    assert server.sent["runtime_env"] == {"working_dir": str(submit.ROOT), "env_vars": {"ASSAY_PROGRESS": "lines"}}
    assert (server.sent["entrypoint_num_cpus"], server.sent["entrypoint_num_gpus"]) == (None, None)


def test_what_the_jobs_own_process_needs_is_reserved(
    job: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    monkeypatch.setattr(submit, "connect", lambda address: server)
    assert job("submit", "--gpus", "1", "--cpus", "2", *QUICKSTART).code == 0
    assert (server.sent["entrypoint_num_cpus"], server.sent["entrypoint_num_gpus"]) == (2, 1)


def test_a_job_that_ends_badly_after_all_does_not_end_with_0(
    job: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "connect", lambda address: Server(JobStatus.SUCCEEDED, 3))
    assert job("submit", *QUICKSTART).code == 3


def test_a_detached_job_is_followed_later(job: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "connect", lambda address: Server())
    assert job("submit", "--detach", *QUICKSTART).said == "sub_1\n"
    ended = job("submit", "--follow", "sub_1")
    assert (ended.code, "another" in ended.said, "sub_1 succeeded" in ended.said) == (0, True, True)
    ended = job("submit", "--follow", "sub_2")
    assert ended.code == 2
    assert "has no submission 'sub_2'" in ended.words
    assert "submit it again with the same --results" in ended.words


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("head:8265", "http://head:8265"),
        ("http://head:8265/", "http://head:8265"),
        ("https://ray.hospital.example/cluster/", "https://ray.hospital.example/cluster"),
        ("http://[::1]:8265", "http://[::1]:8265"),
    ],
)
def test_a_host_and_port_or_a_url_is_an_address(given: str, used: str) -> None:
    assert submit.url(given) == used
