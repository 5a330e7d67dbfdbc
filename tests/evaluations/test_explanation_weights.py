"""Whether a map depends on what was learnt is decided by several networks of random weights, not by one."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.evaluations import explanation_weights
from assay.evaluations.explained_records import measured_records, reference_of
from assay.evaluations.explanation_weights import (
    answers_alike,
    depends_on_weights,
    second_network,
    weights_check,
)
from assay.evaluations.subject import Subject
from assay.explain.base import ExplanationError
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.recipes import Recipe
from assay.results import Check, Measurement, judged

N, DRAWS = 40, 5


def of_draws(centre: float, between: float, seed: int = 0) -> np.ndarray:
    """(draws, n) correlations around a centre, whose draws differ."""
    draw = np.random.default_rng(seed)
    return centre + between * draw.normal(size=(DRAWS, 1)) + 0.1 * draw.normal(size=(DRAWS, N))


def again(centre: float) -> np.ndarray:
    return centre + 0.1 * np.random.default_rng(99).normal(size=N)


def test_maps_of_another_seed_that_are_more_alike_pass() -> None:
    check = weights_check("m", of_draws(0, 0.1), again(0.7))
    assert check.verdict == "pass" and "inconclusive" not in check.message
    assert check.figure == pytest.approx(0.7, abs=0.25)


def test_a_map_that_keeps_its_ranking_under_random_weights_is_caught() -> None:
    assert weights_check("m", of_draws(0.6, 0.05), again(0.6)).verdict == "warn"
    assert weights_check("m", of_draws(0.97, 0.0), None).verdict == "warn"


def test_a_map_that_weights_hardly_change_is_caught_though_another_seed_changes_it_even_less() -> None:
    random = np.full((DRAWS, N), 0.98) + 0.001 * of_draws(0, 0.1)
    seed = np.full(N, 0.99)
    assert float((seed - random).mean()) > 0.005
    check = weights_check("m", random, seed)
    assert check.verdict == "warn" and "hardly depends on the weights" in check.message
    assert weights_check("m", random, None).verdict == "warn"
    assert weights_check("m", random - 0.05, seed).verdict == "pass"  # below the limit


def test_where_weights_leave_the_answers_as_they_are_too_nothing_is_told_of_the_map() -> None:
    random, seed = np.full((DRAWS, N), 0.98), np.full(N, 0.99)
    for again in (seed, None):
        found = weights_check("m", random, again, answers=0.99)
        assert found.verdict == "inconclusive" and "leave the answers as they are" in found.message
        assert weights_check("m", random, again, answers=0.5).verdict == "warn"


def test_answers_are_alike_whatever_their_size_and_mean(subject: Subject) -> None:
    records = measured_records(subject, subject.split.test, reference_of(subject))
    torch.manual_seed(1)
    other = nn.Linear(5, 2)

    class Changed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            shift: Tensor = x[:, :1]
            return 0.01 * subject.model(x) + shift + torch.tensor([3.0, -5.0])

    assert answers_alike(records, [Changed(), Changed()]) == pytest.approx(1, abs=1e-5)
    assert abs(answers_alike(records, [other])) < 0.95
    assert answers_alike(records, [nn.Sequential(nn.Linear(5, 2), nn.Threshold(1e9, 0.0))]) == 0


def test_one_draw_that_agrees_by_chance_accuses_nobody() -> None:
    random = of_draws(0, 0.02)
    random[0] += 0.4
    found = weights_check("m", random, again(0.1))
    assert found.verdict == "inconclusive" and "inconclusive" in found.message


def test_at_most_one_in_twenty_maps_without_a_relation_is_accused() -> None:
    found = [weights_check("m", of_draws(0, 0.2, seed), again(0.0)).verdict for seed in range(400)]
    assert found.count("warn") <= 0.05 * 400 + 3 * np.sqrt(400 * 0.05 * 0.95)


@pytest.fixture
def subject(make: Callable[..., Subject]) -> Subject:
    x = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    torch.manual_seed(0)
    return make(nn.Linear(5, 2), x, x[:, 0] > 0, train=np.arange(30))


@pytest.mark.parametrize("usable", [0, 1])
@pytest.mark.parametrize("retrained", [True, False])
def test_with_fewer_than_two_random_networks_nothing_is_tested(
    subject: Subject, monkeypatch: pytest.MonkeyPatch, usable: int, retrained: bool
) -> None:
    records = measured_records(subject, subject.split.test, reference_of(subject))
    networks = [nn.Linear(5, 2) for _ in range(DRAWS)]
    monkeypatch.setattr(explanation_weights, "_random_networks", lambda subject: networks)

    def values_of(network: nn.Module) -> Tensor:
        if network in networks[usable:]:
            raise ExplanationError("no numbers")
        return torch.randn(records.x.shape, generator=torch.Generator().manual_seed(1))

    found = depends_on_weights(
        IntegratedGradients(), subject, records, values_of(subject.model), values_of,
        nn.Linear(5, 2) if retrained else None, None, {"method": "m"},
    )  # fmt: skip
    assert not [row for row in found if isinstance(row, Check)]
    (row,) = [row for row in judged(found) if row.conditions["network"] == "random weights"]
    assert isinstance(row, Measurement)
    assert (row.name, row.status, row.reason) == ("network_agreement", "not_applicable", "no_finite_answers")
    assert f"{usable} of {DRAWS}" in row.warnings[0]


@pytest.mark.parametrize(
    "recipe", [{"federation": {"clients": 3}}, {"privacy": {"epsilon": 1.0}}], ids=["federated", "private"]
)
def test_no_second_network_is_trained_on_records_that_stay_where_they_are(
    subject: Subject, recipe: dict[str, Any]
) -> None:
    trained: list[str] = []

    def train(rows: np.ndarray, name: str, recipe: Any = None) -> nn.Module:
        trained.append(name)
        return nn.Linear(5, 2)

    assert second_network(replace(subject, recipe=Recipe(), train=train)) is not None
    assert trained == ["second network"]
    assert second_network(replace(subject, recipe=Recipe.model_validate(recipe), train=train)) is None
    assert trained == ["second network"]
