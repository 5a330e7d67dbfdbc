"""A sweep runs every point once, whatever happens to it on the way, and keeps nothing that ended early as a result."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pyarrow import fs
from ray import tune

from assay.data.base import Dataset
from assay.devices import device
from assay.errors import StorageError, UserError
from assay.executors import LATER, Executor, LocalExecutor, Outcome
from assay.ledger import Ledger
from assay.release.keeper import Keeper
from assay.results import TrialRecord
from assay.store.files import Files
from assay.store.folder import Store
from assay.study.plan import plan
from assay.study.spec import Study
from assay.study.sweep_items import AtRung, SweepItem, run_item
from assay.study.sweep_prepare import PreparedSweep, prepare_sweep
from assay.study.sweep_run import SweepSummary, run_sweep
from assay.study.sweep_rungs import last_rungs
from assay.training.checkpoints import networks_from_bytes
from tests.studies import Memory, without_times

Make = Callable[..., PreparedSweep]
RATES = {"training.learning_rate": tune.loguniform(1e-3, 1e-1)}
GRID = {
    "training.learning_rate": tune.grid_search([0.01, 0.1]),
    "model.hidden": tune.grid_search([[4], [6, 4]]),
}


@pytest.fixture
def make(tiny: Callable[..., Study]) -> Make:
    """A sweep over sixty patients; ``epochs``, ``recipe`` and what ``prepare_sweep`` takes may be given."""

    def prepared(
        space: Mapping[str, Any] = GRID, *, epochs: int = 2, recipe: Any = None, **settings: Any
    ) -> PreparedSweep:
        base = tiny({"base": {**(recipe or {}), "training": {"epochs": epochs}}})
        asked = {"asked": ("accuracy", "privacy", "cost"), "tested": "validation", "default_samples": 6, **settings}
        return prepare_sweep(base, name="mine", space=lambda radius: space, cohort=None, recipe="base", **asked)

    return prepared


class Counting:
    """Runs items, and remembers which."""

    def __init__(self, fail: Callable[[int], None] = lambda count: None) -> None:
        self.items: list[tuple[str, int | None]] = []
        self._fail = fail

    def __call__(self, item: SweepItem, datasets: Mapping[str, Dataset]) -> TrialRecord | AtRung:
        self._fail(len(self.items))
        self.items.append((item.trial.id, item.rung))
        return run_item(item, datasets)


def swept(ready: PreparedSweep, folder: Path, **settings: Any) -> SweepSummary:
    about = {"watcher": Memory(), **settings}
    return run_sweep(ready, Store(str(folder)), about.pop("executor", LocalExecutor()), **about)


def rows(folder: Path) -> list[tuple[str, str, float]]:
    """Every stored figure but times."""
    frame = Store(str(folder)).frame()
    frame = without_times(frame)
    return sorted(
        zip(frame["recipe"] + frame["fold"].astype(str), frame["name"], frame["value"].fillna(-1), strict=True)
    )


def test_every_point_runs_once_on_every_fold(make: Make, tmp_path: Path) -> None:
    counting, watcher = Counting(), Memory()
    ready = make(folds=2)
    mirrored: list[TrialRecord] = []
    outcome = swept(ready, tmp_path, run=counting, watcher=watcher, mirror=mirrored.append)
    assert (outcome.trials, outcome.ran, outcome.complete, outcome.failures) == (8, 8, True, {})
    artefacts = Store(str(tmp_path)).artefacts()
    assert {record.trial: record.artefact for record in mirrored} == artefacts and len(artefacts) == 8
    assert len({trial for trial, _ in counting.items}) == 8
    assert watcher.began == {"total": 8, "finished": 0, "workers": 1} and watcher.left[-1] == 0
    asked = Store(str(tmp_path)).asked().values()
    points = {(a["recipe"]["training"]["learning_rate"], tuple(a["model"]["hidden"]), a["fold"]) for a in asked}
    assert points == {(rate, hidden, fold) for rate in (0.01, 0.1) for hidden in ((4,), (6, 4)) for fold in (0, 1)}
    again = swept(ready, tmp_path, run=counting, watcher=watcher)
    assert (again.trials, again.ran, again.complete) == (8, 0, True) and len(counting.items) == 8
    assert watcher.began["finished"] == 8


class Streams(LocalExecutor):
    """Has another number of workers each time it is asked; keeps the devices of the items, and those they ran on."""

    def __init__(self) -> None:
        self.streams: list[str] = []
        self.asked = 0

    @property
    def workers(self) -> int:  # type: ignore[override]
        self.asked += 1
        return self.asked

    def map(self, fn: Any, items: Any, shared: Any) -> Any:
        for kind in ("gpu", "cpu"):
            for index, item in enumerate(getattr(items, kind)):
                self.streams.append(kind)
                yield Outcome(index=index, value=fn(item, shared))


@pytest.mark.parametrize("used", ["gpu", "cpu"])
def test_a_sweep_of_a_cohort_for_the_cpu_needs_no_gpu_and_computes_on_none(
    used: str, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = make(RATES, epochs=3, scheduler="asha", samples=3, goals=("accuracy",))
    study = ready.sweep.study
    cohorts = {name: cohort.model_copy(update={"device": used}) for name, cohort in study.cohorts.items()}
    sweep = replace(ready.sweep, study=study.model_copy(update={"cohorts": cohorts}))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    seen: set[str] = set()

    def fails(*_: Any, **__: Any) -> None:
        seen.add(device().type)
        raise RuntimeError("enough")

    # At a rung, and where a trial is trained to its end.
    monkeypatch.setattr("assay.study.sweep_items.train_to_rung", fails)
    monkeypatch.setattr("assay.study.measure.train_trial", fails)
    for one in (replace(ready, sweep=sweep), replace(ready, sweep=sweep, rungs=None)):
        streams = Streams()
        swept(one, tmp_path / str(one.rungs is None), executor=streams)
        assert set(streams.streams) == {used}
    assert seen == {"cuda" if used == "gpu" else "cpu"}


def test_the_time_left_is_that_of_the_workers_that_there_are_now(make: Make, tmp_path: Path) -> None:
    watcher, streams = Memory(), Streams()
    swept(make(), tmp_path, watcher=watcher, executor=streams)
    assert watcher.began["workers"] == 1 and watcher.workers == [2, 3, 4, 5]
    spent = np.cumsum([record.seconds for record in watcher.records])
    expected = [(4 - done) * spent[done - 1] / done / (done + 1) for done in range(1, 5)]
    assert watcher.left == pytest.approx(expected)


def test_a_study_file_tells_the_recipes_while_a_sweep_runs(make: Make, tmp_path: Path) -> None:
    store, known = Store(str(tmp_path)), []

    def look(record: TrialRecord) -> None:
        if (tmp_path / "study.yaml").exists():
            (cohort,) = yaml.safe_load(store.read_text("study.yaml"))["study"]["cohorts"].values()
            known.append(set(cohort["recipes"]))

    swept(make(), tmp_path, mirror=look)
    assert len(known) == 3 and all(len(names) >= 1 for names in known) and "base" not in known[0]
    assert json.loads(store.read_text("sweep.json"))["points"] == 4


def test_what_an_earlier_plan_found_comes_back_and_is_told(make: Make, tmp_path: Path) -> None:
    settings = {"search": "optuna", "ahead": 2, "samples": 9}
    swept(make(RATES, **settings), tmp_path / "learning")
    store, found = Store(str(tmp_path / "learning")), rows(tmp_path / "learning")
    store.keep_only([])
    assert swept(make(RATES, **settings), tmp_path / "learning").ran == 0 and rows(tmp_path / "learning") == found
    swept(make(), tmp_path)
    store = Store(str(tmp_path))
    store.keep_only([])
    assert swept(make(), tmp_path).ran == 0 and len(store.finished()) == 4
    swept(make({"training.learning_rate": tune.grid_search([0.01])}), tmp_path)
    assert len(store.finished()) == 1 and len(store.superseded()) == 4


def test_a_point_is_what_a_study_of_its_recipe_finds(make: Make, tmp_path: Path) -> None:
    ready = make()
    swept(ready, tmp_path)
    _, alone = ready.sweep.at({"training.learning_rate": 0.1, "model.hidden": [6, 4]})
    (trial, _) = plan(alone, {ready.sweep.cohort_name: ready.dataset})
    assert trial.id in Store(str(tmp_path)).finished()


class BrokenError(Exception):
    pass


@pytest.mark.parametrize("search", ["grid", "random", "optuna"])
@pytest.mark.parametrize("scheduler", ["none", "asha"])
def test_a_sweep_that_is_stopped_anywhere_ends_as_one_that_was_not(
    make: Make, tmp_path: Path, search: str, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = GRID if search == "grid" else {**RATES, "model.hidden": tune.choice([[4], [6, 4]])}
    settings = {
        "search": search,
        "scheduler": scheduler,
        "ahead": 3,
        "epochs": 4 if scheduler == "asha" else 2,
        "eta": 2,
    }
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    expected = Counting()
    swept(make(space, **settings), undisturbed, run=expected)
    done: list[tuple[str, int | None]] = []
    generator, commit, stops = np.random.default_rng(len(search)), Files.commit, 0
    while True:
        # By turns the disk is full after some files, and an item fails in a way that nobody handles.
        left = int(generator.integers(1, 12 if stops % 2 else 4))

        def full(files: Files, name: str, content: bytes, left: list[int] = [left]) -> str:  # noqa: B006
            left[0] -= 1
            if left[0] == 0:
                raise StorageError("the disk is full")
            return commit(files, name, content)

        def die(count: int, left: int = left) -> None:
            if count == left:
                raise BrokenError

        counting = Counting((lambda count: None) if stops % 2 else die)
        monkeypatch.setattr(Files, "commit", full if stops % 2 else commit)
        try:
            outcome = swept(make(space, **settings), disturbed, run=counting)
            break
        except (BrokenError, StorageError):
            stops += 1
        finally:
            done += counting.items
            monkeypatch.setattr(Files, "commit", commit)
    assert stops > 0 and outcome.complete
    assert rows(disturbed) == rows(undisturbed)
    assert set(done) == set(expected.items)
    finished = Store(str(disturbed)).finished()
    assert finished == Store(str(undisturbed)).finished()
    repeated = {one for one in done if done.count(one) > 1}
    assert len(repeated) <= stops, "only what was lost in a stop may run again, once for each"
    # Nothing is left of states and half-written files.
    assert not list((disturbed / "unfinished").glob("*/*")) and not list(disturbed.rglob("*.tmp"))


def test_a_model_whose_trial_was_not_stored_is_not_trained_again(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Store.write
    monkeypatch.setattr(Store, "write", lambda *_: (_ for _ in ()).throw(StorageError("the disk is full")))
    with pytest.raises(StorageError):
        swept(make(), tmp_path)
    monkeypatch.setattr(Store, "write", write)
    (model,) = Store(str(tmp_path)).models()
    trained: list[str] = []

    def run(item: SweepItem, datasets: Mapping[str, Dataset]) -> TrialRecord | AtRung:
        if item.work.trained is None:
            trained.append(item.trial.training)
        return run_item(item, datasets)

    swept(make(), tmp_path, run=run)
    assert len(trained) == 3 and model not in trained


def test_a_failed_trial_is_told_and_runs_again_next_time(make: Make, tmp_path: Path) -> None:
    def run(item: SweepItem, datasets: Mapping[str, Dataset]) -> TrialRecord | AtRung:
        if "hidden-4" in item.trial.recipe_name and "rate-0.1" in item.trial.recipe_name:
            return item.trial.record(error="ValueError: odd")
        return run_item(item, datasets)

    outcome = swept(make(), tmp_path, run=run)
    assert outcome.complete and list(outcome.failures.values()) == ["ValueError: odd"]
    assert len(Store(str(tmp_path)).finished()) == 3
    assert swept(make(), tmp_path).ran == 1 and len(Store(str(tmp_path)).finished()) == 4


class Losing(LocalExecutor):
    """A pool of which the second worker dies."""

    def map(self, fn: Callable[..., Any], items: Any, shared: Any) -> Iterator[Outcome]:
        for outcome in super().map(fn, items, shared):
            yield replace(outcome, value=None, error="its worker died 2 times") if outcome.index == 1 else outcome


def test_a_dead_worker_is_a_failure_of_its_trial_alone(make: Make, tmp_path: Path) -> None:
    outcome = swept(make(), tmp_path, executor=Losing())
    assert outcome.complete and "its worker died" in next(iter(outcome.failures.values()))
    assert len(Store(str(tmp_path)).finished()) == 3


def test_a_point_that_cannot_be_is_a_failure_and_the_others_run(make: Make, tmp_path: Path) -> None:
    space = {"training.learning_rate": tune.grid_search([0.01, -1.0, 0.1])}
    outcome = swept(make(space), tmp_path)
    assert list(outcome.failures) == ["learning_rate--1"] and outcome.complete
    assert len(Store(str(tmp_path)).finished()) == 2


def test_equal_points_run_once(make: Make, tmp_path: Path) -> None:
    space = {"training.learning_rate": tune.choice([0.01, 0.1]), "model.hidden": tune.choice([[4]])}
    for search in ("random", "optuna"):
        outcome = swept(make(space, samples=8, search=search), tmp_path / search)
        assert (outcome.trials, outcome.ran, outcome.complete) == (2, 2, True)


class Batches:
    """A pool that takes several items before it gives the first outcome, and ends the last one first."""

    workers = 3

    def map(self, fn: Callable[..., Any], items: Any, shared: Any) -> Iterator[Outcome]:
        running: list[tuple[int, Any]] = []
        numbers, stream = count(), iter(items)
        while True:
            while len(running) < self.workers and (item := next(stream, None)) not in (None, LATER):
                running.append((next(numbers), item))
            if not running:
                return
            index, item = running.pop()
            yield Outcome(index=index, value=fn(item, shared))

    host = LocalExecutor.host


@pytest.mark.parametrize("scheduler", ["none", "asha"])
def test_points_do_not_depend_on_the_number_of_workers(make: Make, tmp_path: Path, scheduler: str) -> None:
    settings = {"search": "optuna", "samples": 9, "ahead": 4, "scheduler": scheduler, "epochs": 3}
    found = []
    executors: list[Executor] = [LocalExecutor(), Batches()]
    for place, executor in enumerate(executors):
        swept(make(RATES, **settings), tmp_path / str(place), executor=executor)
        found.append(rows(tmp_path / str(place)))
    assert found[0] == found[1] and len(found[0]) > 0


def test_models_that_points_share_are_trained_once(make: Make, tmp_path: Path) -> None:
    # How many records go through the network at once names no model.
    space = {"training.records_at_once": tune.grid_search([None, 8, 16])}
    trained: list[str] = []

    def run(item: SweepItem, datasets: Mapping[str, Dataset]) -> TrialRecord | AtRung:
        if item.work.trained is None:
            trained.append(item.trial.training)
        return run_item(item, datasets)

    outcome = swept(make(space), tmp_path, run=run, executor=Batches())
    assert outcome.ran == 3 and len(trained) == 1 and len(Store(str(tmp_path)).finished()) == 3


# Successive halving


HALVED: dict[str, Any] = {"scheduler": "asha", "eta": 2, "samples": 8, "epochs": 4, "ahead": 2}


def test_a_point_that_went_on_is_what_one_without_stops_is(make: Make, tmp_path: Path) -> None:
    swept(make(RATES, **HALVED), tmp_path / "halved")
    swept(make(RATES, **{**HALVED, "scheduler": "none"}), tmp_path / "whole")
    halved, whole = Store(str(tmp_path / "halved")), Store(str(tmp_path / "whole"))
    assert halved.finished() < whole.finished() and len(whole.finished()) == 8
    for training in halved.models():
        ours, theirs = (store.checkpoint(training) for store in (halved, whole))
        assert ours is not None and theirs is not None
        (first, about), (second, other) = networks_from_bytes(ours, "a"), networks_from_bytes(theirs, "b")
        assert all((first[""][name] == second[""][name]).all() for name in second[""])
        assert about["losses"] == other["losses"]
    both = [one for one in rows(tmp_path / "whole") if one in rows(tmp_path / "halved")]
    assert both == rows(tmp_path / "halved")


def test_a_stopped_training_is_no_result_and_leaves_no_state(make: Make, tmp_path: Path) -> None:
    outcome = swept(make(RATES, **HALVED), tmp_path)
    store, stopped = Store(str(tmp_path)), last_rungs(Store(str(tmp_path)))
    assert outcome.stopped == len(stopped) == 8 - len(store.finished()) > 0
    assert not outcome.failures and not store.failures()
    assert {result.training for result in stopped}.isdisjoint(store.models())
    assert all(result.ended and result.n == 4 and result.of == 4 for result in stopped)
    assert all(result.settings["training.learning_rate"] > 0 for result in stopped)
    assert not list((tmp_path / "unfinished").glob("*/*"))
    assert set(store.frame()["recipe"]).isdisjoint(result.recipe for result in stopped)


def test_states_lie_in_an_object_store_too_and_a_sweep_that_was_killed_goes_on_from_them(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Counting()
    swept(make(RATES, **HALVED), tmp_path / "local", run=expected)
    monkeypatch.setattr("assay.store.lease.SETTLING", 0.0)
    bucket = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    monkeypatch.setattr("assay.store.files._reached", lambda uri: (bucket, uri.removeprefix("s3://bucket/")))

    def sweep(run: Counting) -> SweepSummary:
        return run_sweep(make(RATES, **HALVED), Store("s3://bucket/remote"), LocalExecutor(), watcher=Memory(), run=run)

    def die(count: int) -> None:
        if count == 5:
            raise BrokenError

    first, second, states = Counting(die), Counting(), tmp_path / "remote" / "unfinished"
    with pytest.raises(BrokenError):
        sweep(first)
    assert list(states.glob("*/rung.safetensors"))
    assert sweep(second).complete
    assert sorted(map(str, first.items + second.items)) == sorted(map(str, expected.items)), "nothing trains again"
    assert rows(tmp_path / "remote") == rows(tmp_path / "local")
    assert not list(states.glob("*/*"))


def test_rungs_are_measured_on_validation_records_also_where_the_sweep_is_evaluated_on_test_records(
    make: Make, tmp_path: Path
) -> None:
    for tested in ("validation", "test"):
        swept(make(RATES, tested=tested, **HALVED), tmp_path / tested)
    first, second = (
        {path.name: json.loads(path.read_text())["value"] for path in (tmp_path / tested / "rungs").iterdir()}
        for tested in ("validation", "test")
    )
    assert first == second
    last = last_rungs(Store(str(tmp_path / "test")))
    assert {result.n for result in last} == {4}, "of thirty records outside the test fold, 15 % are held back"


def test_what_a_stopped_private_training_spent_stands_in_the_ledger(make: Make, tmp_path: Path) -> None:
    private = {"privacy": {"epsilon": 8}}
    ready = make(RATES, recipe=private, **HALVED)
    keeper = Keeper(tmp_path / "ledger", results=str(tmp_path / "results"), opening=Ledger.create)
    outcome = swept(ready, tmp_path / "results", observer=keeper)
    trainings = keeper.trainings(ready.dataset)
    assert outcome.stopped > 0
    assert len(trainings) == 8, "whatever became of it, what was trained counts"
    assert all(training.charge for training in trainings)
    assert swept(ready, tmp_path / "results", observer=keeper).ran == 0
    assert len(keeper.trainings(ready.dataset)) == 8


class Refusing(Keeper):
    def begin(self, trial: Any, dataset: Dataset) -> None:
        raise UserError("the budget is too small")


def test_what_is_refused_is_stored_as_such_and_trains_nothing(make: Make, tmp_path: Path) -> None:
    keeper, counting = Refusing(tmp_path / "ledger", results=str(tmp_path / "results")), Counting()
    outcome = swept(make(), tmp_path / "results", observer=keeper, run=counting)
    assert counting.items == [] and len(outcome.failures) == 4 and outcome.complete
    assert len(Store(str(tmp_path / "results")).failures()) == 4


def test_an_interrupt_keeps_what_there_is(make: Make, tmp_path: Path) -> None:
    def interrupt(count: int) -> None:
        if count == 2:
            raise KeyboardInterrupt

    outcome = swept(make(), tmp_path, run=Counting(interrupt))
    assert not outcome.complete and outcome.ran == 2
    assert len(Store(str(tmp_path)).finished()) == 2
    assert swept(make(), tmp_path).ran == 2
