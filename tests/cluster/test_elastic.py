"""A training whose number of workers changes on the way ends with the same weights, the same ε and the same log."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.cluster.scaling import WorkerRange
from assay.cluster.train import train_distributed
from assay.data.base import Dataset
from assay.data.splits import Splitting
from assay.errors import UserError
from assay.executors import LocalExecutor
from assay.models.imported import Imported
from assay.recipes import Privacy, Recipe
from assay.study.training import train_trial
from assay.study.trial import Trial
from assay.training.cadence import Every
from assay.training.checkpoints import from_bytes
from tests.cluster.two_nodes import TwoNodes, two_nodes


@pytest.mark.parametrize(("text", "least", "most"), [("4", 4, 4), ("1:1", 1, 1), (" 2 : 8 ", 2, 8)])
def test_workers_are_a_number_or_a_range(text: str, least: int, most: int) -> None:
    found = WorkerRange.parse(text)
    assert (found.least, found.most, found.is_elastic) == (least, most, least < most)
    assert WorkerRange.parse(str(found)) == found


@pytest.mark.parametrize("text", ["", "0", "-1", "0:2", "3:2", ":2", "2:", "1:2:3", "two", "1.5", "99999999"])
def test_other_numbers_of_workers_are_refused(text: str) -> None:
    with pytest.raises(UserError) as caught:
        WorkerRange.parse(text)
    assert (caught.value.setting, caught.value.given, caught.value.allowed) == ("--workers", text, "4, 2:8")


class Slow(nn.Module):
    """Takes time in training, and continues in float64."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            time.sleep(0.05)
        return x.double()


def network() -> nn.Module:
    return nn.Sequential(Slow(), nn.Linear(4, 8).double(), nn.ReLU(), nn.Linear(8, 2).double())


STEPS = 4 * 150


def slow_trial(noise: str) -> tuple[Dataset, Trial]:
    """150 epochs of four steps on 60 training records, privately."""
    y = np.arange(120) % 2
    x = (np.random.default_rng(0).normal(size=(120, 4)) + y[:, None]).clip(-4, 5).astype(np.float32)
    dataset = Dataset(
        name="blobs", x=x, y=y, class_names=("left", "right"), feature_names=(), low=np.full(4, -4.0),
        high=np.full(4, 5.0), units="1", epsilons=(0.1,),
    )  # fmt: skip
    recipe = Recipe(
        privacy=Privacy(epsilon=4.0, delta=1e-3, noise=noise),
        training={"epochs": 150, "batch_size": 15, "averaging": 0.9},
    )
    trial = Trial(
        cohort="blobs", recipe_name="tested", fold=0, repeat=0, seed=3, threads=1, splitting=Splitting(folds=2),
        model=Imported(factory="tests.cluster.test_elastic:network", arguments={}), recipe=recipe, evaluations=(),
        data_digest=dataset.digest, dataset_name=dataset.name,
    )  # fmt: skip
    return dataset, trial


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoNodes]:
    # Ray may count a dead node for a while, and then waits this long for a worker there.
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "30")
    with ExitStack() as stack:
        for attempt in range(3):
            try:
                started = stack.enter_context(two_nodes())
                break
            except Exception as error:  # Ray's own kind, for a start that takes longer than half a minute
                if "timed out during startup" not in str(error) or attempt == 2:
                    raise
        yield started


def stored(folder: Path) -> list[dict[str, Any]]:
    """Progress of the checkpoints that are on disk, by their steps."""
    found: list[dict[str, Any]] = []
    for path in folder.glob("*/checkpoint_*/state.safetensors"):
        with suppress(OSError, UserError):  # written or deleted at this moment
            found.append(from_bytes(path.read_bytes(), "state")[1]["progress"])
    return sorted(found, key=lambda progress: progress["step"])


def has_gone_on(folder: Path, workers: str) -> Callable[[], bool]:
    """Whether so many workers have taken steps in two checkpoints, so that Ray knows at least one of them."""
    seen: set[int] = set()

    def look() -> bool:
        seen.update(one["step"] for one in stored(folder) if workers in one["pace"]["speeds"])
        return len(seen) >= 2

    return look


# Slow: minutes on two nodes. ``tests/training/test_resume.py`` shows the same of the loop, at every step.
@pytest.mark.slow
@pytest.mark.parametrize("noise", ["seeded", "entropy"])
def test_a_lost_node_and_a_new_one_change_neither_weights_nor_epsilon(
    noise: str, nodes: TwoNodes, tmp_path: Path
) -> None:
    """Two workers, then one, and two again if the new node joins in time: the second node dies in mid-epoch."""
    dataset, trial = slow_trial(noise)

    def disturb() -> None:
        wait_until(has_gone_on(tmp_path, "2"))
        nodes.kill()
        wait_until(has_gone_on(tmp_path, "1"))
        nodes.add()

    other = threading.Thread(target=disturb)
    other.start()
    trained = train_distributed(
        trial, dataset, workers=WorkerRange(least=1, most=2), storage=str(tmp_path), watch=lambda *_: None,
        checkpoint_every=Every(count=15, unit="steps"), resize_seconds=1.0,
    )  # fmt: skip
    other.join()
    tensors, about = from_bytes(trained.checkpoint, "trained")
    assert about["speeds"].keys() == {"1", "2"}, "each number of workers has taken some steps"
    expected, alone = from_bytes(train_trial(trial, LocalExecutor(), dataset).checkpoint, "expected")
    assert about["mechanisms"] == alone["mechanisms"]
    assert about["mechanisms"]["central"]["steps"] == STEPS
    if noise == "seeded":
        torch.testing.assert_close(torch.tensor(about["losses"]), torch.tensor(alone["losses"]), rtol=1e-9, atol=1e-12)
        for name, weights in expected.items():
            torch.testing.assert_close(tensors[name], weights, rtol=0, atol=1e-10)


def wait_until(happened: Callable[[], bool], *, seconds: float = 240.0) -> None:
    """Waits until something has happened."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.2)
