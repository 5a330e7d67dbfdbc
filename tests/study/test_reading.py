"""What was read of the data reaches the user, and no result depends on the words."""

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from assay.data.base import Dataset
from assay.errors import DataError
from assay.executors import LocalExecutor
from assay.store.folder import Store
from assay.study.plan import forecast_study, load_unsized
from assay.study.run import run_study
from assay.study.spec import Cohort, Study
from jobs.progress import ConsoleWatcher

LINES = ("60 rows of patients.csv, 58 used; 2 dropped: no label in line 7, line 9",)


@pytest.fixture
def _read(monkeypatch: pytest.MonkeyPatch) -> None:
    load = Cohort.load
    monkeypatch.setattr(Cohort, "load", lambda self: replace(load(self), reading=LINES))


def test_what_was_read_says_nothing_of_the_identity(wdbc: Dataset) -> None:
    said = replace(wdbc, reading=LINES)
    assert (said.identity, said.digest) == (wdbc.identity, wdbc.digest)
    assert said.about["reading"] == list(LINES)


@pytest.mark.usefixtures("_read")
def test_a_study_tells_what_it_read_and_keeps_it_with_every_result(
    tiny: Callable[..., Study], watcher: Callable, tmp_path: object
) -> None:
    study, seen, store = tiny({"standard": {}}), watcher(), Store(str(tmp_path) + "/results")
    run_study(study, store, LocalExecutor(), watcher=seen, publish=lambda _: None)
    assert seen.readings == {"made": LINES}
    assert all(record.provenance["data"]["reading"] == list(LINES) for record in seen.records)
    assert len(seen.records) == 2


@pytest.mark.usefixtures("_read")
def test_a_dry_run_loads_data_of_unknown_size_once(tiny: Callable[..., Study], monkeypatch: pytest.MonkeyPatch) -> None:
    study, loads, load = tiny(), [], Cohort.load
    monkeypatch.setattr(Cohort, "load", lambda self: loads.append(self) or load(self))
    loaded = load_unsized(study)
    assert [f.records for f in forecast_study(study, loaded)] == [26, 26]
    assert len(loads) == 1
    data = loaded["made"]
    assert isinstance(data, Dataset)
    assert data.reading == LINES


def test_a_dry_run_knows_why_data_cannot_be_used(tiny: Callable[..., Study]) -> None:
    study = tiny(cohort={"dataset": {"name": "arrays", "path": "nowhere.npz"}})
    assert isinstance(load_unsized(study)["made"], DataError)


def test_the_console_prints_each_line_and_each_warning(wdbc: Dataset) -> None:
    text = io.StringIO()
    data = replace(wdbc, reading=LINES, warnings=("[bold]odd[/bold]",))
    ConsoleWatcher(Console(file=text, width=40)).read("made", data)
    assert text.getvalue().splitlines() == [f"made: {LINES[0]}", "made: [bold]odd[/bold]"]
