"""A machine that is lost costs no trial and no figure; one that joins is used. With two nodes on this machine.

Slow: starting nodes takes ten seconds, and noticing that one is lost as long. ``test_mapping.py`` shows what the pool
does with each kind of loss, without Ray.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import ray
import torch
from ray import tune
from torch import Tensor

from assay.cluster.executor import RayExecutor
from assay.cluster.train import train_distributed
from assay.executors import ByDevice, LocalExecutor
from assay.recipes import Recipe
from assay.results import TrialRecord
from assay.store.folder import Store
from assay.study.reading import build_study
from assay.study.run import run_study
from assay.study.spec import Study
from assay.study.sweep_prepare import prepare_sweep
from assay.study.sweep_run import run_sweep
from assay.study.sweep_rungs import last_rungs
from assay.study.watching import Watcher
from assay.training.cadence import Every
from assay.training.checkpoints import from_bytes
from tests.cluster.test_train import blobs
from tests.cluster.two_nodes import TwoNodes, two_nodes
from tests.studies import without_times

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    with two_nodes() as nodes:
        yield nodes


@pytest.fixture
def both(nodes: TwoNodes) -> TwoNodes:
    """Both nodes of one CPU each, also after a test that has killed one."""
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


def gpus_seen(item: str, seconds: float) -> tuple[str, str]:
    time.sleep(seconds)
    return item, os.environ.get("CUDA_VISIBLE_DEVICES", "all")


def test_items_that_need_a_gpu_run_where_one_is_reserved_and_the_others_see_none_elsewhere(both: TwoNodes) -> None:
    both.kill(warned=True)
    both.wait_for(1)
    both.add(num_gpus=1, num_cpus=2)
    with RayExecutor(gpus=0.5) as pool:
        items = ByDevice(gpu=["image"] * 8, cpu=["table"] * 8)
        seen = [outcome.value for outcome in pool.map(gpus_seen, items, 0.3)]
        assert pool.workers == 3
    assert {gpus for item, gpus in seen if item == "image"} == {"0"}
    assert "" in {gpus for item, gpus in seen if item == "table"}
    assert len(seen) == 16
    both.kill(warned=True)


def study() -> Study:
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


class Watching(Watcher):
    """Calls a function after the third trial.

    Args:
        third: the function.
    """

    def __init__(self, third: Callable[[], None]) -> None:
        self.labels: list[str] = []
        self._third = third

    def done(self, record: TrialRecord, label: str, *, seconds_left: float, workers: int) -> None:
        self.labels.append(label)
        if len(self.labels) == 3:
            self._third()


def figures(store: Store) -> pd.DataFrame:
    """Everything that was found but how long it took."""
    rows = store.frame()
    rows = without_times(rows)
    return rows.sort_values(["trial", "name", "value"], ignore_index=True)


def weights(content: bytes | None) -> dict[str, Tensor]:
    """The tensors of a stored model, without the times of its training."""
    assert content is not None
    return from_bytes(content, "model")[0]


def test_a_study_of_which_a_node_is_killed_has_the_figures_of_an_undisturbed_one(
    both: TwoNodes, tmp_path: Path
) -> None:
    stores: list[Store] = []
    frames: list[pd.DataFrame] = []
    with RayExecutor() as pool:
        for executor, third in ((LocalExecutor(), lambda: None), (pool, both.kill)):
            watcher = Watching(third)
            stores.append(Store(str(tmp_path / type(executor).__name__)))
            summary = run_study(study(), stores[-1], executor, watcher=watcher, publish=lambda data: None)
            assert (summary.planned, summary.ran, summary.failures) == (10, 10, {})
            assert len(set(watcher.labels)) == len(watcher.labels) == 10, "no trial is lost, and none comes twice"
            frames.append(figures(stores[-1]))
    assert both.second is None, "a node was killed"
    pd.testing.assert_frame_equal(*frames, check_exact=True)
    alone, disturbed = stores
    assert alone.models() and set(alone.models()) == set(disturbed.models())
    for training in alone.models():
        ours, theirs = weights(alone.checkpoint(training)), weights(disturbed.checkpoint(training))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


class Starting(Watcher):
    """Calls a function when the fourth item of a sweep is given to a worker.

    Args:
        fourth: the function.
    """

    def __init__(self, fourth: Callable[[], None]) -> None:
        self.ended: list[str] = []
        self._started = 0
        self._fourth = fourth

    def started(self, label: str) -> None:
        self._started += 1
        if self._started == 4:
            self._fourth()

    def done(self, record: TrialRecord, label: str, *, seconds_left: float) -> None:
        self.ended.append(label)


@pytest.mark.parametrize("scheduler", ["none", "asha"])
def test_a_sweep_of_which_a_node_is_killed_has_the_points_and_figures_of_an_undisturbed_one(
    both: TwoNodes, tmp_path: Path, scheduler: str
) -> None:
    """Its points depend on outcomes, so one that was lost or counted twice would change those that follow."""
    ready = prepare_sweep(
        study(), name="rates", space=lambda radius: {"training.learning_rate": tune.loguniform(1e-4, 1e-1)},
        cohort=None, recipe="standard", asked=("accuracy",), tested="validation", search="optuna", samples=12, ahead=4,
        scheduler=scheduler,
    )  # fmt: skip
    stores: list[Store] = []
    found: list[Any] = []
    with RayExecutor() as pool:
        for executor, fourth in ((LocalExecutor(), lambda: None), (pool, both.kill)):
            watcher = Starting(fourth)
            stores.append(Store(str(tmp_path / type(executor).__name__)))
            summary = run_sweep(ready, stores[-1], executor, watcher=watcher)
            assert summary.complete and summary.failures == {}
            assert len(set(watcher.ended)) == len(watcher.ended) == len(stores[-1].finished()), "none comes twice"
            rungs = [(one.recipe, one.rung, one.value) for one in last_rungs(stores[-1])]
            found.append((summary.trials, summary.ran, summary.stopped, rungs))
    assert both.second is None, "a node was killed"
    assert found[0] == found[1]
    pd.testing.assert_frame_equal(figures(stores[0]), figures(stores[1]), check_exact=True)
    assert len(stores[0].finished()) + found[0][2] == 12


def test_a_distributed_training_of_which_a_node_is_killed_ends_with_the_same_weights(
    both: TwoNodes, tmp_path: Path
) -> None:
    dataset, trial = blobs(Recipe(training={"epochs": 12, "batch_size": 16}))
    trained = {}
    for name in ("undisturbed", "disturbed"):
        epochs: list[float] = []

        def watch(epoch: float, total: float, loss: float, epochs: list[float] = epochs, name: str = name) -> None:
            epochs.append(epoch)
            if name == "disturbed" and epoch == 5 and epochs.count(5) == 1:
                both.kill()
                both.add()

        model = train_distributed(
            trial, dataset, workers=2, storage=str(tmp_path / name), watch=watch,
            checkpoint_every=Every(count=2, unit="epochs"),
        )  # fmt: skip
        trained[name] = weights(model.checkpoint)
        assert set(epochs) == set(range(1, 13))
        assert (len(epochs) > 12) == (name == "disturbed"), "epochs since the last checkpoint were repeated"
    assert trained["undisturbed"].keys() == trained["disturbed"].keys()
    assert all(torch.equal(trained["undisturbed"][one], trained["disturbed"][one]) for one in trained["undisturbed"])
