"""``python -m jobs.serve``: versions come and go by commands, and calls are answered meanwhile."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assay.errors import SpecError
from assay.store.folder import Store
from assay.study.finished import open_finished
from jobs.serve import app
from serve.repository.choosing import choose
from serve.repository.entries import Repository
from tests.mistakes import refused

ROOT = Path(__file__).parents[2]
PORT = 18163
Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """``run("load", "m", ...)`` runs a command on one repository; it returns what was printed."""

    def call(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, [*arguments, "--repository", str(tmp_path / "serving")])
        assert done.exit_code == code, done.output
        return " ".join(done.output.split())

    return call


def test_versions_are_added_promoted_rolled_back_and_removed(run: Run, results: Path) -> None:
    source = ("--results", str(results), "--recipe", "standard")
    assert "m version 1 (answers): standard" in run("load", "m", *source)
    text = run("load", "m", "--results", str(results), "--recipe", "private", "--version", "next")
    assert "version 1 (answers)" in text and "version next (loaded): private" in text
    assert "version next (answers)" in run("promote", "m", "next")
    assert "version 1 (answers)" in run("rollback", "m")
    assert "answers by default; promote another one first" in run("unload", "m", "1", code=2)
    assert "next" not in run("unload", "m", "next")
    assert "1 model in" in run("list")
    assert "m is unloaded" in run("unload", "m")
    assert "0 models in" in run("list")


def test_mistakes_are_told_and_change_nothing(run: Run, results: Path) -> None:
    run("load", "m", "--results", str(results), "--recipe", "standard")
    before = run("list")
    assert "no model 'n' in the repository; it has m" in run("promote", "n", "1", code=2)
    assert "has no version '7'; its versions: 1" in run("promote", "m", "7", code=2)
    assert "there is nothing to return to" in run("rollback", "m", code=2)
    assert "late" in run("load", "m", "--results", str(results), "--recipe", "late", code=2)
    assert run("list") == before


def test_an_empty_repository_is_not_served(run: Run) -> None:
    assert "has no model yet; add one: python -m jobs.serve load" in run("start", code=2)


def test_the_weights_are_those_that_were_chosen(run: Run, results: Path, tmp_path: Path) -> None:
    run("load", "m", "--results", str(results), "--recipe", "standard")
    entry = Repository(str(tmp_path / "serving")).read("m")
    assert entry is not None
    assert entry.versions[0].artefact == open_finished(Store(str(results)), recipe="standard").artefact


def test_a_model_is_chosen_among_those_that_finished(results: Path) -> None:
    choice = choose(str(results))
    assert choice.chosen.source.recipe == max((choice.chosen, *choice.others), key=lambda one: one.goal).source.recipe
    assert {one.source.recipe for one in choice.others} | {choice.chosen.source.recipe} <= {
        "standard",
        "private",
        "released",
    }
    with refused(SpecError, "cohort", "digits", ["wdbc"]):
        choose(str(results), cohort="digits")


@pytest.fixture
def service(results: Path, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Address and token of ``jobs.serve start``, behind HAProxy."""
    said = tmp_path / "said"
    command = [
        sys.executable, "-m", "jobs.serve", "start", "--repository", str(tmp_path / "serving"), "--results",
        str(results), "--recipe", "standard", "--tokens", str(tmp_path / "tokens.json"), "--port", str(PORT),
    ]  # fmt: skip
    environment = {
        **{key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"},
        "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}",
    }
    with said.open("w") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, start_new_session=True, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 300
        while (found := re.search(r"ready: (http://localhost:\d+)/\?token=(\S+)", said.read_text())) is None:
            assert process.poll() is None and time.monotonic() < deadline, said.read_text()
            time.sleep(0.5)
        yield found[1], found[2]
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(90)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


@pytest.mark.slow
def test_no_call_fails_while_versions_change(service: tuple[str, str], run: Run, results: Path) -> None:
    address, token = service
    seen: Counter[str] = Counter()
    over = threading.Event()
    body = json.dumps({"instances": [[0.1] * 30]}).encode()

    def ask() -> None:
        headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
        while not over.is_set():
            request = urllib.request.Request(f"{address}/v1/models/standard:predict", body, headers)
            with urllib.request.urlopen(request, timeout=30) as answer:
                seen[json.load(answer)["model_version"]] += 1

    def until(version: str) -> None:
        deadline, before = time.monotonic() + 60, seen[version]
        while seen[version] < before + 20:
            assert time.monotonic() < deadline, seen
            time.sleep(0.1)

    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            ask()
        except BaseException as error:
            failures.append(error)

    callers = [threading.Thread(target=guarded) for _ in range(3)]
    for caller in callers:
        caller.start()
    try:
        until("1")
        run("load", "standard", "--results", str(results), "--recipe", "private", "--promote")
        until("2")
        run("rollback", "standard")
        until("1")
        run("unload", "standard", "2")
        until("1")
    finally:
        over.set()
        for caller in callers:
            caller.join()
    assert not failures
