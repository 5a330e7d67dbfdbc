"""A sweep that is hit twenty times (its driver, a worker, a machine, its disk) ends with what an undisturbed one has.

Slow: twenty starts of a job, and two nodes on this machine. ``tests/study/test_sweep_run.py`` stops a sweep in one
process, anywhere; ``tests/cluster/test_nodes.py`` kills a node of one that goes on.
"""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import Job, command_line

from assay.store.folder import Store
from tests.cluster.two_nodes import TwoNodes, two_nodes
from tests.studies import without_times

pytestmark = pytest.mark.slow

ARGUMENTS = (
    "jobs.sweep", "optimizer", "--samples", "120", "--workers", "2", "--goals", "accuracy", "--no-judge",
    "--set", "cohorts.wdbc.evaluations=[{name: accuracy, draws: 50}, cost]",
)  # fmt: skip
HITS = 20
KINDS = ("driver", "worker", "node", "disk")


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    with two_nodes() as nodes:
        yield nodes


def rows(folder: Path) -> list[tuple[str, str, float]]:
    """Every stored figure but times."""
    frame = Store(str(folder)).frame()
    frame = without_times(frame)
    return sorted(
        zip(frame["trial"], frame["name"] + frame["conditions"].map(str), frame["value"].fillna(-1), strict=True)
    )


def workers_here() -> list[int]:
    """Processes of workers that run a trial now, of the Ray that this process started and of no other."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sorted(pid for pid in ours if "ray::Worker" in command_line(pid))


def written(folder: Path) -> dict[str, int]:
    """When each trial was written."""
    return {path.name: path.stat().st_mtime_ns for path in (folder / "trials").glob("[!.]*.parquet")}


class Disturbed:
    """A sweep that is started again and again, and hit each time.

    Args:
        start: starts a job.
        nodes: of the cluster.
        folder: of the results.
    """

    def __init__(self, start: Callable[..., Job], nodes: TwoNodes, folder: Path) -> None:
        self._start, self._nodes, self.folder, self._draw = start, nodes, folder, random.Random(1)
        self.hit: list[str] = []
        """Kinds of what happened, in their order."""

    def begin(self, *, full_after: int = -1) -> Job:
        """Starts the sweep, on both nodes."""
        if self._nodes.second is None:
            self._nodes.add()
        address = self._nodes.address
        arguments = (*ARGUMENTS, "--address", address, "--results", str(self.folder))
        return self._start("tests.jobs.run_on_nodes", address, str(full_after), *arguments)

    def disturb(self, kind: str) -> None:
        """Runs the sweep until something happens to it and it ends."""
        job = self.begin(full_after=self._draw.randrange(12, 30) if kind == "disk" else -1)
        if kind == "disk":
            code, said = job.finish(timeout=300)
            assert code == 2 and "the disk is full" in said, said
        else:
            self._further(job)
            time.sleep(self._draw.uniform(0, 0.4))
            if kind == "worker":
                victims = workers_here()
                assert victims, "a worker runs"
                os.kill(victims[0], signal.SIGKILL)
                self._further(job)
            elif kind == "node":
                self._nodes.kill()
                self._further(job)
            assert job.process.poll() is None, f"the sweep ended after {len(self.hit)} hits; give it more points"
            job.kill()
        job.clean_up()
        self.hit.append(kind)

    def _further(self, job: Job) -> None:
        """Waits for a further trial, which the job finishes whatever has happened to it."""
        before = len(written(self.folder))
        job.until(lambda: len(written(self.folder)) > before, seconds=300, what="a further trial")


@pytest.mark.timeout(3000)  # twenty-two starts of a job, five of a node
def test_a_sweep_that_is_hit_twenty_times_loses_and_doubles_nothing(
    start: Callable[..., Job], nodes: TwoNodes, tmp_path: Path
) -> None:
    code, said = Disturbed(start, nodes, tmp_path / "undisturbed").begin().finish(timeout=580)
    assert code == 0, said
    sweep, seen = Disturbed(start, nodes, tmp_path / "disturbed"), {}
    for number in range(HITS):
        sweep.disturb(KINDS[number % len(KINDS)])
        now = written(sweep.folder)
        assert all(now[name] == at for name, at in seen.items()), "a finished trial ran again"
        seen = now
    assert all(sweep.hit.count(kind) == HITS / len(KINDS) for kind in KINDS)
    code, said = sweep.begin().finish(timeout=580)
    assert code == 0, said
    assert all(written(sweep.folder)[name] == at for name, at in seen.items())
    assert rows(sweep.folder) == rows(tmp_path / "undisturbed")
    store = Store(str(sweep.folder))
    assert store.columns().num_rows == len(store.finished()) == len(Store(str(tmp_path / "undisturbed")).finished())
