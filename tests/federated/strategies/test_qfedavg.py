"""q-FedAvg: the paper's update, and losses that it needs."""

from typing import Any

import numpy as np
import pytest
import torch

import assay.objectives  # noqa: F401
from assay.errors import FederationError, IncompatibleRecipeError
from assay.federated.strategies.qfedavg import QFedAvg
from assay.recipes import Privacy, Recipe, Training
from tests.federated.flower_peer import flower, flower_vector
from tests.federated.plain_sums import next_weights
from tests.federated.quadratics import cohort
from tests.mistakes import refused

UPDATES = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
LOSSES = [0.3, 2.0, 0.7, 1.1]


def change(losses: list[float] | None, **settings: Any) -> torch.Tensor:
    made = QFedAvg(**settings)
    given = cohort([5, 1, 1, 1], losses=losses, steps=[3, 3, 3, 3], rates=0.05)
    return next_weights(made, made.server(), torch.zeros(5, dtype=torch.float64), UPDATES, given)


@pytest.mark.parametrize("q", [0.0, 0.1, 1.0, 5.0])
def test_flower_agrees(q: float) -> None:
    theirs = flower_vector(
        flower("QFedAvg", 4, client_learning_rate=0.05, q=q), np.zeros(5), UPDATES.numpy(), losses=LOSSES
    )
    np.testing.assert_allclose(change(LOSSES, q=q).numpy(), theirs, rtol=0, atol=1e-12)
    np.testing.assert_allclose(change(LOSSES, q=q, client_learning_rate=0.05).numpy(), theirs, rtol=0, atol=1e-12)


def test_without_q_it_is_the_plain_mean() -> None:
    torch.testing.assert_close(change(LOSSES, q=0.0), UPDATES.mean(0), rtol=0, atol=1e-14)


def test_the_client_with_the_greater_loss_counts_more() -> None:
    found = change([1e-3, 10.0, 1e-3, 1e-3], q=2.0)
    assert float(torch.cosine_similarity(found, UPDATES[1], dim=0)) > 0.999


def test_a_loss_of_zero_has_a_finite_step() -> None:
    assert bool(change([0.0, 1.0, 1.0, 1.0], q=0.5).isfinite().all())


@pytest.mark.parametrize("q", [0.0, 0.1, 1.0, 5.0])
@pytest.mark.parametrize("loss", [0.0, 0.5, 20.0, 1e12])
def test_no_loss_passes_the_public_bound_of_scales(q: float, loss: float) -> None:
    made = QFedAvg(q=q)
    (one,) = cohort([3], losses=[loss]).contributions
    assert made.scale(one) <= made.scale_limit(3, Recipe()) * (1 + 1e-12)


@pytest.mark.parametrize("losses", [None, [-1.0, 1.0, 1.0, 1.0], [float("nan"), 1.0, 1.0, 1.0]])
def test_missing_and_impossible_losses_are_an_error(losses: list[float] | None) -> None:
    with pytest.raises(FederationError, match="client 1"):
        change(losses)


def test_private_clients_and_adam_are_refused() -> None:
    sgd = Training(optimizer="sgd")
    with refused(IncompatibleRecipeError, "federation.strategy", "qfedavg"):
        QFedAvg().refuse(2, Recipe(privacy=Privacy(epsilon=1.0), training=sgd))
    with refused(IncompatibleRecipeError, "training.optimizer", "adam"):
        QFedAvg().refuse(2, Recipe(training=Training(optimizer="adam")))
    QFedAvg(client_learning_rate=0.1).refuse(2, Recipe(training=Training(optimizer="adam")))
    QFedAvg().refuse(2, Recipe(training=sgd))
