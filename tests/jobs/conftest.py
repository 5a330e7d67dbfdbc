"""Whole jobs, started as a user starts them."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from processes import Job


@pytest.fixture
def start() -> Iterator[Callable[..., Job]]:
    """Starts jobs, and ends whatever is left of them."""
    jobs: list[Job] = []

    def begin(*arguments: str) -> Job:
        jobs.append(Job(*arguments))
        return jobs[-1]

    yield begin
    for job in jobs:
        if job.process.poll() is None:
            job.kill()
        job.clean_up()
