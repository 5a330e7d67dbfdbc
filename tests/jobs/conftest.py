"""Jobs in this process, and whole jobs as a user starts them."""

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from assay.executors import LocalExecutor
from assay.ledger import Ledger
from jobs.console import application

sys.path.insert(0, str(Path(__file__).parent))

from processes import Ended, Job


@pytest.fixture
def invoked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a job in this process, and keeps its two streams apart. A fault of ours comes out as it is."""
    # A job opens its ledgers before it starts Ray; this process may have joined one long ago.
    monkeypatch.setattr("assay.cluster.ledger_actor.opening", lambda address=None: Ledger.create)

    def begin(name: str, *arguments: str) -> Result:
        module = importlib.import_module(f"jobs.{name}")
        app = module.app if hasattr(module, "app") else application(module.main)
        return CliRunner().invoke(app, arguments, catch_exceptions=False)

    return begin


@pytest.fixture
def job(invoked: Callable[..., Result]) -> Callable[..., Ended]:
    """Runs a job in this process: ``job("study", "quickstart", "--dry-run")``; all that it printed is in one text."""

    def begin(name: str, *arguments: str) -> Ended:
        done = invoked(name, *arguments)
        return Ended(done.exit_code, done.output)

    return begin


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's pool of workers is this process, for tests of what a job says of its results."""
    pool = lambda **settings: contextlib.nullcontext(LocalExecutor())
    monkeypatch.setattr("assay.cluster.executor.RayExecutor", pool)


@pytest.fixture
def start() -> Iterator[Callable[..., Job]]:
    """Starts jobs in processes of their own, and ends whatever is left of them."""
    jobs: list[Job] = []

    def begin(*arguments: str) -> Job:
        jobs.append(Job(*arguments))
        return jobs[-1]

    yield begin
    for job in jobs:
        if job.process.poll() is None:
            job.kill()
        job.clean_up()
