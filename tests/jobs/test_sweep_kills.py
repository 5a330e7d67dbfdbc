"""A sweep that is killed twenty times, driver and workers, ends with what one that ran undisturbed has."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import Job, command_line, wait_for

from assay.store.folder import Store
from tests.studies import without_times

ARGUMENTS = (
    "jobs.sweep", "optimizer", "--samples", "80", "--workers", "2", "--goals", "accuracy", "--no-judge",
    "--set", "cohorts.wdbc.evaluations=[{name: accuracy, draws: 50}, cost]",
)  # fmt: skip
KILLS = 20


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


@pytest.mark.slow  # tests/study/test_sweep_run.py stops a sweep in one process, anywhere
def test_a_sweep_that_is_killed_twenty_times_loses_and_doubles_nothing(
    start: Callable[..., Job], shared_ray: str, tmp_path: Path
) -> None:
    arguments = (*ARGUMENTS, "--address", shared_ray)
    code, said = start(*arguments, "--results", str(tmp_path / "undisturbed")).finish(timeout=580)
    assert code == 0, said
    draw, folder = random.Random(1), tmp_path / "disturbed"
    seen: dict[str, int] = {}
    for kill in range(KILLS):
        job = start(*arguments, "--results", str(folder))
        before = len(written(folder)) if folder.exists() else 0
        wait_for(
            lambda before=before, job=job: job.process.poll() is not None or len(written(folder)) > before,
            seconds=240,
            what="a further trial",
        )
        assert job.process.poll() is None, job.finish()[1]
        time.sleep(draw.uniform(0, 0.4))
        if kill % 3 == 2:
            # A worker dies; the job goes on, and is killed a little later.
            for pid in workers_here()[:1]:
                os.kill(pid, signal.SIGKILL)
            time.sleep(draw.uniform(0, 1.0))
        assert job.process.poll() is None, f"the sweep ended after {kill} kills; give it more points"
        job.kill()
        job.clean_up()
        now = written(folder)
        assert all(now[name] == at for name, at in seen.items()), "a finished trial ran again"
        seen = now
    code, said = start(*arguments, "--results", str(folder)).finish(timeout=580)
    assert code == 0, said
    assert all(written(folder)[name] == at for name, at in seen.items())
    assert rows(folder) == rows(tmp_path / "undisturbed")
    assert Store(str(folder)).columns().num_rows == len(Store(str(folder)).finished())
