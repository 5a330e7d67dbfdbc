"""What a person reads while a study runs."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from assay.results import TrialRecord
from assay.study.plan import load_datasets, plan
from assay.study.reading import build_study
from jobs.progress import ConsoleWatcher


def record(error: str = "") -> TrialRecord:
    asked = {"dataset": "made", "model": "mlp", "recipe": "standard", "fold": 0, "repeat": 0}
    return TrialRecord(trial="t1", measurements=(), seconds=1.5, error=error, **asked)


@pytest.fixture
def seen() -> tuple[ConsoleWatcher, Callable[[], str]]:
    text = io.StringIO()
    return ConsoleWatcher(Console(file=text, width=140)), text.getvalue


def test_every_finished_trial_is_a_line(seen: tuple[ConsoleWatcher, Any]) -> None:
    watcher, text = seen
    watcher.begin(total=3, finished=1, workers=2)
    watcher.done(record(), "made · standard · fold 1", seconds_left=75.2, workers=2)
    watcher.done(record(), "made · standard · fold 2", seconds_left=0, workers=2)
    watcher.end()
    assert text().splitlines() == [
        "3 trials on 2 workers, 1 finished before",
        "[  2/3] done made · standard · fold 1 · 1.5 s · 1 left, about 1 min 15 s",
        "[  3/3] done made · standard · fold 2 · 1.5 s · all done",
    ]


def test_the_number_of_workers_is_told_when_it_changes(seen: tuple[ConsoleWatcher, Any]) -> None:
    watcher, text = seen
    watcher.begin(total=5, finished=0, workers=1)
    for number, workers in enumerate((1, 4, 4, 3), start=1):
        watcher.done(record(), f"trial {number}", seconds_left=8.0, workers=workers)
    watcher.end()
    assert [line.rpartition(", ")[2] for line in text().splitlines()[1:]] == [
        "about 8 s",
        "about 8 s on 4 workers",
        "about 8 s",
        "about 8 s on 3 workers",
    ]


def test_a_failure_says_why_on_one_line(seen: tuple[ConsoleWatcher, Any]) -> None:
    watcher, text = seen
    watcher.begin(total=2, finished=0, workers=1)
    failed = record(error="ValueError: [bold]odd[/bold] shape\nTraceback …")
    watcher.done(failed, "made · standard · fold 1", seconds_left=4, workers=1)
    watcher.end()
    lines = text().splitlines()
    assert lines[0] == "2 trials on 1 worker"
    assert lines[1].startswith("[  1/2] failed made · standard · fold 1")
    assert lines[1].endswith("1 left, about 4 s")
    assert lines[2].strip() == "ValueError: [bold]odd[/bold] shape"
    assert len(lines) == 3


def test_the_first_and_the_last_round_are_told(seen: tuple[ConsoleWatcher, Any]) -> None:
    watcher, text = seen
    cohort = {"dataset": "wdbc", "recipes": {"fed": {"federation": {"clients": 2}}}}
    study = build_study({"name": "led", "cohorts": {"made": cohort}}, "led.yaml")
    trial = plan(study, load_datasets(study))[0]
    for number in (1, 2, 3):
        watcher.leading(trial, number, 3)
    assert [line.strip() for line in text().splitlines()] == [
        "leading made · fed · fold 1 · round 1 of 3",
        "leading made · fed · fold 1 · round 3 of 3",
    ]


def test_a_study_without_trials_to_run_is_no_error(seen: tuple[ConsoleWatcher, Any]) -> None:
    watcher, text = seen
    watcher.begin(total=4, finished=4, workers=1)
    watcher.end()
    assert text().splitlines() == ["all 4 trials were finished before"]
