"""A long step says what it does, however silent it is; a short one says nothing."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay import progress
from assay.evaluations import accuracy
from assay.executors import LocalExecutor
from assay.results import TrialRecord
from assay.store.folder import Store
from assay.store.reader import Reader
from assay.study.run import run_study
from assay.study.spec import Study


def until(said: list[str], wanted: str) -> None:
    """Wait until a line holds this, for a second at most."""
    for _ in range(200):
        if any(wanted in line for line in said):
            return
        time.sleep(0.005)
    pytest.fail(f"{wanted!r} was never said, only {said}")


def test_the_innermost_step_is_told_with_how_far_it_is() -> None:
    said: list[str] = []
    with progress.listening(said.append, every=0.01), progress.step("trial 3"), progress.step("robustness"):
        until(said, "trial 3: robustness, 0 s")
        progress.tell(7, 20)
        until(said, "trial 3: robustness, 35 %, 0 s")
        with progress.step("surrogate"):
            until(said, "trial 3: robustness, surrogate, 0 s")
        until(said[-1:] and said, "35 %")


def test_nothing_is_told_without_a_step_or_after_it() -> None:
    said: list[str] = []
    with progress.listening(said.append, every=0.01):
        time.sleep(0.05)
        with progress.step("short"):
            pass
        time.sleep(0.05)
    assert said == []
    assert not progress.wanted()


def test_a_step_that_fails_is_left() -> None:
    said: list[str] = []
    with progress.listening(said.append, every=0.01):
        with pytest.raises(ValueError, match="odd"), progress.step("failing"):
            raise ValueError("odd")
        time.sleep(0.05)
    assert said == []


def test_items_of_a_list_are_counted() -> None:
    said: list[str] = []

    def work(item: int, _: None) -> int:
        if item == 3:
            until(said, "trial: 75 %")
        return item

    with progress.listening(said.append, every=0.01), progress.step("trial"):
        assert [outcome.value for outcome in LocalExecutor().map(work, [0, 1, 2, 3], None)] == [0, 1, 2, 3]


def test_a_study_tells_which_trial_is_asked_what(
    tiny: Callable[..., Any], watcher: Callable[[], Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, measure = watcher(), accuracy.Accuracy.measure

    def slow(self: Any, subject: Any) -> Any:
        until(seen.statuses, "accuracy")
        return measure(self, subject)

    listening = progress.listening
    monkeypatch.setattr(progress, "listening", lambda listener: listening(listener, every=0.01))
    monkeypatch.setattr(accuracy.Accuracy, "measure", slow)
    store = Store(str(tmp_path / "results"))
    run_study(tiny({"standard": {}}), store, LocalExecutor(), watcher=seen, publish=lambda _: None)
    assert not any(record.failed for record in seen.records)
    assert any(line.startswith("made · standard · fold 2: accuracy, ") for line in seen.statuses)


def test_a_run_tells_its_progress_to_whoever_reads_the_folder(
    tiny: Callable[..., Study], watcher: Callable[[], Any], tmp_path: Path
) -> None:
    store, told, seen = Store(str(tmp_path / "results")), watcher(), []

    def look(record: TrialRecord) -> None:
        seen.append(Reader(store.location).progress())

    run_study(tiny(), store, LocalExecutor(), watcher=told, publish=lambda _: None, mirror=look)
    ended = Reader(store.location).progress()
    assert seen[0] is not None
    assert (seen[0].total, seen[0].state(seen[0].beat)) == (4, "running")
    assert ended is not None
    assert (ended.finished, ended.failed, ended.running, ended.ended) == (4, 0, (), True)
    assert sorted(told.started_labels) == [
        f"made · {recipe} · fold {fold}" for recipe in ("slow", "standard") for fold in (1, 2)
    ]
