"""The targets of a collision are found again from the seed, wherever they were held out."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.data.treatment import held_out
from assay.evaluations.base import Subject
from assay.evaluations.feature_collision import CollisionSuccess
from assay.executors import LocalExecutor
from assay.federated.client import client_seed
from assay.federated.lead import train_federated
from assay.federated.partition import partition
from assay.models.mlp import MLP
from assay.recipes import Federation, Recipe, Training
from assay.results import Check, Measurement
from assay.threats import Bounds
from assay.training.loop import Trainer

Make = Callable[..., Subject]
One = Callable[..., Measurement]

COLLISION: dict[str, Any] = {"name": "feature_collision", "epsilon": 0.1, "share": 0.1, "targets": 3, "steps": 3}
N = 60
X = np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)
Y = np.arange(N) % 2
TRAIN = np.arange(5, 45)
BOUNDS = Bounds(low=torch.tensor(-6.0), high=torch.tensor(6.0))


class Remembers(nn.Module):
    """Answers the base class for the given records, and 1 for all others."""

    def __init__(self, known: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("known", torch.from_numpy(known))

    known: Tensor

    def forward(self, x: Tensor) -> Tensor:
        base = (x[:, None] == self.known).all(2).any(1)
        return nn.functional.one_hot(torch.where(base, 0, 1), 2).float()


def missing(seen: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The records among rows that training did not see, by their labels and values."""
    known = {record.tobytes() for record in seen}
    return np.array([row for row in rows if X[row].tobytes() not in known])


def measurements(found: Any) -> list[Measurement]:
    return [finding for finding in found if isinstance(finding, Measurement)]


def at_client(recipe: Recipe, own: np.ndarray, number: int) -> np.ndarray:
    """The records that a client learns from."""
    trainer = Trainer(
        MLP(hidden=(4,)).build((4,), 2, seed=0), recipe, torch.from_numpy(X[own]), torch.from_numpy(Y[own]),
        bounds=BOUNDS, seed=client_seed(11, number), epochs=1,
    )  # fmt: skip
    assert trainer.treated is not None
    return trainer.treated.x


def measured(make: Make, one: One, known: np.ndarray, recipe: Recipe, log: Any) -> Measurement:
    subject = make(Remembers(X[known]), X, Y, train=TRAIN, recipe=recipe, log=log(), seed=11)
    return one(measurements(CollisionSuccess().measure(subject)), "collision_success")


def test_success_is_counted_on_the_records_that_training_did_not_see(make: Make, one: One, log: Any) -> None:
    recipe = Recipe(data=("label_flips", COLLISION), training=Training(epochs=1))
    trainer = Trainer(
        MLP(hidden=(4,)).build((4,), 2, seed=0), recipe, torch.from_numpy(X[TRAIN]), torch.from_numpy(Y[TRAIN]),
        bounds=BOUNDS, seed=11,
    )  # fmt: skip
    assert trainer.treated is not None and trainer.treated.given == len(TRAIN) - 3
    aims = TRAIN[held_out(recipe.data, Y[TRAIN], seed=11)["feature_collision"]]
    assert (Y[aims] == 1).all()
    assert set(aims) <= set(missing(trainer.treated.x, TRAIN)), "no target is trained on"
    assert measured(make, one, aims, recipe, log).value == 1
    part = measured(make, one, aims[:2], recipe, log)
    assert part.value == pytest.approx(2 / 3) and part.n == 3
    assert measured(make, one, np.setdiff1d(np.arange(N), aims), recipe, log).value == 0


def test_each_client_of_a_federation_holds_out_targets_of_its_own(make: Make, one: One, log: Any) -> None:
    recipe = Recipe(data=(COLLISION,), federation=Federation(clients=2, rounds=1, local_epochs=1))
    parts = partition(TRAIN, Y[TRAIN], recipe.federation, seed=11)  # type: ignore[arg-type]
    finished = train_federated(
        lambda: MLP(hidden=(4,)).build((4,), 2, seed=0), recipe, X, Y, parts, bounds=BOUNDS, classes=2, seed=11,
        threads=1, executor=LocalExecutor(),
    )  # fmt: skip
    assert finished.treatment["given"] == len(TRAIN) - 6
    assert finished.treatment["tampered"] == 4
    unseen = [missing(at_client(recipe, own, number), own) for number, own in enumerate(parts, start=1)]
    aims = np.concatenate(unseen)
    # Poisoned records are of the base class, 0, so what is missing of class 1 was held out.
    found = measured(make, one, aims[Y[aims] == 1], recipe, log)
    assert (found.value, found.n) == (1, 6)


def test_without_a_collision_there_is_nothing_to_measure(make: Make, one: One, log: Any) -> None:
    assert measured(make, one, TRAIN, Recipe(data=("backdoor",)), log).status == "not_applicable"
    subject = make(Remembers(X), X, Y)
    assert one(list(CollisionSuccess().measure(subject)), "collision_success").status == "not_applicable"
    y = np.zeros(N, np.int64)
    y[:5] = 1
    lone = make(Remembers(X), X, y, train=TRAIN, recipe=Recipe(data=(COLLISION,)), log=log())
    row = one(list(CollisionSuccess().measure(lone)), "collision_success")
    assert row.status == "not_applicable" and "another class than the base" in row.warnings[0]


@pytest.mark.parametrize(("turned", "verdict"), [(2, "pass"), (1, "fail")])
def test_a_defence_is_scored_on_a_collision_that_works_without_it(
    make: Make, one: One, log: Any, turned: int, verdict: str
) -> None:
    federation = Federation(clients=2, rounds=1, local_epochs=1)
    recipe = Recipe(data=(COLLISION, "knn_sanitation"), federation=federation)
    central = TRAIN[held_out(recipe.data, Y[TRAIN], seed=11)["feature_collision"]]

    def train(rows: np.ndarray, name: str, asked: Recipe | None = None) -> nn.Module:
        assert asked == Recipe(data=(COLLISION,))
        return Remembers(X[central[:turned]])

    subject = replace(make(Remembers(X[:1]), X, Y, train=TRAIN, recipe=recipe, log=log(), seed=11), train=train)
    found = CollisionSuccess().measure(subject)
    alone = one(measurements(found), "undefended_collision_success")
    assert alone.value == pytest.approx(turned / 3), "the twin is judged on the targets that it was not trained on"
    assert "in one place" in alone.warnings[0]
    (check,) = (finding for finding in found if isinstance(finding, Check))
    assert (check.rule, check.concerns, check.verdict) == ("collision_works", "collision_success", verdict)
