"""What every evaluation is given, and the interval of a share."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from torch import nn

from assay import intervals
from assay.evaluations.base import Evaluation
from assay.evaluations.shares import share
from assay.evaluations.subject import Subject
from assay.federated.record import FederationRecord, RoundRecord
from assay.recipes import Federation, Privacy, Recipe
from assay.registry import build, names
from assay.results import Check, Measurement
from assay.training.log import TrainingLog


def test_logits_are_float64_and_carry_no_gradient(make: Callable[..., Subject]) -> None:
    model = nn.Linear(2, 3)
    subject = make(model, [[0, 1], [2, 3], [4, 5]], [0, 1, 0])
    found = subject.logits(np.array([2, 0]))
    assert found.dtype == np.float64
    expected = model(torch.tensor([[4.0, 5.0], [0.0, 1.0]])).detach().numpy()
    assert np.array_equal(found, expected.astype(np.float64))


@pytest.mark.parametrize(("shape", "most"), [((3,), 512), ((3, 1024, 1024), 1)])
def test_a_model_is_asked_of_fewer_large_records_at_once(
    make: Callable[..., Subject], shape: tuple[int, ...], most: int
) -> None:
    class Asked(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            asked.append(len(x))
            return x.flatten(1)[:, :2]

    asked: list[int] = []
    n = most + 1
    subject = make(Asked(), np.zeros((n, *shape)), np.arange(n) % 2)
    assert len(subject.logits(np.arange(n))) == n
    assert asked == [most, 1]


def test_records_are_those_asked_for_in_that_order(make: Callable[..., Subject]) -> None:
    x, y = make(nn.Identity(), [[0, 1], [2, 3], [4, 5]], [0, 1, 0]).records(np.array([1, 0]))
    assert torch.equal(x, torch.tensor([[2.0, 3.0], [0.0, 1.0]]))
    assert torch.equal(y, torch.tensor([1, 0]))


def test_groups_follow_their_records_and_may_be_absent(make: Callable[..., Subject]) -> None:
    x, y, rows = [[0, 1], [2, 3], [4, 5]], [0, 1, 0], np.array([2, 1])
    assert make(nn.Identity(), x, y, groups=["a", "b", "c"]).groups(rows).tolist() == ["c", "b"]
    assert make(nn.Identity(), x, y).groups(rows) is None


def test_changing_what_was_handed_out_changes_no_data(make: Callable[..., Subject]) -> None:
    subject = make(nn.Identity(), [[0, 1], [2, 3]], [0, 1])
    before = subject.dataset.x.copy()
    subject.logits(np.arange(2))[:] = 9
    subject.records(np.arange(2))[0].fill_(9)
    assert np.array_equal(subject.dataset.x, before)


def test_a_share_of_independent_records_has_wilsons_interval() -> None:
    found = share("accuracy", np.array([True, True, False, True]), None, epsilon=0.1)
    wilson = intervals.proportion(3, 4)
    assert (found.value, found.low, found.high, found.n) == (wilson.value, wilson.low, wilson.high, 4)
    assert found.conditions == {"epsilon": 0.1}


@pytest.mark.parametrize("copies", [4, 16])
def test_the_interval_of_repeated_records_is_that_of_their_patients(copies: int) -> None:
    hits = np.random.default_rng(0).random(60) < 0.7
    repeated, patients = np.repeat(hits, copies), np.repeat(np.arange(60), copies)
    clustered = share("accuracy", repeated, patients)
    wilson = share("accuracy", repeated, None)
    independent = share("accuracy", hits, None)
    assert clustered.value == pytest.approx(wilson.value)
    width = clustered.high - clustered.low
    assert width > 1.5 * (wilson.high - wilson.low)
    assert width == pytest.approx(independent.high - independent.low, rel=0.15)


SPARING: dict[str, dict[str, Any]] = {
    "backdoor": {"undefended": False, "trigger": {"name": "backdoor", "size": 1, "target": 0}},
    "global_explanations": {"from_training": False, "draws": 50, "pair_records": 5, "counterfactual_records": 5},
    "robustness": {"steps": 2, "carlini_wagner": {"name": "carlini_wagner", "steps": 2, "search_steps": 1}},
    "smoothing": {"samples": 20, "selection_samples": 10, "judging_samples": 10, "attack_steps": 1},
}
"""Settings with which an evaluation looks at no training records, or is quick."""


def asked(name: str) -> Evaluation:
    made = build("evaluation", {"name": name, **SPARING.get(name, {})})
    assert isinstance(made, Evaluation)
    return made


OF_OTHERS = [name for name in names("evaluation") if not asked(name).of_training_records]


def test_an_evaluation_is_of_training_records_unless_it_says_otherwise() -> None:
    class Forgotten(Evaluation):
        name: str = "forgotten"

    assert Forgotten().of_training_records
    assert set(names("evaluation")) - set(OF_OTHERS) == {
        *("membership", "lira", "audit", "clients", "inversion"),
        *("training_data", "feature_collision", "explanations", "glass_box"),
        *("adversarial_patch", "word_substitution", "copies"),
        # What is typical of a table, by which its corruptions go, is so of all its records.
        *("shift", "out_of_distribution"),
    }
    # Twins without defences and surrogates of a transferred attack are trained again.
    # The mean of the training records is a baseline, and a tree learns from them, unless a study says otherwise.
    others = ({"name": "robustness", "attacks": ["transfer"]}, {"name": "global_explanations"})
    for settings in ({"name": "backdoor"}, *others):
        assert build("evaluation", settings).of_training_records  # type: ignore[attr-defined]


# Concepts are asked of images and texts alone; test_concepts.py holds them to the same.
@pytest.mark.parametrize("name", [name for name in OF_OTHERS if name != "concepts"])
def test_what_is_not_of_training_records_is_the_same_whatever_they_are(
    name: str, make: Callable[..., Subject], log: Callable[..., TrainingLog]
) -> None:
    generator = np.random.default_rng(0)
    x, y, train = generator.uniform(-1, 1, (80, 3)), np.arange(80) % 2, np.arange(40)
    others = x.copy(), y.copy()
    others[0][train], others[1][train] = generator.uniform(-1, 1, (40, 3)), 1 - y[train]
    bounds = {"low": np.full(3, -2, np.float32), "high": np.full(3, 2, np.float32)}
    spent = {"central": {"noise_multiplier": 5.0, "sample_rate": 0.5, "steps": 2, "delta": 1e-3}}
    model = nn.Linear(3, 2, bias=False)
    nn.init.ones_(model.weight[0])
    nn.init.zeros_(model.weight[1])

    def again(*_: object, **__: object) -> NoReturn:
        raise AssertionError("trains again")

    def told(x: np.ndarray, y: np.ndarray, treatment: dict[str, int]) -> list[object]:
        left = log(losses=[y[:9].mean()], mechanisms=spent, treatment=treatment)
        recipe = Recipe(privacy=Privacy(epsilon=1))
        if name == "rounds":
            record = FederationRecord(sizes=[20, 20], rounds=[RoundRecord(asked=2, answered=2, bytes_up=8)])
            left, federation = log(federation=record.to_json()), Federation(clients=2, partition="dirichlet")
            recipe = recipe.model_copy(update={"federation": federation})
        subject = make(
            model, x, y, train=train, validation=np.arange(40, 55), about=bounds, recipe=recipe, log=left
        )  # fmt: skip
        return [plain(found) for found in asked(name).measure(replace(subject, train=again, network=again))]

    def plain(found: Measurement | Check) -> object:
        return repr(found) if isinstance(found, Check) or found.unit != "seconds" else found.name

    first = told(x, y, {"given": 40, "tampered": 0, "removed": 0, "removed_tampered": 0})
    assert first == told(*others, {"given": 40, "tampered": 9, "removed": 7, "removed_tampered": 3})
    assert any("status='measured'" in str(found) or "Check" in str(found) for found in first)
