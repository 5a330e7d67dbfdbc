"""The targets of a collision are found again from the seed, wherever they were held out."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.data.base import Dataset
from assay.data.partition import partition
from assay.data.splits import Splitting
from assay.data.treatment import held_out
from assay.evaluations.feature_collision import CollisionSuccess
from assay.evaluations.subject import Subject
from assay.executors import LocalExecutor
from assay.federated.client import client_seed
from assay.federated.server import train_federated
from assay.models.mlp import MLP
from assay.recipes import Federation, Recipe, Training
from assay.results import Check, Measurement
from assay.study.measure import run_trial
from assay.study.trial import Trial
from assay.threats import Bounds
from assay.training.build import build_trainer

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
    trainer = build_trainer(
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
    trainer = build_trainer(
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
        if asked == Recipe():
            return Remembers(X[:1])
        assert asked == Recipe(data=(COLLISION,))
        return Remembers(X[central[:turned]])

    subject = replace(make(Remembers(X[:1]), X, Y, train=TRAIN, recipe=recipe, log=log(), seed=11), train=train)
    found = CollisionSuccess().measure(subject)
    alone = one(measurements(found), "undefended_collision_success")
    assert alone.value == pytest.approx(turned / 3), "the twin is judged on the targets that it was not trained on"
    assert "in one place" in alone.warnings[0]
    assert one(measurements(found), "collision_base_rate").value == 0
    said = [(c.rule, c.concerns, c.verdict) for c in found if isinstance(c, Check)]
    concerned = ("collision_success", "sanitation_precision", "sanitation_recall")
    assert said == [("collision_works", name, verdict) for name in concerned]
    status = one(measurements(found), "collision_success").status
    assert status == ("measured" if verdict == "pass" else "abstained")


@pytest.mark.parametrize(("errs", "verdict"), [(0, "pass"), (1, "pass"), (2, "warn"), (3, "warn")])
def test_targets_that_an_honest_twin_takes_for_the_base_class_count_against_the_attack(
    make: Make, one: One, log: Any, errs: int, verdict: str
) -> None:
    recipe = Recipe(data=("jitter", COLLISION))
    aims = TRAIN[held_out(recipe.data, Y[TRAIN], seed=11)["feature_collision"]]

    def train(rows: np.ndarray, name: str, asked: Recipe | None = None) -> nn.Module:
        assert name == "" and asked == Recipe(data=("jitter",))
        np.testing.assert_array_equal(rows, TRAIN[~np.isin(TRAIN, aims)], "the same records, in order")
        return Remembers(X[aims[:errs]] if errs else X[:1])

    subject = replace(make(Remembers(X[aims]), X, Y, train=TRAIN, recipe=recipe, log=log(), seed=11), train=train)
    found = list(CollisionSuccess().measure(subject))
    assert one(measurements(found), "collision_success").value == 1
    assert one(measurements(found), "collision_base_rate").value == pytest.approx(errs / 3)
    (check,) = (finding for finding in found if isinstance(finding, Check))
    assert (check.verdict, check.figure) == (verdict, pytest.approx(1 - errs / 3))


def test_without_a_twin_there_is_no_base_rate_and_no_verdict(make: Make, one: One, log: Any) -> None:
    subject = make(Remembers(X), X, Y, train=TRAIN, recipe=Recipe(data=(COLLISION,)), log=log(), seed=11)
    for settings, why in (({}, "nothing can be trained"), ({"undefended": False}, "undefended is false")):
        found = list(CollisionSuccess(**settings).measure(subject))
        row = one(measurements(found), "collision_base_rate")
        assert row.status == "not_applicable" and why in row.warnings[0]
        assert one(measurements(found), "collision_success").value == 1
        assert not any(isinstance(finding, Check) for finding in found)


def test_poison_that_changes_nothing_is_no_working_attack_where_an_honest_model_errs_too(
    wdbc: Dataset, one: One
) -> None:
    """Of a network that has learnt next to nothing, the success is all base rate."""
    harmless = {"name": "feature_collision", "epsilon": 1e-6, "share": 0.05, "steps": 1}
    asked = Trial(
        cohort="wdbc", recipe_name="tested", fold=0, repeat=0, seed=7, threads=1, splitting=Splitting(),
        model=MLP(hidden=(4,)), recipe=Recipe(
            data=(harmless,), training=Training(epochs=1, batch_size=256, learning_rate=1e-4)
        ),
        evaluations=(CollisionSuccess(),), data_digest=wdbc.digest, dataset_name=wdbc.name,
    )  # fmt: skip
    record = run_trial(asked, LocalExecutor(), wdbc)
    assert not record.failed, record.error
    found = list(record.measurements)
    success, base = (one(found, name).value for name in ("collision_success", "collision_base_rate"))
    assert success >= 0.5, "without a base rate this would be called a working attack"
    assert success == base
    check = one(found, "check.collision_works")
    assert (check.value, check.verdict) == (0, "warn")


def test_the_forecast_tells_of_the_twins() -> None:
    told = CollisionSuccess().forecast(100)
    assert "1 more training of a recipe with a feature_collision alone, 2 more trainings of a recipe" in told
    assert CollisionSuccess(undefended=False).forecast(100) == ""
