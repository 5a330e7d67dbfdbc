"""What is finished is never run again, what failed is retried, and an interrupt loses nothing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from assay.data.arrays import Arrays
from assay.devices import device
from assay.errors import UserError
from assay.executors import LocalExecutor
from assay.store.folder import Store
from assay.study import run as runs
from assay.study.plan import load_datasets, plan
from assay.study.provenance import source_digest, versions
from assay.study.reading import build_study
from assay.study.run import RunSummary, run_study
from assay.study.spec import Study
from tests.studies import without_times

Tiny = Callable[..., Study]
FEDERATED = {"fed": {"federation": {"clients": 3, "rounds": 2, "local_epochs": 1}}, "standard": {}}

NETWORKS = """
from pathlib import Path
from torch import nn

def net():
    if Path({flag!r}).exists():
        raise RuntimeError("the factory is on strike")
    return nn.Linear(4, 2)
"""


class Counting(LocalExecutor):
    """Counts the items it is given, and those of which the result was asked for."""

    def __init__(self) -> None:
        self.given = self.run = self.hosted = 0

    def map(self, fn: Any, items: Any, shared: Any) -> Any:
        items = list(items)
        self.given += len(items)
        for outcome in super().map(fn, items, shared):
            self.run += 1
            yield outcome

    def host(self, clients: Any) -> Any:
        self.hosted += 1
        return super().host(clients)


Go = Callable[..., RunSummary]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "results"))


@pytest.fixture
def undisturbed(tmp_path: Path) -> Store:
    """Where a run that nothing interrupts keeps its results."""
    return Store(str(tmp_path / "undisturbed"))


@pytest.fixture
def go(store: Store, watcher: Callable[[], Any]) -> Go:
    def run(study: Study, **settings: Any) -> RunSummary:
        defaults = {"store": store, "executor": LocalExecutor(), "watcher": watcher(), "publish": lambda datasets: None}
        return run_study(study, **{**defaults, **settings})

    return run


def figures(store: Store) -> pd.DataFrame:
    """Everything that was found but how long it took."""
    frame = store.frame()
    frame = without_times(frame)
    return frame.sort_values(["trial", "name"], kind="stable").reset_index(drop=True)


def test_every_trial_is_run_stored_and_shown(tiny: Tiny, go: Go, store: Store, watcher: Callable[[], Any]) -> None:
    memory, mirrored = watcher(), []
    summary = go(tiny(), watcher=memory, mirror=mirrored.append)
    assert (summary.planned, summary.ran, dict(summary.failures), summary.workers) == (4, 4, {}, 1)
    assert len(store.finished()) == 4
    assert memory.began == {"total": 4, "finished": 0, "workers": 1}
    assert {record.trial for record in memory.records} == store.finished()
    assert [record.trial for record in mirrored] == [record.trial for record in memory.records]
    assert memory.ended == 1
    assert memory.left[-1] == 0
    assert all(store.checkpoint(training) for training in store.trainings().values())


class Growing(LocalExecutor):
    """Has a worker more each time it is asked."""

    asked = 0

    @property
    def workers(self) -> int:  # type: ignore[override]
        self.asked += 1
        return self.asked


def test_the_time_left_is_that_of_the_workers_that_there_are_now(
    tiny: Tiny, go: Go, watcher: Callable[[], Any]
) -> None:
    memory = watcher()
    summary = go(tiny(), watcher=memory, executor=Growing())
    assert memory.began["workers"] == 1
    assert memory.workers == sorted(set(memory.workers))
    spent = np.cumsum([record.seconds for record in memory.records])
    expected = [(4 - done) * spent[done - 1] / done / memory.workers[done - 1] for done in range(1, 5)]
    assert memory.left == pytest.approx(expected)
    assert summary.workers == memory.workers[-1] > 1


def test_the_time_of_trials_is_told_apart_from_our_own(tiny: Tiny, go: Go, watcher: Callable[[], Any]) -> None:
    memory = watcher()
    summary = go(tiny(), watcher=memory)
    assert summary.trial_seconds == pytest.approx(sum(record.seconds for record in memory.records))
    assert 0 < summary.trial_seconds < summary.seconds


def test_a_second_run_runs_nothing(tiny: Tiny, go: Go, store: Store) -> None:
    go(tiny())
    before, executor = store.frame(), Counting()
    summary = go(tiny(), executor=executor)
    assert (summary.planned, summary.ran, executor.given) == (4, 0, 0)
    assert store.frame().equals(before)


def test_force_runs_everything_again(tiny: Tiny, go: Go, store: Store) -> None:
    go(tiny(FEDERATED))
    before, executor = figures(store), Counting()
    summary = go(tiny(FEDERATED), executor=executor, force=True)
    assert (summary.ran, executor.run, executor.hosted) == (4, 4, 2)
    assert figures(store).equals(before)


def test_only_what_is_missing_is_run(tiny: Tiny, go: Go, store: Store) -> None:
    go(tiny({"standard": {}}))
    summary = go(tiny({"standard": {}, "third": {"training": {"epochs": 1}}}))
    assert (summary.planned, summary.ran) == (4, 2)


def test_a_changed_plan_sets_old_trials_aside_and_takes_them_back(tiny: Tiny, go: Go, store: Store) -> None:
    go(tiny({"standard": {}}))
    before = store.finished()
    go(tiny({"standard": {"training": {"epochs": 1}}}))
    assert not before & store.finished()
    executor = Counting()
    go(tiny({"standard": {}}), executor=executor)
    assert executor.run == 0
    assert store.finished() == before


def test_a_failing_trial_is_recorded_and_alone_retried(
    tiny: Tiny, go: Go, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = tmp_path / "strike"
    flag.touch()
    (tmp_path / "striking_networks.py").write_text(NETWORKS.format(flag=str(flag)))
    monkeypatch.syspath_prepend(tmp_path)
    raw = tiny().model_dump(mode="json")
    raw["cohorts"]["own"] = {
        **raw["cohorts"]["made"],
        "model": {"name": "imported", "factory": "striking_networks:net"},
        "recipes": {"standard": raw["cohorts"]["made"]["recipes"]["standard"]},
    }
    study = Study.model_validate(raw)

    summary = go(study)
    assert (summary.planned, summary.ran) == (6, 6)
    assert set(summary.failures) == {"own · standard · fold 1", "own · standard · fold 2"}
    assert all("RuntimeError: the factory is on strike" in error for error in summary.failures.values())
    assert len(store.finished()) == 4
    assert len(store.failures()) == 2

    flag.unlink()
    executor = Counting()
    summary = go(study, executor=executor)
    assert (summary.ran, executor.run, dict(summary.failures)) == (2, 2, {})
    assert len(store.finished()) == 6


def test_a_worker_that_dies_is_a_failed_trial(tiny: Tiny, go: Go, store: Store) -> None:
    from assay.executors import Outcome

    class Deadly(LocalExecutor):
        def map(self, fn: Any, items: Any, shared: Any) -> Any:
            taken = list(items)
            for outcome in super().map(fn, taken, shared):
                trial = taken[outcome.index].trial
                dies = (trial.recipe_name, trial.fold) == ("slow", 0)
                yield Outcome(index=outcome.index, error="the worker died") if dies else outcome

    summary = go(tiny(), executor=Deadly())
    assert dict(summary.failures) == {"made · slow · fold 1": "RuntimeError: the worker died"}
    assert len(store.finished()) == 3
    assert go(tiny()).ran == 1


class Elsewhere(LocalExecutor):
    """Workers whose records name other trials than ours, and say more that is other."""

    def __init__(self, **changed: Any) -> None:
        self._changed = changed

    def map(self, fn: Any, items: Any, shared: Any) -> Any:
        for outcome in super().map(fn, items, shared):
            record = outcome.value
            said = {
                "provenance": {**record.provenance, **self._changed.get("provenance", {})},
                "error": self._changed.get("error", ""),
            }
            yield replace(outcome, value=replace(record, trial="of the worker", **said))


def test_a_worker_of_another_version_is_named(tiny: Tiny, go: Go, store: Store) -> None:
    for other in ({"source": "0123"}, {"versions": {**versions(), "torch": "1.0"}}):
        summary = go(tiny({"standard": {}}), executor=Elsewhere(provenance=other))
        assert len(summary.failures) == 2
        assert all("another version of Assay or of its dependencies" in why for why in summary.failures.values())
    assert store.finished() == set()


def test_a_trial_that_failed_at_a_worker_keeps_its_own_error(tiny: Tiny, go: Go, store: Store) -> None:
    summary = go(tiny({"standard": {}}), executor=Elsewhere(error="DataError: foreign.npz does not exist"))
    assert set(summary.failures.values()) == {"DataError: foreign.npz does not exist"}
    assert len(store.failures()) == 2
    assert go(tiny({"standard": {}})).ran == 2, "they are ours, and retried"


def test_a_file_that_differs_at_a_worker_is_no_other_version(tiny: Tiny, go: Go) -> None:
    def other(trial: Any) -> Any:
        return {"provenance": {"asked": {**trial.description(), "model_code": "0123"}}}

    trials = plan(tiny({"standard": {}}, split={"folds": 2}), load_datasets(tiny({"standard": {}})))
    summary = go(tiny({"standard": {}}), executor=Elsewhere(**other(trials[0])))
    (why, *_) = summary.failures.values()
    assert "not asked the same (model_code): a file that the model or an evaluation names is not the same" in why


def test_a_federated_trial_that_fails_stops_no_other(
    tiny: Tiny, go: Go, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hostless(LocalExecutor):
        def host(self, clients: Any) -> Any:
            raise ConnectionError("no client answered")

    summary = go(tiny(FEDERATED), executor=Hostless())
    said = [error.splitlines()[:2] for error in summary.failures.values()]
    assert said == [["ConnectionError: no client answered", "Traceback (most recent call last):"]] * 2
    assert len(store.finished()) == 2
    assert go(tiny(FEDERATED)).ran == 2
    assert len(store.finished()) == 4


def test_what_a_federation_trained_is_not_trained_again(tiny: Tiny, go: Go, store: Store) -> None:
    go(tiny(FEDERATED))
    before = figures(store)
    federated = set(store.frame().query("recipe == 'fed'")["trial"])
    for trial in federated:
        Path(store.location, "trials", f"{trial}.parquet").unlink()
    executor = Counting()
    summary = go(tiny(FEDERATED), executor=executor)
    assert (summary.ran, executor.run, executor.hosted) == (2, 2, 0)
    assert figures(store).equals(before)


def test_a_federated_training_is_announced_before_its_first_round(
    tiny: Tiny, go: Go, watcher: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, known = watcher(), []
    monkeypatch.setattr(memory, "leading", lambda trial, *_: known.append(trial.label in memory.started_labels))
    go(tiny(FEDERATED), watcher=memory)
    assert known and all(known)


def test_rounds_of_a_federation_are_shown(tiny: Tiny, go: Go, watcher: Callable[[], Any]) -> None:
    memory = watcher()
    go(tiny(FEDERATED), watcher=memory)
    assert memory.rounds == [("fed", 1, 2), ("fed", 2, 2)] * 2


def test_what_was_asked_lies_beside_the_results(tiny: Tiny, go: Go, store: Store) -> None:
    study = tiny(question="Is it fit?")
    go(study, environment={"git_commit": "abc", "gpus": 0})
    about = yaml.safe_load(store.read_text("study.yaml"))
    assert Study.model_validate(about["study"]) == study
    assert about["environment"] == {"git_commit": "abc", "gpus": 0}
    assert (about["versions"], about["source"]) == (versions(), source_digest())
    assert set(about["trials"]) == store.finished()
    assert "made · slow · fold 2" in about["trials"].values()
    assert about["started"].endswith("+00:00")


def test_a_run_of_nothing_leaves_where_and_when_it_ran(tiny: Tiny, go: Go, store: Store) -> None:
    go(tiny(), environment={"git_commit": "abc"})
    before = yaml.safe_load(store.read_text("study.yaml"))
    go(tiny(title="Another title"), environment={"git_commit": "def"})
    after = yaml.safe_load(store.read_text("study.yaml"))
    assert after == {**before, "study": after["study"]}
    assert after["study"]["title"] == "Another title"


def test_the_report_is_published_after_the_first_fold_and_at_the_end(tiny: Tiny, go: Go, store: Store) -> None:
    finished: list[int] = []
    go(tiny(split={"folds": 3}), publish=lambda datasets: finished.append(len(store.finished())))
    assert finished == [2, 6]


def test_the_report_is_published_now_and_then(
    tiny: Tiny, go: Go, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pause in ("PUBLISH_EVERY", "PUBLISH_SHARE"):
        monkeypatch.setattr(runs, pause, 0.0)
    finished: list[int] = []
    go(tiny(split={"folds": 3}), publish=lambda datasets: finished.append(len(store.finished())))
    assert finished == [2, 3, 4, 5, 6]


def test_the_report_is_published_even_if_nothing_was_run(tiny: Tiny, go: Go) -> None:
    go(tiny())
    published: list[int] = []
    go(tiny(), publish=lambda datasets: published.append(1))
    assert published == [1]


def test_the_report_is_handed_the_data_that_the_trials_ran_on(
    tiny: Tiny, go: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, load, handed = [], Arrays.load, []
    monkeypatch.setattr(Arrays, "load", lambda self: (reads.append(1), load(self))[1])
    go(tiny(split={"folds": 3}), publish=handed.append)
    assert reads == [1]
    assert [set(datasets) for datasets in handed] == [{"made"}, {"made"}]


def test_a_study_that_is_being_written_is_left_alone(tiny: Tiny, go: Go, store: Store) -> None:
    with store.locked(), pytest.raises(UserError, match="another job is writing"):
        go(tiny())
    assert store.finished() == set()


def interrupt_after(number: int) -> Callable[..., None]:
    calls: list[object] = []

    def call(*given: object) -> None:
        calls.append(given)
        if len(calls) == number:
            raise KeyboardInterrupt

    return call


# The first report comes after one trial of each of the three recipes.
@pytest.mark.parametrize("interrupted", [("mirror", 1, 1), ("mirror", 5, 5), ("publish", 1, 3)], ids=str)
def test_an_interrupt_loses_nothing_and_changes_nothing(
    tiny: Tiny, go: Go, store: Store, undisturbed: Store, interrupted: tuple[str, int, int]
) -> None:
    recipes = {**FEDERATED, "private": {"privacy": {"epsilon": 8}}}
    go(tiny(recipes), store=undisturbed)

    where, number, kept = interrupted
    with pytest.raises(KeyboardInterrupt):
        go(tiny(recipes), **{where: interrupt_after(number)})
    assert len(store.finished()) == kept
    # The federated training of the second fold is led when the first fold is finished.
    hosted = int(kept <= 3)
    executor = Counting()
    summary = go(tiny(recipes), executor=executor)
    assert (summary.ran, executor.run, executor.hosted) == (6 - kept, 6 - kept, hosted)
    assert figures(store).equals(figures(undisturbed))


def test_an_interrupt_while_a_federation_is_led_repeats_that_training_alone(
    tiny: Tiny, go: Go, store: Store, undisturbed: Store, watcher: Callable[[], Any]
) -> None:
    go(tiny(FEDERATED), store=undisturbed)
    memory = watcher()
    memory.leading = interrupt_after(3)
    with pytest.raises(KeyboardInterrupt):
        go(tiny(FEDERATED), watcher=memory)
    assert memory.ended == 1
    assert len(store.finished()) == 2, "the first fold was finished before"
    executor = Counting()
    go(tiny(FEDERATED), executor=executor)
    assert executor.hosted == 1
    assert figures(store).equals(figures(undisturbed))


def test_the_order_of_completion_changes_nothing(tiny: Tiny, go: Go, store: Store, undisturbed: Store) -> None:
    class Backwards(LocalExecutor):
        def map(self, fn: Any, items: Any, shared: Any) -> Any:
            yield from reversed(list(super().map(fn, items, shared)))

    go(tiny(), store=undisturbed)
    go(tiny(), executor=Backwards())
    assert figures(store).equals(figures(undisturbed))


def test_a_run_that_only_reads_leaves_when_and_where_it_ran_alone(tiny: Tiny, go: Go, store: Store) -> None:
    go(tiny(), environment={"machine": "first"})
    before = yaml.safe_load(store.read_text("study.yaml"))
    go(tiny(), environment={"machine": "second"})
    after = yaml.safe_load(store.read_text("study.yaml"))
    assert (after["started"], after["environment"]) == (before["started"], {"machine": "first"})
    go(tiny(), environment={"machine": "third"}, force=True)
    assert yaml.safe_load(store.read_text("study.yaml"))["environment"] == {"machine": "third"}


def test_a_trained_model_is_written_once(tiny: Tiny, go: Go, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = Store.write_checkpoint

    def noted(self: Store, training: str, content: bytes) -> None:
        written.append(training)
        write(self, training, content)

    monkeypatch.setattr(Store, "write_checkpoint", noted)
    go(tiny())
    assert sorted(written) == store.models()
    assert set(store.artefacts()) == store.finished()


class Streams(LocalExecutor):
    """Keeps the cohorts of each stream of a map."""

    def __init__(self) -> None:
        self.cohorts: dict[str, list[str]] = {}

    def map(self, fn: Any, items: Any, shared: Any) -> Any:
        works = {kind: list(getattr(items, kind)) for kind in ("gpu", "cpu")}
        for kind, listed in works.items():
            self.cohorts.setdefault(kind, []).extend(work.trial.cohort for work in listed)
        # In the order in which they were taken, which is that of their indices.
        return super().map(fn, [*works["gpu"], *works["cpu"]], shared)


def test_trials_of_a_cohort_for_the_cpu_are_a_stream_of_their_own_and_computed_there(
    raw: Callable[..., dict[str, Any]], go: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = raw({"standard": {}})
    (cohort,) = settings["cohorts"].values()
    cohorts = {"images": cohort, "tables": {**cohort, "device": "cpu"}}
    used: dict[str, str] = {}

    def train(trial: Any, *_: Any) -> None:
        used[trial.cohort] = device().type
        raise RuntimeError("enough")

    monkeypatch.setattr("assay.study.measure.train_trial", train)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    streams = Streams()
    assert len(go(build_study({**settings, "cohorts": cohorts}, "made"), executor=streams).failures) == 4
    assert streams.cohorts == {"gpu": ["images"] * 2, "cpu": ["tables"] * 2}
    assert used == {"images": "cuda", "tables": "cpu"}
