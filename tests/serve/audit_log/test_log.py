"""The log of a process: full disks, batches, several writers, and what a line holds."""

import errno
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from assay.errors import StorageError
from serve.audit_log import files
from serve.audit_log.decision import LogFullError, Refused, entry_of
from serve.audit_log.keys import FILE, Keys
from serve.audit_log.log import DecisionLog
from serve.audit_log.reading import entries
from serve.audit_log.verify import verify
from tests.serve.audit_log.test_verify import decision


class Disk:
    """A disk with room for so many bytes: writes what fits, then raises ENOSPC."""

    def __init__(self) -> None:
        self.room = 1 << 30

    def write(self, file: int, content: bytes) -> int:
        fits = content[: self.room]
        if not fits:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= len(fits)
        return os.write(file, fits)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk()
    monkeypatch.setattr(files, "write_some", disk.write)
    monkeypatch.setattr("serve.audit_log.log.EVERY", 0.02)
    yield disk


def until(holds: Callable[[], bool]) -> None:
    """Waits for the thread of the log."""
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, "the log did not do it"
        time.sleep(0.005)


def refuses(log: DecisionLog) -> bool:
    try:
        log.record(decision())
    except LogFullError:
        return True
    return False


def events(folder: Path) -> list[str]:
    return [one.entry["event"] for one in entries(folder)]


@pytest.mark.parametrize("room", [0, 1, 333])
def test_on_a_full_disk_nothing_is_answered_until_there_is_room(tmp_path: Path, disk: Disk, room: int) -> None:
    log = DecisionLog(tmp_path, full="refuse")
    disk.room = room
    until(lambda: refuses(log))
    with pytest.raises(LogFullError, match="the disk is full"):
        log.record(decision())
    disk.room = 1 << 30
    until(lambda: not refuses(log))
    log.close()
    (report,) = verify(tmp_path)
    assert (report.faults, report.torn) == ([], [])
    assert "lost" not in events(tmp_path), "what was answered before the disk was full has its line"


def test_a_service_that_goes_on_says_how_many_lines_are_lost(tmp_path: Path, disk: Disk) -> None:
    log = DecisionLog(tmp_path, full="continue")
    log.record(decision())
    disk.room = 333
    given = 1
    while not log._why:
        log.record(decision())
        given += 1
        time.sleep(0.005)
    for _ in range(7):
        log.record(decision())
    given += 7
    disk.room = 1 << 30
    until(lambda: not log._why)
    log.close()
    (report,) = verify(tmp_path)
    assert (report.faults, report.torn) == ([], [])
    lost = [one.entry["calls"] for one in entries(tmp_path) if one.entry["event"] == "lost"]
    assert sum(lost) >= 7
    assert report.answers + sum(lost) == given


def test_an_answer_waits_for_its_line_where_that_is_asked(tmp_path: Path, disk: Disk) -> None:
    log = DecisionLog(tmp_path, sync="always")
    written = log.record(decision())
    assert written is not None
    written.result(20)
    assert verify(tmp_path)[0].answers == 1
    disk.room = 5
    written = log.record(decision())
    assert written is not None
    with pytest.raises(LogFullError):
        written.result(20)
    disk.room = 1 << 30
    log.close()


def test_a_disk_that_is_full_at_the_start_is_an_error_that_says_so(tmp_path: Path, disk: Disk) -> None:
    disk.room = 0
    with pytest.raises(StorageError, match="the disk is full"):
        DecisionLog(tmp_path)


def test_two_writers_have_chains_of_their_own_and_a_third_start_continues_the_free_one(tmp_path: Path) -> None:
    one, two = DecisionLog(tmp_path), DecisionLog(tmp_path)
    assert one.writer != two.writer
    for _ in range(100):
        one.record(decision())
        two.record(decision())
    one.close()
    again = DecisionLog(tmp_path)
    assert again.writer == one.writer
    again.close()
    two.close()
    reports = verify(tmp_path)
    assert [report.answers for report in reports] == [100, 100]
    assert not any(report.faults for report in reports)


def test_a_large_file_is_followed_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.audit_log.chain.LARGEST", 2000)
    log = DecisionLog(tmp_path, sync="always")
    for _ in range(20):
        written = log.record(decision())
        assert written is not None
        written.result(20)
    log.close()
    (report,) = verify(tmp_path)
    assert report.files > 3
    assert report.faults == []


def test_refused_calls_are_counted_and_events_of_models_are_lines(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path)
    for status in (422, 422, 503):
        log.record(Refused(status))
    log.event("promote", model="triage", version="2", before="1")
    log.close()
    assert events(tmp_path) == ["file", "start", "promote", "refusals", "stop"]
    found = {one.entry["event"]: one.entry for one in entries(tmp_path)}
    assert found["refusals"]["counts"] == {"422": 2, "503": 1}
    assert (found["promote"]["version"], found["promote"]["before"]) == ("2", "1")


def test_a_line_holds_nothing_of_the_request_but_keyed_hashes(tmp_path: Path) -> None:
    key = Keys.create(tmp_path).current
    body = b'{"instances": [["Ada Lovelace"]]}'
    said = decision(body=body, request_id="Ada Lovelace", records=torch.tensor([[7, 8]]), classes=np.array([1]))
    entry = entry_of(said, key)
    assert "Ada" not in json.dumps(entry)
    assert "request_id" not in entry
    assert entry_of(decision(request_id="a-1.B_2"), key)["request_id"] == "a-1.B_2"
    other = tmp_path / "other"
    other.mkdir()
    assert entry["inputs"] != entry_of(decision(records=np.array([[7, 8]])), Keys.create(other).current)["inputs"]
    assert entry["inputs"] == entry_of(decision(records=np.array([[7, 8]])), key)["inputs"]
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_a_line_whose_details_cannot_be_read_is_a_line_all_the_same(tmp_path: Path) -> None:
    class Odd:
        nbytes = 0

    log = DecisionLog(tmp_path)
    log.record(decision(records=Odd()))
    log.record(decision())
    log.close()
    answers = [one.entry for one in entries(tmp_path) if one.entry["event"] == "answer"]
    assert [("lacks_details" in entry, "inputs" in entry) for entry in answers] == [(True, False), (False, True)]
