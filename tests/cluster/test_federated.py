"""Federated training on Ray's actors: the bits of one process, also when an actor is killed in a round."""

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.cluster.executor import RayExecutor
from assay.executors import Executor, LocalExecutor
from assay.federated.server import Federated, train_federated
from assay.recipes import Recipe
from assay.threats import Bounds

PARTS = [np.arange(start, start + size) for start, size in ((0, 10), (10, 30), (40, 5), (45, 15))]


class Fatal(nn.Module):
    """A layer that kills its process in training, once, as soon as a file is there."""

    def __init__(self, once: str) -> None:
        super().__init__()
        self.once = once

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.once and Path(self.once).exists():
            Path(self.once).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return x


def network(once: str) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(Fatal(once), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def train(executor: Executor, *, once: str = "", **federation: Any) -> Federated:
    generator = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = (generator.normal(size=(60, 4)) + y[:, None]).astype(np.float32)
    recipe = Recipe.model_validate(
        {
            "training": {"optimizer": "sgd", "learning_rate": 0.05, "batch_size": 8, "momentum": 0.0},
            "federation": {"clients": 4, "rounds": 4, "local_epochs": 1, **federation},
        }
    )

    def after_round(number: int) -> None:
        if once and number == 2:
            Path(once).touch()

    return train_federated(
        partial(network, once),
        recipe,
        x,
        y,
        PARTS,
        bounds=Bounds(low=torch.full((4,), -9.0), high=torch.full((4,), 9.0)),
        classes=2,
        seed=3,
        threads=1,
        executor=executor,
        after_round=after_round,
    )


@pytest.mark.parametrize("strategy", ["scaffold", "fedmedian"])
def test_two_actors_give_the_bits_of_one_process_also_if_one_is_killed(
    strategy: str, pool: RayExecutor, tmp_path: Path
) -> None:
    alone = train(LocalExecutor(), strategy=strategy)
    for once in ("", str(tmp_path / "kill")):
        found = train(pool, once=once, strategy=strategy)
        assert not once or not Path(once).exists(), "an actor was killed"
        assert all(torch.equal(alone.weights[name], weight) for name, weight in found.weights.items())
        assert found.record.participation == alone.record.participation == dict.fromkeys("1234", 4)
        assert [len(each.failures) for each in found.record.rounds] == [0] * 4
