"""A machine that is lost costs no trial and no figure; one that joins is used. With two nodes on this machine.

Slow: starting nodes takes ten seconds, and noticing that one is lost as long. ``test_mapping.py`` shows what the pool does
with each kind of loss, without Ray.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from assay.cluster.executor import RayExecutor
from assay.executors import LocalExecutor
from assay.store.folder import Store
from assay.study.reading import build_study
from assay.study.run import run_study
from tests.cluster.two_nodes import TwoNodes, two_nodes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    with two_nodes() as nodes:
        yield nodes


@pytest.fixture
def both(nodes: TwoNodes) -> TwoNodes:
    """Both nodes, also after a test that has killed one."""
    if nodes.second is None:
        nodes.add()
    nodes.wait_for(2)
    return nodes


def place(item: int, seconds: float) -> tuple[int, str]:
    """Where an item was run, after some time."""
    time.sleep(seconds)
    return item, ray.get_runtime_context().get_node_id()


@pytest.mark.parametrize("warned", [False, True], ids=["lost", "taken back"])
def test_a_killed_node_costs_no_item_and_a_new_one_is_used(both: TwoNodes, warned: bool) -> None:
    indices, places = [], []
    with RayExecutor(cpus=1) as pool:
        assert pool.workers == 2
        for outcome in pool.map(place, range(60), 0.5):
            assert outcome.error == ""
            indices.append(outcome.index)
            places.append(outcome.value[1])
            if len(indices) == 6:
                gone = both.second.node_id
                both.kill(warned=warned)
            if len(indices) == 30:
                both.wait_for(1)
                both.add()
                fresh = both.second.node_id
        assert pool.workers == 2
    assert sorted(indices) == list(range(60))
    assert gone in places[:6]
    assert gone not in places[8:]
    assert fresh in places[30:]


def fails_its_process(item: int, shared: None) -> int:
    if item == 1:
        os._exit(1)
    return item


def test_a_worker_that_dies_alone_still_counts(both: TwoNodes) -> None:
    with RayExecutor(workers=2) as pool:
        found = {outcome.index: outcome for outcome in pool.map(fails_its_process, range(4), None)}
    assert "died 2 times" in found[1].error
    assert [found[k].value for k in (0, 2, 3)] == [0, 2, 3]


def study() -> Any:
    recipe = {"training": {"epochs": 30, "batch_size": 16}}
    return build_study(
        {
            "name": "tiny",
            "split": {"folds": 5},
            "cohorts": {
                "wdbc": {
                    "dataset": "wdbc",
                    "model": {"name": "mlp", "hidden": [16]},
                    "recipes": {"standard": recipe, "pgd": {**recipe, "objective": {"name": "pgd", "epsilon": 0.1}}},
                    "evaluations": ["accuracy", {"name": "robustness", "attacks": ["pgd"]}],
                }
            },
        },
        "made",
    )


class Watching:
    """Kills a node after the third trial."""

    def __init__(self, kill: Any = None) -> None:
        self.labels: list[str] = []
        self._kill = kill

    def read(self, *_: Any) -> None: ...
    def begin(self, **_: Any) -> None: ...
    def leading(self, *_: Any) -> None: ...
    def status(self, said: str) -> None: ...
    def end(self) -> None: ...

    def done(self, record: Any, label: str, *, seconds_left: float) -> None:
        self.labels.append(label)
        if len(self.labels) == 3 and self._kill is not None:
            self._kill()


def test_a_study_of_which_a_node_is_killed_has_the_figures_of_an_undisturbed_one(
    both: TwoNodes, tmp_path: Path
) -> None:
    frames = {}
    for name, kill in (("undisturbed", None), ("disturbed", both.kill)):
        watcher = Watching(kill)
        store = Store(str(tmp_path / name))
        executor = RayExecutor(cpus=1) if kill else LocalExecutor()
        summary = run_study(study(), store, executor, watcher=watcher, publish=lambda data: None)
        if isinstance(executor, RayExecutor):
            executor.close()
        assert (summary.planned, summary.ran, summary.failures) == (10, 10, {})
        assert sorted(watcher.labels) == sorted(set(watcher.labels)), "no trial is stored twice"
        frames[name] = store.frame().sort_values(["trial", "name"], ignore_index=True)
    assert both.second is None
    kept = [column for column in frames["disturbed"] if column not in ("seconds",)]
    one, other = (frame[kept][~frame["name"].str.contains("seconds")] for frame in frames.values())
    assert one.drop(columns="outcomes").equals(other.drop(columns="outcomes"))
    models = [Store(str(tmp_path / name)) for name in frames]
    assert models[0].models() and set(models[0].models()) == set(models[1].models())
    for training in models[0].models():
        assert models[0].checkpoint(training) == models[1].checkpoint(training)
