"""The glass-box rival learns from the training records alone, and is compared record by record."""

import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.errors import UserError
from assay.evaluations import glass_box_models
from assay.evaluations.glass_box import GlassBoxRival
from assay.evaluations.glass_box_models import train_glass_box
from assay.evaluations.subject import Subject
from assay.recipes import Privacy, Recipe
from assay.results import REASONS, Finding, Measurement
from assay.tasks.classification import Classification
from tests.mistakes import refused

pytest.importorskip("interpret.glassbox")

Make = Callable[..., Subject]
One = Callable[..., Measurement]
QUICK = GlassBoxRival(bags=1, pairs=0, draws=50, terms=3)


class Ramp(nn.Module):
    """Class 1 where the first input is above a limit."""

    def __init__(self, limit: float = 0.0) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, x: Tensor) -> Tensor:
        score = x[:, 0] - self.limit
        return torch.stack([-score, score], dim=1)


def ward(make: Make, **settings: Any) -> Subject:
    x = np.random.default_rng(0).uniform(-1, 1, size=(400, 3))
    about = {"low": np.full(3, -1.0), "high": np.full(3, 1.0)}
    return make(Ramp(), x, x[:, 0] > 0, train=np.arange(200), about=about, **settings)


@pytest.fixture(scope="module")
def subject(make: Make) -> Subject:
    return ward(make)


@pytest.fixture(scope="module")
def found(subject: Subject) -> list[Finding]:
    return list(QUICK.measure(subject))


def test_it_learns_what_can_be_learnt_and_says_by_what(found: list[Finding], one: One) -> None:
    assert one(found, "glass_box_accuracy").value > 0.95
    assert one(found, "glass_box_auroc").value > 0.99
    strengths = [row for row in found if row.name == "glass_box_strength"]
    assert [row.conditions["feature"] for row in strengths[:1]] == ["feature 0"]
    assert strengths[0].value > 5 * strengths[1].value  # type: ignore[union-attr]
    assert one(found, "glass_box_epsilon").reason == "not_private"


def test_the_difference_is_that_of_the_records_that_only_one_gets_right(
    subject: Subject, found: list[Finding], one: One
) -> None:
    difference, accuracy = one(found, "glass_box_difference"), one(found, "glass_box_accuracy")
    assert difference.value == pytest.approx(1.0 - accuracy.value), "the network is always right"
    assert difference.conditions["only_glass_box_right"] == 0
    assert difference.value == pytest.approx(difference.conditions["only_network_right"] / 200)
    assert difference.low <= difference.value <= difference.high
    assert accuracy.outcomes is not None and accuracy.outcomes.hits.mean() == pytest.approx(accuracy.value)


def test_a_bad_network_loses_surely(subject: Subject, one: One) -> None:
    bad = QUICK.measure(replace(subject, model=Ramp(limit=0.6)))
    assert one(bad, "glass_box_difference").high < -0.1
    assert one(bad, "glass_box_auroc_difference").value == pytest.approx(0, abs=0.01), "its order is right"


def test_it_never_sees_a_test_record(subject: Subject, found: list[Finding], one: One) -> None:
    y = subject.dataset.y.copy()
    y[subject.split.test] = 1 - y[subject.split.test]
    turned = QUICK.measure(replace(subject, dataset=replace(subject.dataset, y=y)))
    assert one(turned, "glass_box_accuracy").value == pytest.approx(1 - one(found, "glass_box_accuracy").value)


def test_the_same_seed_gives_the_same_machine(subject: Subject, found: list[Finding]) -> None:
    state = np.random.get_state()[1].copy(), torch.get_rng_state()  # type: ignore[union-attr]
    assert repr(QUICK.measure(subject)) == repr(found)
    assert np.array_equal(np.random.get_state()[1], state[0]) and torch.equal(torch.get_rng_state(), state[1])


def test_a_threshold_of_the_task_is_chosen_for_the_machine_as_well(make: Make, one: One) -> None:
    task = Classification(decide_at="operating_point", sensitivity=0.95)
    x = np.random.default_rng(0).uniform(-1, 1, size=(400, 3))
    noisy = x[:, 0] + np.random.default_rng(1).normal(size=400) > 0
    subject = make(Ramp(), x, noisy, train=np.arange(150), validation=np.arange(150, 250), task=task)
    row = one(QUICK.measure(subject), "glass_box_accuracy")
    assert row.conditions["decided_at"] == subject.decided_at["decided_at"]
    assert row.conditions["threshold"] != subject.decided_at["threshold"]


def private(make: Make, **privacy: Any) -> Subject:
    return ward(make, recipe=Recipe(privacy=Privacy(**{"epsilon": 4.0, "delta": 1e-4, **privacy})))


def test_beside_a_private_recipe_the_machine_is_private_and_states_its_own_epsilon(make: Make, one: One) -> None:
    found = QUICK.measure(private(make))
    epsilon = one(found, "glass_box_epsilon")
    assert (epsilon.value, epsilon.conditions["delta"], epsilon.conditions["unit"]) == (4.0, 1e-4, "record")
    assert any("adds to the ε of the recipe" in said for said in epsilon.warnings)
    assert {row.conditions["machine"] for row in found if row.name != "glass_box_strength"} == {"DP-EBM"}
    assert one(found, "glass_box_accuracy").value > 0.8


def test_noise_grows_as_epsilon_falls(make: Make, one: One) -> None:
    accuracies = [one(QUICK.measure(private(make, epsilon=e)), "glass_box_accuracy").value for e in (0.02, 8.0)]
    assert accuracies[0] < accuracies[1] - 0.1


def test_the_private_machine_takes_its_range_from_the_bounds_and_never_from_records(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def spy(x: np.ndarray, y: np.ndarray, **settings: Any) -> Any:
        seen.update(settings)
        return train_private(x, y, **settings)

    train_private = glass_box_models.train_private_glass_box
    monkeypatch.setattr("assay.evaluations.glass_box.train_private_glass_box", spy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        QUICK.measure(private(make))
    assert [end.tolist() for end in seen["bounds"]] == [[-1.0] * 3, [1.0] * 3]
    assert (seen["epsilon"], seen["delta"]) == (4.0, 1e-4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"privacy": {"noise": "entropy"}}, "unpaid"),
        ({"data": {"groups": np.arange(400) // 4}}, "unpaid"),
        ({"data": {"unpaid_preprocessing": True}}, "unpaid"),
        ({"data": {"high": np.full(3, np.inf, np.float32)}}, "unpaid"),
        ({"data": {"class_names": ("a", "b", "c"), "y": np.arange(400) % 3}}, "other_number_of_classes"),
    ],
)
def test_what_no_private_machine_covers_is_not_trained(
    make: Make, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], reason: str
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a machine was trained")

    for name in ("train_glass_box", "train_private_glass_box"):
        monkeypatch.setattr(f"assay.evaluations.glass_box.{name}", never)
    subject = private(make, **change.get("privacy", {}))
    found = QUICK.measure(replace(subject, dataset=replace(subject.dataset, **change.get("data", {}))))
    assert {row.reason for row in found if isinstance(row, Measurement)} == {reason}
    assert {row.name for row in found} == {metric.name for metric in GlassBoxRival.metrics}


def test_records_of_patients_may_be_protected_one_by_one(make: Make, one: One) -> None:
    subject = private(make, unit="record")
    grouped = replace(subject, dataset=replace(subject.dataset, groups=np.arange(400) // 4))
    assert one(QUICK.measure(grouped), "glass_box_accuracy").status == "measured"


def test_without_the_library_it_is_not_asked_and_names_the_extra(
    subject: Subject, monkeypatch: pytest.MonkeyPatch, one: One
) -> None:
    monkeypatch.setitem(sys.modules, "interpret.glassbox", None)
    row = one(QUICK.measure(subject), "glass_box_accuracy")
    assert (row.status, row.reason) == ("not_applicable", "not_installed")
    assert "assay[glassbox]" in row.warnings[0] and row.reason in REASONS
    with refused(UserError, "glass_box", "interpret-core", "assay[glassbox]"):
        train_glass_box(np.zeros((4, 1)), np.arange(4) % 2, names=["a"], seed=0, bags=1, pairs=0)


def test_images_and_models_of_unknown_records_have_no_rival(make: Make, subject: Subject) -> None:
    x = np.zeros((20, 1, 4, 4))
    images = make(nn.Flatten(), x, np.arange(20) % 2, train=np.arange(9), about={"modality": "image"})
    known = replace(subject, split=replace(subject.split, train=np.arange(0)))
    for asked, reason in ((images, "other_kind_of_records"), (known, "not_trained_here")):
        assert {row.reason for row in QUICK.measure(asked) if isinstance(row, Measurement)} == {reason}


def test_patients_are_left_out_whole() -> None:
    groups = np.repeat(np.arange(20), 5)
    bags = glass_box_models._bags(np.arange(100) % 2, groups, 3, seed=0)
    assert bags is not None and bags.shape == (3, 100)
    assert set(bags.ravel().tolist()) == {-1, 1}
    by_patient = bags.reshape(3, 20, 5)
    assert (by_patient == by_patient[:, :, :1]).all()
    assert ((by_patient[:, :, 0] == -1).sum(1) == 3).all()
    assert glass_box_models._bags(np.arange(9) % 2, np.arange(9) % 3, 3, seed=0) is None
