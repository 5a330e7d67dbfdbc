"""The index says what the files say, whatever was killed, deleted, moved or damaged, and opens none of them."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from assay.metrics import declared
from assay.results import Measurement, TrialRecord
from assay.store.columns import HEADLINES
from assay.store.files import Files
from assay.store.folder import Store
from assay.store.reader import load_rows

Record = Callable[..., TrialRecord]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def indexed(folder: Path, record: Record) -> Path:
    """Three trials, written by a job that held the lock."""
    store = Store(str(folder))
    with store.locked():
        for name in ("a", "b", "c"):
            store.write(record(name, provenance={"asked": {"cohort": f"cohort of {name}"}}))
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Trials whose results file was opened."""
    names: list[str] = []

    def counted(files: Files, folder: str, trial: str) -> object:
        names.append(trial)
        return load_rows(files, folder, trial)

    monkeypatch.setattr("assay.store.folder.load_rows", counted)
    return names


def from_files(folder: Path) -> pd.DataFrame:
    """What the files alone say."""
    bare = folder.with_name("bare")
    shutil.rmtree(bare, ignore_errors=True)
    shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("index"))
    return Store(str(bare)).frame()


def same(folder: Path) -> None:
    pd.testing.assert_frame_equal(Store(str(folder)).frame(), from_files(folder))


def test_no_file_is_opened(indexed: Path, opened: list[str]) -> None:
    store = Store(str(indexed))
    assert len(store.frame()) == 6
    assert store.finished() == {"a", "b", "c"}
    assert store.asked()["b"]["cohort"] == "cohort of b"
    assert store.columns().num_rows == 3
    assert opened == []


def test_rows_and_columns_are_those_of_the_files(indexed: Path) -> None:
    same(indexed)
    row = Store(str(indexed)).columns().to_pylist()[1]
    assert (row["trial"], row["cohort"], row["recipe"], row["fold"], row["error"]) == (
        "b",
        "cohort of b",
        "standard",
        0,
        "",
    )
    assert row["accuracy"] == 0.9
    assert pd.isna(row["epsilon"]), "not measured is not a number"


def test_columns_hold_the_worst_case_at_each_radius(folder: Path, record: Record) -> None:
    store = Store(str(folder))
    worst = [
        Measurement(name="worst_case_accuracy", value=value, conditions={"norm": "linf", "epsilon": epsilon})
        for epsilon, value in ((0.0, 0.9), (0.5, 0.4))
    ]
    with store.locked():
        store.write(record("t", measurements=tuple(worst)))
    assert Store(str(folder)).columns().to_pylist()[0]["worst_case"] == [
        {"norm": "linf", "epsilon": 0.0, "accuracy": 0.9},
        {"norm": "linf", "epsilon": 0.5, "accuracy": 0.4},
    ]


def test_a_reader_sees_what_a_writer_adds_meanwhile(indexed: Path, record: Record, opened: list[str]) -> None:
    reader, writer = Store(str(indexed)), Store(str(indexed))
    offset = reader.since(None)[1]
    with writer.locked():
        writer.write(record("d"))
        found, offset = reader.since(offset)
        assert found == ["d"]
        assert reader.since(offset)[0] == []
        assert set(reader.frame()["trial"]) == {"a", "b", "c", "d"}
        writer.keep_only(["a", "d"])
        assert reader.since(offset)[0] == ["b", "c"]
    assert opened == ["b", "c"], "only what was moved is read again"
    same(indexed)


def test_whoever_follows_a_log_that_was_made_anew_begins_again(indexed: Path) -> None:
    store = Store(str(indexed))
    offset = store.since(None)[1]
    shutil.rmtree(indexed / "index")
    with Store(str(indexed)).locked():
        pass
    assert store.since(offset)[0] == ["a", "b", "c"]


@pytest.mark.parametrize("change", ["delete", "replace", "add", "move"])
def test_a_file_that_changed_without_the_index_is_noticed(indexed: Path, record: Record, change: str) -> None:
    files = indexed / "trials"
    if change == "delete":
        (files / "b.parquet").unlink()
    elif change == "move":
        (indexed / "superseded").mkdir()
        (files / "b.parquet").rename(indexed / "superseded" / "b.parquet")
    else:
        Store(str(indexed)).write(record("b" if change == "replace" else "d", error="it failed", measurements=()))
    same(indexed)
    with Store(str(indexed)).locked():
        pass
    same(indexed)
    assert "it failed" in str(Store(str(indexed)).failures()) or change in ("delete", "move")


@pytest.mark.parametrize("name", ["trials.log", "columns.log"])
@pytest.mark.parametrize("damage", ["cut", "flip", "absent", "other", "empty"])
def test_a_damaged_index_loses_nothing(indexed: Path, record: Record, name: str, damage: str) -> None:
    file = indexed / "index" / name
    content = bytearray(file.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flip":
        for place in range(100, len(content), 50):
            content[place] ^= 0xFF
    elif damage == "other":
        content = bytearray(b"something else that lies here")
    elif damage == "empty":
        content = bytearray()
    file.unlink()
    if damage != "absent":
        file.write_bytes(content)
    same(indexed)
    store = Store(str(indexed))
    with store.locked():
        store.write(record("d"))
    same(indexed)
    assert store.columns().num_rows == 4


def test_nothing_stays_of_a_trial_that_was_deleted(indexed: Path, record: Record) -> None:
    store = Store(str(indexed))
    assert b"cohort of b" in (indexed / "index" / "trials.log").read_bytes()
    # As jobs leave them that are killed while they write.
    half = [indexed / folder / f".{name}.tmp" for folder, name in (("trials", "x.parquet"), ("index", "trials.log"))]
    half += [indexed / ".study.yaml.tmp"]
    for file in half:
        file.write_bytes(b"cohort of b")
    with store.locked():
        store.delete("b", "c")
    assert not any(file.exists() for file in half)
    for file in (file for file in indexed.rglob("*") if file.is_file()):
        assert b"cohort of b" not in file.read_bytes()
    assert store.columns()["trial"].to_pylist() == ["a"]
    same(indexed)


def test_nothing_stays_of_a_file_that_was_deleted_by_hand(indexed: Path) -> None:
    (indexed / "trials" / "b.parquet").unlink()
    with Store(str(indexed)).locked():
        pass
    assert b"cohort of b" not in (indexed / "index" / "trials.log").read_bytes()


def test_the_log_does_not_grow_without_an_end(folder: Path, record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.store.index._FEW", 8)
    store = Store(str(folder))
    with store.locked():
        for _ in range(50):
            store.write(record("a"))
    size = (folder / "index" / "trials.log").stat().st_size
    with store.locked():
        store.write(record("a"))
    assert size < 12 * (folder / "trials" / "a.parquet").stat().st_size
    same(folder)


def test_columns_that_lag_behind_the_log_are_completed(
    indexed: Path, record: Record, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    before = (indexed / "index" / "columns.log").read_bytes()
    store = Store(str(indexed))
    with store.locked():
        store.write(record("b", error="now it failed", measurements=()))
        store.write(record("d"))
    (indexed / "index" / "columns.log").write_bytes(before)
    found = {row["trial"]: row["error"] for row in Store(str(indexed)).columns().to_pylist()}
    assert found == {"a": "", "b": "now it failed", "c": "", "d": ""}
    assert opened == []


def test_headlines_are_figures_that_evaluations_declare() -> None:
    known = {metric.name for _, metric in declared()}
    assert set(HEADLINES) <= known and "worst_case_accuracy" in known


def write_until_killed(folder: Path, record: Record, seed: int) -> None:
    draw = random.Random(seed)
    store = Store(str(folder))
    with store.locked():
        while True:
            name = f"trial{draw.randrange(12)}"
            action = draw.random()
            if action < 0.1:
                store.delete(name)
            elif action < 0.2:
                store.keep_only(f"trial{k}" for k in range(draw.randrange(12)))
            else:
                error = "failed" if action > 0.9 else ""
                store.write(record(name, error=error, provenance={"asked": {"cohort": str(draw.random())}}))


def test_the_index_equals_the_files_after_twenty_kills(folder: Path, record: Record) -> None:
    draw = random.Random(0)
    for kill in range(20):
        child = os.fork()
        if child == 0:
            try:
                write_until_killed(folder, record, seed=kill)
            finally:
                os._exit(1)
        time.sleep(0.05 + 0.1 * draw.random())
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        same(folder)
    with Store(str(folder)).locked():
        pass
    same(folder)
