"""In an object store one job writes at a time, as far as a store without conditional writes allows."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyarrow import fs

from assay.errors import StorageError, UserError
from assay.store import lease
from assay.store.files import Files
from tests.mistakes import refused

Job = Callable[[], Files]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """The files of one folder in a bucket, as each of several jobs has them; times are a hundredth of the real ones."""
    for name in ("BEAT", "SILENCE", "SETTLING", "_LOOK"):
        monkeypatch.setattr(lease, name, getattr(lease, name) / 100)
    bucket = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    monkeypatch.setattr("assay.store.files._reached", lambda location: (bucket, "results"))
    return lambda: Files("s3://bucket/results")


def holder(tmp_path: Path) -> dict[str, object]:
    return dict(json.loads((tmp_path / "results" / lease.NAME).read_bytes()))


@pytest.fixture
def killed(job: Job, tmp_path: Path) -> Iterator[Files]:
    """A job whose heartbeat has ended, though it holds the lease."""
    files, over = job(), threading.Event()

    def hold() -> None:
        with files.locked():
            files._lease._beat = lambda over: None  # type: ignore[union-attr, method-assign]
            over.wait(60)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease, "BEAT", 60.0)
        thread = threading.Thread(target=hold)
        thread.start()
        while files._lease is None:
            time.sleep(0.001)
    yield files
    over.set()
    thread.join()


def test_a_second_job_is_refused_while_the_first_shows_a_heartbeat(job: Job) -> None:
    first, second = job(), job()
    with first.locked():
        first.commit("study.yaml", b"first")
        with refused(UserError, "results", "results"), second.locked():
            pytest.fail("two jobs hold one lease")
        first.commit("study.yaml", b"first again")
    with second.locked():
        second.commit("study.yaml", b"second")
    assert first.read("study.yaml") == b"second"


def test_the_lease_is_given_back_at_the_end_and_after_an_error(job: Job, tmp_path: Path) -> None:
    for number in (1, 2):
        began = time.monotonic()
        with pytest.raises(RuntimeError, match="trouble"), job().locked():
            assert holder(tmp_path)["number"] == number
            raise RuntimeError("trouble")
        assert holder(tmp_path)["owner"] == ""
        assert time.monotonic() - began < lease.SILENCE, "nobody waits for a lease that was given back"


def test_the_heartbeat_moves(job: Job, tmp_path: Path) -> None:
    with job().locked():
        before = holder(tmp_path)
        deadline = time.monotonic() + 10
        while holder(tmp_path)["beat"] == before["beat"]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert {**holder(tmp_path), "beat": 0} == {**before, "beat": 0}


def test_a_killed_job_is_replaced_after_its_silence_and_writes_nothing_more(killed: Files, job: Job) -> None:
    killed.commit("study.yaml", b"before")
    successor = job()
    began = time.monotonic()
    with successor.locked():
        assert time.monotonic() - began >= lease.SILENCE
        for write in (
            lambda: killed.commit("study.yaml", b"late"),
            lambda: killed.move("study.yaml", "superseded.yaml"),
            lambda: killed.delete("study.yaml"),
            lambda: killed.delete_folders("", "trials"),
        ):
            with refused(StorageError, "results", "results"):
                write()
        assert successor.read("study.yaml") == b"before"
        successor.commit("study.yaml", b"after")
    assert successor.read("study.yaml") == b"after"


def test_of_two_that_begin_at_once_the_last_to_write_goes_on(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = job(), job()
    settled: list[str] = []

    def settle(seconds: float) -> None:
        if not settled:
            settled.append("first")
            stack.enter_context(second.locked())

    with contextlib.ExitStack() as stack:
        monkeypatch.setattr(lease.time, "sleep", settle)
        with refused(UserError, "results", "results"), first.locked():
            pytest.fail("two jobs hold one lease")
        second.commit("study.yaml", b"second")


def test_a_damaged_lease_is_named(job: Job, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / lease.NAME).write_text("{")
    with refused(StorageError, "results", "results"), job().locked():
        pass


def test_a_job_that_is_interrupted_while_it_takes_the_lease_gives_it_back(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("assay.store.lease.time.sleep", interrupted)
    with pytest.raises(KeyboardInterrupt), job().locked():
        pytest.fail("it was interrupted before")
    assert holder(tmp_path)["owner"] == ""
