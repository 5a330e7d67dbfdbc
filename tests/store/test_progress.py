"""A page sees how far a job is, and tells a long trial from a job that was killed."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.store import progress
from assay.store.progress import FILE, SILENT, Progress, ProgressFile
from assay.store.reader import Reader

Record = Callable[..., Any]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def written(tmp_path: Path, clock: Clock) -> ProgressFile:
    file = ProgressFile(str(tmp_path), clock)
    file.begin(total=5, finished=2, workers=2)
    return file


def read(folder: Path) -> Progress:
    found = Reader(str(folder)).progress()
    assert found is not None
    return found


def test_a_folder_without_a_job_tells_nothing(tmp_path: Path) -> None:
    assert Reader(str(tmp_path)).progress() is None


def test_what_runs_what_failed_and_the_time_left_are_told(
    tmp_path: Path, written: ProgressFile, clock: Clock, record: Record
) -> None:
    written.started("a")
    written.started("b")
    written.done(record("1"), "a", seconds_left=30.0, workers=2)
    clock.now += 2
    written.done(record("2", error="odd"), "b", seconds_left=12.5, workers=3)
    found = read(tmp_path)
    assert found.workers == 3
    assert (found.total, found.finished, found.failed, found.running) == (5, 4, 1, ())
    assert (found.seconds_left, found.state(clock.now)) == (12.5, "running")
    clock.now += 2
    written.started("c")
    written.status("c: training, 35 %")
    assert read(tmp_path).running == ("c",)
    written.end()


def test_the_file_is_written_at_most_once_a_second(tmp_path: Path, written: ProgressFile, record: Record) -> None:
    stamp = (tmp_path / FILE).stat().st_mtime_ns
    for number in range(50):
        written.done(record(str(number)), "x", seconds_left=1.0, workers=2)
    assert (tmp_path / FILE).stat().st_mtime_ns == stamp
    written.end()
    assert read(tmp_path).finished == 52


def test_a_job_that_ended_says_so_and_one_that_was_killed_falls_silent(
    tmp_path: Path, written: ProgressFile, clock: Clock
) -> None:
    assert read(tmp_path).state(clock.now + SILENT - 1) == "running"
    assert read(tmp_path).state(clock.now + SILENT + 1) == "stopped"
    written.end()
    assert read(tmp_path).state(clock.now + SILENT + 1) == "ended"


def test_a_long_trial_gives_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "BEAT", 0.1)
    monkeypatch.setattr(progress, "LEAST", 0.01)
    file = ProgressFile(str(tmp_path))
    file.begin(total=1, finished=0, workers=1)
    first = read(tmp_path).beat
    end = time.monotonic() + 5
    while read(tmp_path).beat == first and time.monotonic() < end:
        time.sleep(0.02)
    assert read(tmp_path).beat > first
    file.end()


def test_a_full_disk_does_not_end_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    file = ProgressFile(str(tmp_path), clock)
    monkeypatch.setattr("assay.store.files._replace", full)
    file.begin(total=1, finished=0, workers=1)
    file.end()
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"running": 3}), json.dumps({"running": [], "later": 1})])
def test_a_file_of_another_version_is_no_error(text: str) -> None:
    assert Progress.from_text(text) is None
