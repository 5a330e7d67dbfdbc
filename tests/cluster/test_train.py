"""What a training over workers that fails or is refused says to the one who asked for it."""

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from ray.train import WorkerGroupError
from torch import nn

from assay.cluster.train import _last_state, train_distributed
from assay.data.base import Dataset
from assay.data.splits import Splitting
from assay.errors import DataError, IncompatibleRecipeError
from assay.models.imported import Imported
from assay.recipes import Recipe
from assay.study.trial import Trial


class Failing:
    """A ``TorchTrainer`` whose workers have failed."""

    def __init__(self, *failures: Exception) -> None:
        self._failures = dict(enumerate(failures))

    def fit(self) -> None:
        raise WorkerGroupError("the workers failed", self._failures)


def test_a_users_error_comes_out_from_among_those_of_the_workers_that_it_stopped() -> None:
    with pytest.raises(DataError, match="corrupt"):
        _last_state(Failing(RuntimeError("connection closed by peer"), DataError("image 3 is corrupt")))


def test_any_other_failure_stays_what_it_is() -> None:
    with pytest.raises(WorkerGroupError, match="the workers failed"):
        _last_state(Failing(RuntimeError("a fault of ours")))


def network(norm: str) -> nn.Module:
    norms = {"batch": nn.BatchNorm2d(4), "group": nn.GroupNorm(2, 4)}
    return nn.Sequential(nn.Conv2d(1, 4, 1), nn.Sequential(norms[norm]), nn.Flatten(), nn.Linear(16, 2))


def train(norm: str, workers: int, folder: Path) -> None:
    """As far as the first worker, of which there is none."""
    dataset = Dataset(
        name="squares", x=np.ones((40, 1, 2, 2), np.float32), y=np.arange(40) % 2, class_names=("even", "odd"),
        feature_names=(), low=np.zeros((1, 1, 1)), high=np.ones((1, 1, 1)), units="1", epsilons=(0.1,),
        modality="image",
    )  # fmt: skip
    trial = Trial(
        cohort="squares", recipe_name="tested", fold=0, repeat=0, seed=3, threads=1, splitting=Splitting(folds=2),
        model=Imported(factory="tests.cluster.test_train:network", arguments={"norm": norm}), recipe=Recipe(),
        evaluations=(), data_digest=dataset.digest, dataset_name=dataset.name,
    )  # fmt: skip
    with mock.patch("ray.put", side_effect=ConnectionError("no cluster")):
        train_distributed(trial, dataset, workers=workers, storage=str(folder), watch=lambda *_: None)


def test_layers_that_mix_the_records_of_a_batch_are_refused_before_any_worker_starts(tmp_path: Path) -> None:
    with pytest.raises(IncompatibleRecipeError, match=r"layer '1\.0' \(BatchNorm2d\).* 2 workers .*norm: group"):
        train("batch", 2, tmp_path)


@pytest.mark.parametrize(("norm", "workers"), [("batch", 1), ("group", 2)])
def test_a_worker_that_sees_the_whole_batch_may_mix_it(norm: str, workers: int, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match="no cluster"):
        train(norm, workers, tmp_path)
