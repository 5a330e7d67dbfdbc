"""FedNova: clients with more steps do not count more, also under momentum and schedules."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import assay.objectives  # noqa: F401
from assay import recipes
from assay.errors import IncompatibleRecipeError
from assay.federated.strategies.fedavg import FedAvg
from assay.federated.strategies.fednova import FedNova
from assay.recipes import Recipe, Training
from tests.federated.plain_sums import next_weights
from tests.federated.quadratics import Federation, cohort, vector
from tests.mistakes import refused

COSINE = Training(optimizer="sgd", momentum=0.5, schedule="cosine")


def step(strategy: Any, updates: Tensor, **given: Any) -> Tensor:
    return next_weights(strategy, strategy.server(), torch.zeros_like(updates[0]), updates, cohort(**given))


def test_equal_steps_are_federated_averaging() -> None:
    updates = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    given: dict[str, Any] = {"records": [3, 1, 4, 1], "steps": 6}
    torch.testing.assert_close(step(FedNova(), updates, **given), step(FedAvg(), updates, **given), rtol=0, atol=1e-14)
    halved = step(FedNova(learning_rate=0.5), updates, **given)
    torch.testing.assert_close(halved, step(FedAvg(), updates, **given) / 2, rtol=0, atol=1e-14)


def test_the_papers_formula_with_unequal_steps() -> None:
    """p = (¼, ¾), τ = (2, 8): τ_eff = 6.5; change = 6.5 (¼ · 1/2 · 1 + ¾ · 1/8 · 2)."""
    found = step(FedNova(), vector(1.0, 2.0)[:, None], records=[1, 3], steps=[2, 8])
    assert float(found) == pytest.approx(6.5 * (0.25 / 2 + 0.75 * 2 / 8), abs=1e-14)


def constant(value: float) -> Callable[[Tensor], Tensor]:
    return lambda weights: torch.full_like(weights, value)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_with_constant_gradients_the_direction_is_their_average_whatever_the_steps(momentum: float) -> None:
    """Gradients +1 and -1 cancel although one client takes three times the steps; averaging updates would not."""
    moved = {}
    for strategy in (FedNova(momentum=momentum), FedAvg()):
        run = Federation(
            strategy=strategy,
            gradients=[constant(1.0), constant(-1.0)],
            weights=vector(0.0),
            steps=[12, 4],
            momentum=momentum,
        )
        run.round()
        moved[strategy.name] = abs(float(run.weights))
    assert moved["fednova"] < 1e-14
    assert moved["fedavg"] > 0.1


def test_a_schedule_is_divided_by_the_sum_of_its_rates() -> None:
    run = Federation(
        strategy=FedNova(),
        gradients=[constant(1.0), constant(-1.0)],
        weights=vector(0.0),
        steps=[12, 4],
        rate=lambda step: 0.1 / (1 + step),
    )
    run.round()
    assert abs(float(run.weights)) < 1e-14


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_no_scale_passes_its_bound(momentum: float) -> None:
    recipe = Recipe(training=Training(optimizer="sgd", learning_rate=0.1))
    for steps in (1, 2, 50):
        (one,) = cohort([7], steps=steps, rates=0.1 / 500).contributions
        assert 0 < FedNova(momentum=momentum).scale(one) <= FedNova().scale_limit(7, recipe)


def test_a_client_without_steps_counts_for_nothing_but_its_records() -> None:
    found = step(FedNova(), vector(1.0, 0.0)[:, None], records=[1, 1], steps=[4, 0])
    assert float(found) == pytest.approx(0.5 * 4 * 0.5 / 4)


@pytest.mark.parametrize(
    ("settings", "training", "setting"),
    [
        ({}, Training(optimizer="adam"), "training.optimizer"),
        ({}, Training(optimizer="sgd", momentum=0.9), "federation.strategy.momentum"),
        ({"momentum": 0.5}, COSINE, "training.schedule"),
    ],
)
def test_local_training_of_unknown_weight_is_refused(settings: Any, training: Training, setting: str) -> None:
    with refused(IncompatibleRecipeError, setting):
        FedNova(**settings).refuse(2, Recipe(training=training))
    kept = recipes.Federation(optimizer_state="kept")
    with refused(IncompatibleRecipeError, "federation.optimizer_state", "kept", "fresh"):
        FedNova(momentum=0.9).refuse(2, Recipe(training=Training(optimizer="sgd", momentum=0.9), federation=kept))
    FedNova(momentum=0.9).refuse(2, Recipe(training=Training(optimizer="sgd", momentum=0.9)))
    FedNova().refuse(2, Recipe(training=Training(optimizer="sgd", momentum=0.0, schedule="cosine")))
