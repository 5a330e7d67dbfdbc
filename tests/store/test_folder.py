"""A reader sees whole trials or none, as one table; a plan changes and nothing is lost; one job writes at a time."""

import contextlib
import errno
import json
import math
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from assay.errors import StorageError, UserError
from assay.outcomes import Outcomes
from assay.results import Answer, Measurement, TrialRecord
from assay.store.folder import Store
from assay.training.checkpoints import artefact_of
from tests.mistakes import refused

Record = Callable[..., TrialRecord]

# As the design has it.
COLUMNS = {
    "trial": "string",
    "dataset": "string",
    "model": "string",
    "recipe": "string",
    "fold": "int32",
    "repeat": "int32",
    "name": "string",
    "value": "double",
    "unit": "string",
    "conditions": "string",
    "n": "int64",
    "low": "double",
    "high": "double",
    "status": "string",
    "warnings": "list<element: string>",
    "reason": "string",
    "flags": "list<element: struct<verdict: string, message: string, rule: string>>",
    "kind": "string",
    "rule": "string",
    "verdict": "string",
    "concerns": "list<element: string>",
    "outcomes": "binary",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def store(folder: Path) -> Store:
    return Store(str(folder))


def test_a_trial_is_one_file_of_the_published_columns(store: Store, folder: Path, record: Record) -> None:
    store.write(record("t1"))
    schema = pq.read_schema(folder / "trials" / "t1.parquet")
    assert {field.name: str(field.type) for field in schema} == COLUMNS
    assert not schema.field("status").nullable


def test_every_measurement_is_a_row(store: Store, record: Record) -> None:
    store.write(record("t1", recipe="private", fold=3, repeat=2))
    found = store.frame().to_dict("records")
    assert [row["name"] for row in found] == ["accuracy", "epsilon"]
    measured, missing = found
    assert (measured["recipe"], measured["fold"], measured["repeat"]) == ("private", 3, 2)
    assert (measured["value"], measured["low"], measured["high"], measured["n"]) == (0.9, 0.8, 0.95, 60)
    assert measured["conditions"] == {"ε": 0.1, "on": ["a", 1]}
    assert (missing["status"], missing["warnings"]) == ("not_applicable", ["not private", "ε = ∞"])


def test_rows_know_the_cohort_that_asked_for_them(store: Store, record: Record) -> None:
    store.write(record("t1", provenance={"asked": {"cohort": "large"}}))
    store.write(record("t2"))
    assert store.frame().groupby("trial")["cohort"].unique().map(list).to_dict() == {"t1": ["large"], "t2": [""]}


def test_rows_know_whether_an_official_split_was_used(store: Store, record: Record) -> None:
    store.write(record("t1", provenance={"asked": {"official": True}}))
    store.write(record("t2", provenance={"asked": {"official": False}}))
    store.write(record("t3"))
    found = store.frame()
    assert found["official"].dtype == bool
    assert found.groupby("trial")["official"].unique().map(list).to_dict() == {
        "t1": [True],
        "t2": [False],
        "t3": [False],
    }


def test_what_is_not_measured_is_nan_and_neither_zero_nor_null(store: Store, folder: Path, record: Record) -> None:
    store.write(record("t1"))
    column = pq.read_table(folder / "trials" / "t1.parquet")["value"]
    assert column.null_count == 0
    assert math.isnan(column[1].as_py())


def test_conditions_are_json_in_the_file(store: Store, folder: Path, record: Record) -> None:
    store.write(record("t1"))
    (text, _) = pq.read_table(folder / "trials" / "t1.parquet")["conditions"].to_pylist()
    assert json.loads(text) == {"ε": 0.1, "on": ["a", 1]}


def test_a_failed_trial_is_one_row_with_its_error(store: Store, record: Record) -> None:
    store.write(record("t1", error="ValueError: odd\ntraceback"))
    (row,) = store.frame().to_dict("records")
    assert (row["name"], row["status"], row["warnings"]) == ("trial", "failed", ["ValueError: odd\ntraceback"])
    assert store.failures() == {"t1": "ValueError: odd\ntraceback"}


def test_failures_are_not_finished(store: Store, record: Record) -> None:
    store.write(record("t1"))
    store.write(record("t2", error="ValueError"))
    assert store.finished() == {"t1"}
    store.write(record("t2"))
    assert store.finished() == {"t1", "t2"}
    assert store.failures() == {}


def test_all_trials_are_one_table_whatever_a_killed_job_left_behind(store: Store, folder: Path, record: Record) -> None:
    store.write(record("t1"))
    store.write(record("t2", error="ValueError", provenance={"source": "other"}))
    (folder / "trials" / ".t3.parquet.tmp").write_bytes(b"half a")
    assert ds.dataset(folder / "trials").to_table().num_rows == 3
    assert sorted(pd.read_parquet(folder / "trials")["trial"]) == ["t1", "t1", "t2"]
    assert sorted(store.frame()["trial"]) == ["t1", "t1", "t2"]
    assert store.finished() == {"t1"}


def test_an_empty_store_has_an_empty_table(store: Store) -> None:
    assert list(store.frame().columns) == [*COLUMNS, "cohort", "official"]
    assert len(store.frame()) == 0
    assert store.finished() == set()
    assert store.failures() == {}


@pytest.mark.parametrize("target", ["os.fsync", "pathlib.Path.replace"])
def test_a_crash_before_the_rename_leaves_no_trial(
    store: Store, folder: Path, record: Record, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    def crash(*_: object) -> None:
        raise SystemExit("killed")

    store.write(record("t1", value=0.5))
    with monkeypatch.context() as patched:
        patched.setattr(target, crash)
        for trial in ("t1", "t2"):
            with pytest.raises(SystemExit):
                store.write(record(trial, value=0.7, weights=b""))
    assert store.frame()["value"].dropna().tolist() == [0.5]
    assert ds.dataset(folder / "trials").to_table().num_rows == 2
    store.write(record("t2"))
    assert store.finished() == {"t1", "t2"}
    assert sorted(path.name for path in (folder / "trials").iterdir() if "t2" in path.name) == ["t2.parquet"]


def test_the_checkpoint_is_there_before_the_trial_is(
    store: Store, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, target: (order.append(Path(target).name), replace(self, target)))
    store.write(record("t1"))
    assert order == ["t1.safetensors", "t1.parquet"]


def test_content_is_synced_before_the_rename(store: Store, record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda file: (order.append("sync"), sync(file)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (order.append("rename"), replace(self, to)))
    store.write(record("t1", weights=b""))
    assert order == ["sync", "rename"]


def test_checkpoints_come_back_byte_for_byte(store: Store, record: Record) -> None:
    assert store.checkpoint("t1") is None
    store.write_checkpoint("t1", b"\x00early")
    assert store.checkpoint("t1") == b"\x00early"
    store.write(record("t1"))
    assert store.checkpoint("t1") == b"weights"


def test_a_failure_keeps_the_checkpoint_there_was(store: Store, record: Record) -> None:
    store.write_checkpoint("t1", b"trained")
    store.write(record("t1", error="ValueError"))
    assert store.checkpoint("t1") == b"trained"


def test_superseded_trials_move_out_and_come_back(store: Store, folder: Path, record: Record) -> None:
    for trial in ("t1", "t2"):
        store.write(record(trial))
    before = store.frame()
    store.keep_only(["t2", "t3"])
    assert store.finished() == set(store.frame()["trial"]) == {"t2"}
    assert (folder / "superseded" / "t1.parquet").is_file()
    assert store.checkpoint("t1") == b"weights"
    store.keep_only(["t1", "t2"])
    assert store.frame().equals(before)
    assert not list((folder / "superseded").iterdir())


def test_a_trial_that_was_run_anew_is_not_overwritten_by_its_past(store: Store, record: Record) -> None:
    store.write(record("t1", value=0.5))
    store.keep_only([])
    store.write(record("t1", value=0.7))
    store.keep_only(["t1"])
    assert store.frame()["value"].dropna().tolist() == [0.7]


def test_texts_are_replaced_whole(store: Store, folder: Path) -> None:
    assert store.write_text("study.yaml", "name: ε") == str(folder / "study.yaml")
    store.write_text("study.yaml", "short")
    assert store.read_text("study.yaml") == "short"
    assert store.read_text("absent.yaml") == ""
    assert [path.name for path in folder.iterdir()] == ["study.yaml"]


def test_a_uri_is_a_location_too(folder: Path, record: Record) -> None:
    remote = Store(folder.as_uri())
    with remote.locked():
        remote.write(record("t1"))
    assert remote.finished() == Store(str(folder)).finished() == {"t1"}
    assert remote.checkpoint("t1") == b"weights"


def object_store(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Store:
    """A store that is not known to be local, and so is written and locked as one in a bucket."""
    monkeypatch.setattr("assay.store.lease.SETTLING", 0.0)
    folder.parent.mkdir(parents=True, exist_ok=True)
    bucket = fs.SubTreeFileSystem(str(folder.parent), fs.LocalFileSystem())
    monkeypatch.setattr("assay.store.files._reached", lambda location: (bucket, folder.name))
    return Store(f"s3://bucket/{folder.name}")


def test_a_store_without_rename_or_locks_holds_the_same(
    folder: Path, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = object_store(monkeypatch, folder)
    with objects.locked():
        objects.write(record("t1"))
        objects.write(record("t2"))
    objects.keep_only(["t2"])
    assert objects.finished() == Store(str(folder)).finished() == {"t2"}
    assert objects.read_text(Path(objects.write_text("study.yaml", "a: 1")).name) == "a: 1"


def test_a_relative_folder_stays_where_it_was(tmp_path: Path, record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("results/tiny")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.write(record("t1"))
    assert (tmp_path / "results" / "tiny" / "trials" / "t1.parquet").is_file()


@pytest.fixture
def holder(folder: Path) -> Iterator[int]:
    """The number of another process, forked from this one, that holds the lock until it is killed."""
    told, telling = os.pipe()
    process = os.fork()
    if not process:
        try:
            with Store(str(folder)).locked():
                os.write(telling, b"held")
                signal.pause()
        finally:
            os._exit(1)
    os.close(telling)
    assert os.read(told, 4) == b"held"
    os.close(told)
    yield process
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def test_a_second_job_is_refused_until_the_first_is_killed(
    store: Store, folder: Path, holder: int, record: Record
) -> None:
    said = f"another job is writing {folder}; wait for it, or give --results"
    with pytest.raises(UserError, match=said), store.locked():
        pytest.fail("two jobs hold one lock")
    store.write(record("t1"))
    assert store.finished() == {"t1"}
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    with store.locked():
        pass


def test_the_lock_is_given_back(store: Store) -> None:
    for _ in range(2):
        with pytest.raises(RuntimeError, match="trouble"), store.locked():
            raise RuntimeError("trouble")


def test_provenance_travels_with_the_trial(store: Store, folder: Path, record: Record) -> None:
    store.write(record("t1", provenance={"asked": {"seed": 7}, "source": "abc"}))
    about = json.loads(pq.read_schema(folder / "trials" / "t1.parquet").metadata[b"assay"])
    assert (about["asked"], about["source"], about["error"], about["seconds"]) == ({"seed": 7}, "abc", "", 1.5)


def test_a_trial_without_a_duration_can_be_stored(store: Store, folder: Path, record: Record) -> None:
    store.write(record("t1", seconds=math.nan, measurements=(Measurement(name="accuracy", value=1.0),)))
    about = json.loads(pq.read_schema(folder / "trials" / "t1.parquet").metadata[b"assay"])
    assert math.isnan(about["seconds"])


def test_a_file_in_the_place_of_results_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError) as caught:
        Store(str(tmp_path / "taken"))
    assert (caught.value.setting, caught.value.given) == ("results", str(tmp_path / "taken"))
    with pytest.raises(StorageError) as caught, Store(str(tmp_path / "taken" / "inside")).locked():
        pass
    assert caught.value.setting == "results"


def test_a_full_disk_loses_nothing_that_was_finished(
    store: Store, folder: Path, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store.write(record("t1"))
    monkeypatch.setattr("assay.store.files.os.fsync", full)
    with pytest.raises(StorageError) as caught:
        store.write(record("t2"))
    assert caught.value.setting == "results"
    assert store.finished() == {"t1"}
    assert not list(folder.rglob(".*.tmp"))


@pytest.mark.parametrize("content", [b"", b"PAR1 cut off"], ids=["empty", "cut off"])
def test_damaged_results_are_named(store: Store, folder: Path, record: Record, content: bytes) -> None:
    store.write(record("t1"))
    (folder / "trials" / "t1.parquet").write_bytes(content)
    for ask in (store.finished, store.frame):
        with pytest.raises(StorageError) as caught:
            ask()
        assert caught.value.given == str(folder / "trials" / "t1.parquet")


def test_a_location_of_no_known_kind_is_named() -> None:
    with refused(StorageError, "results", "nope://bucket/folder"):
        Store("nope://bucket/folder")


def test_what_became_of_each_record_comes_back_with_rows_and_answers(store: Store, record: Record) -> None:
    outcomes = Outcomes.of(np.array([True, False, True]), np.array([4, 8, 9]), np.array(["a", "a", "b"]))
    known = Measurement(name="accuracy", value=2 / 3, low=0.2, high=0.9, n=3, outcomes=outcomes)
    unknown = Measurement(name="auroc", value=0.7, low=0.6, high=0.8)
    answer = Answer(asked={"name": "accuracy"}, found=(known, unknown))
    store.write(record("t1", measurements=(known, unknown), answers={"a": answer}, training="m", artefact="w"))
    assert store.frame()["outcomes"].tolist() == [outcomes, None]
    assert store.answers("m", artefact_of(b"weights"))["a"] == (known, unknown)


def test_a_file_without_outcomes_is_read_beside_one_with_them(store: Store, folder: Path, record: Record) -> None:
    outcomes = Outcomes.of(np.array([True]), np.array([0]))
    for trial in ("new", "old"):
        store.write(record(trial, measurements=(Measurement(name="accuracy", value=1.0, outcomes=outcomes),)))
    path = folder / "trials" / "old.parquet"
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["outcomes"]), path)
    assert store.frame().set_index("trial")["outcomes"].to_dict() == {"new": outcomes, "old": None}
