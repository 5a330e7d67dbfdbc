"""SCAFFOLD: no drift, the paper's bookkeeping, and a first round that is federated averaging."""

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import assay.objectives  # noqa: F401
from assay.errors import IncompatibleRecipeError
from assay.federated.strategies.fedavg import FedAvg
from assay.federated.strategies.scaffold import Scaffold
from assay.recipes import Recipe, Training
from assay.training.hooks.control_variate import CONTROL_VARIATE, ControlVariate
from tests.federated.quadratics import Federation, vector
from tests.mistakes import refused


def quadratic(target: float, curvature: float) -> Callable[[Tensor], Tensor]:
    return lambda weights: curvature * (weights - target)


TWO = [quadratic(0.0, 1.0), quadratic(1.0, 4.0)]
"""Gradients of ½x² and 2(x - 1)², whose sum is least at 0.8."""


def run(rounds: int = 400, **given: Any) -> float:
    federation = Federation(
        **{"strategy": Scaffold(), "gradients": TWO, "weights": vector(0.0), "steps": [10, 10], **given}
    )
    for _ in range(rounds):
        federation.round()
    return float(federation.weights)


def test_two_quadratics_end_at_the_optimum_of_their_sum() -> None:
    assert run() == pytest.approx(0.8, abs=1e-9)


@pytest.mark.parametrize(
    "given",
    [
        {"steps": [10, 4]},
        {"momentum": 0.5, "rate": lambda step: 0.05},
        {"rate": lambda step: 0.1 * 0.5 * (1 + np.cos(np.pi * step / 10))},
        {"strategy": Scaffold(learning_rate=0.5)},
        {"strategy": Scaffold(weighting="clients"), "records": [90, 10]},
    ],
    ids=["unequal steps", "momentum", "cosine", "server rate", "by clients"],
)
def test_so_they_do_with_unequal_steps_momentum_schedules_and_rates(given: dict[str, Any]) -> None:
    assert run(100, **given) == pytest.approx(0.8, abs=1e-9)


def test_by_records_the_optimum_is_that_of_the_weighted_sum() -> None:
    """(3·x + 1·4(x - 1)) / 4 is 0 at 4/7, which is also what federated averaging aims at."""
    assert run(100, records=[3, 1]) == pytest.approx(4 / 7, abs=1e-9)


def test_the_servers_variate_is_the_mean_of_all_clients_also_of_those_not_drawn() -> None:
    draw = np.random.default_rng(0)
    gradients = [quadratic(float(draw.normal()), float(draw.uniform(0.5, 2))) for _ in range(10)]
    federation = Federation(
        strategy=Scaffold(), gradients=gradients, weights=torch.zeros(3, dtype=torch.float64), steps=[4 * 2] * 10
    )
    for _ in range(30):
        federation.round(draw.choice(10, 3, replace=False).tolist())
        variates = []
        for hooks in federation.hooks:
            (hook,) = hooks
            assert isinstance(hook, ControlVariate)
            variates.append(torch.zeros(3).double() if hook.variate is None else hook.variate)
        sent = federation.server.sent()[CONTROL_VARIATE]
        torch.testing.assert_close(sent, torch.stack(variates).mean(0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("records", [[1, 1], [7, 3]])
def test_the_first_round_is_federated_averaging_bit_for_bit(records: list[int]) -> None:
    firsts = []
    for strategy in (Scaffold(), FedAvg()):
        federation = Federation(
            strategy=strategy, gradients=TWO, weights=vector(0.3), steps=[10, 7], records=records, momentum=0.9
        )
        federation.round()
        firsts.append(federation.weights)
    assert torch.equal(*firsts)


def test_the_mean_gradient_is_option_two_of_the_paper_for_plain_sgd() -> None:
    """c_i - c + (x - y) / Σ η_t, in rounds where neither variate is 0, with a schedule."""
    rate = lambda step: 0.1 / (1 + step)
    federation = Federation(strategy=Scaffold(), gradients=TWO, weights=vector(0.3), steps=[6, 6], rate=rate)
    for _ in range(3):
        federation.round()
    (hook,) = federation.hooks[1]
    assert isinstance(hook, ControlVariate)
    own, server, start = hook.variate, federation.server.sent()[CONTROL_VARIATE], federation.weights
    assert own is not None
    update, vectors = federation._local(1)
    expected = own - server - update / statistics.fsum(map(rate, range(6)))
    torch.testing.assert_close(own + vectors[CONTROL_VARIATE], expected, rtol=0, atol=1e-12)
    assert torch.equal(federation.weights, start)


def test_a_client_goes_on_from_its_stored_state() -> None:
    a, b = (Federation(strategy=Scaffold(), gradients=TWO, weights=vector(0.3), steps=[5, 5]) for _ in range(2))
    for federation in (a, b):
        federation.round()
    for place, hooks in enumerate(b.hooks):
        state = hooks[0].state()
        b.hooks[place] = Scaffold().hooks()
        b.hooks[place][0].restore(*state)
    fresh = Scaffold().server()
    fresh.restore(*b.server.state())
    b.server = fresh
    for federation in (a, b):
        federation.round()
    assert torch.equal(a.weights, b.weights)


def test_a_client_that_took_no_step_keeps_its_variate() -> None:
    hook = ControlVariate()
    hook.restore({"variate": vector(1.0, 2.0)}, {})
    hook.start_round([torch.zeros(2)], {})
    assert hook.end_round()[CONTROL_VARIATE].tolist() == [0, 0]
    assert hook.state()[0]["variate"].tolist() == [1, 2]


def test_adam_is_refused_and_momentum_is_not() -> None:
    with refused(IncompatibleRecipeError, "training.optimizer", "adam", "sgd"):
        Scaffold().refuse(3, Recipe(training=Training(optimizer="adam")))
    Scaffold().refuse(3, Recipe(training=Training(optimizer="sgd", momentum=0.9)))
