"""Averages: weights of clients, momentum and adaptive optimisers at the server, against closed forms and Flower."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import assay.objectives  # noqa: F401
from assay.errors import FederationError
from assay.federated.strategies.base import ServerState, Strategy
from assay.registry import build, methods
from tests.federated.flower_peer import flower, flower_vector
from tests.federated.plain_sums import next_weights
from tests.federated.quadratics import Federation, cohort, vector

SETTINGS: dict[str, dict[str, Any]] = {
    "krum": {"malicious": 1},
    "multikrum": {"malicious": 1},
    "bulyan": {"malicious": 1},
}
OURS = sorted(set(methods("strategy")) - {"flower"})


def strategy(name: str, **settings: Any) -> Strategy:
    made = build("strategy", {"name": name, **SETTINGS.get(name, {}), **settings})
    assert isinstance(made, Strategy)
    return made


def one(name: str, updates: Any, records: list[int], **settings: Any) -> list[float]:
    """Weights after one round from 0."""
    made, given = strategy(name, **settings), torch.tensor(updates, dtype=torch.float64)
    return next_weights(made, made.server(), torch.zeros_like(given[0]), given, cohort(records)).tolist()


def drawn(rounds: int, clients: int, size: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(clients, size, dtype=torch.float64, generator=generator) for _ in range(rounds)]


def path(made: Strategy, server: ServerState, updates: list[Tensor], records: list[int]) -> list[Tensor]:
    """Weights after each round from 1."""
    weights, seen = torch.ones_like(updates[0][0]), []
    for number, rows in enumerate(updates, start=1):
        about = cohort(records, number=number, losses=[0.5 + place for place in range(len(records))])
        zeros = [dict.fromkeys(made.summed_vectors, rows[place]) for place in range(len(records))]
        weights = next_weights(made, server, weights, rows, about, vectors=zeros)
        seen.append(weights)
    return seen


def test_clients_count_by_their_records() -> None:
    assert one("fedavg", [[0.0], [1.0]], [10, 1000]) == [pytest.approx(1000 / 1010, abs=1e-15)]
    assert one("fedavg", [[0.0], [1.0]], [10, 1000], weighting="clients") == [0.5]


@pytest.mark.parametrize("name", ["fedavg", "fedprox", "fedmedian", "fedtrimmedavg", "krum", "multikrum", "bulyan"])
@given(clients=st.integers(7, 20), value=st.floats(-5, 5))
def test_clients_who_agree_are_followed(name: str, clients: int, value: float) -> None:
    assert one(name, [[value, 1.0]] * clients, [3] * clients) == [pytest.approx(value, abs=1e-12), pytest.approx(1)]


def test_no_records_at_all_are_an_error_that_names_the_round() -> None:
    for name in ("fedavg", "fednova"):
        with pytest.raises(FederationError, match="round 1"):
            one(name, [[0.0], [1.0]], [0, 0])


def test_momentum_adds_up_changes() -> None:
    made = strategy("fedavgm", server_momentum=0.5, learning_rate=2.0)
    seen = path(made, made.server(), [torch.ones(1, 1, dtype=torch.float64)] * 3, [1])
    assert [float(weights) for weights in seen] == [1 + 2, 1 + 2 + 3, 1 + 2 + 3 + 3.5]


@pytest.mark.parametrize("change", [1.0, -3.0, 1e-6])
def test_the_first_round_of_fedadam_moves_by_the_learning_rate(change: float) -> None:
    assert one("fedadam", [[change, 0.0]], [1], learning_rate=1.0, tau=0.0) == [pytest.approx(np.sign(change)), 0.0]
    tau = 0.25
    expected = change / (abs(change) + tau)
    assert one("fedadam", [[change]], [1], learning_rate=1.0, tau=tau) == [pytest.approx(expected)]


def test_fedadam_is_torchs_adam_on_the_negative_change() -> None:
    made = strategy("fedadam", learning_rate=0.1, tau=1e-3, beta_1=0.8, beta_2=0.95)
    updates = drawn(6, 1, 5)
    weights = torch.ones(5, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([weights], lr=0.1, betas=(0.8, 0.95), eps=1e-3)
    for rows, found in zip(updates, path(made, made.server(), updates, [1]), strict=True):
        weights.grad = -rows[0]
        adam.step()
        torch.testing.assert_close(found, weights.detach(), rtol=0, atol=1e-12)


def test_fedadagrad_and_fedyogi_begin_with_tau_squared() -> None:
    """The paper's algorithm 2, by hand: Δ = 2, τ = 0.5."""
    assert one("fedadagrad", [[2.0]], [1], learning_rate=1.0, tau=0.5) == [pytest.approx(2 / (np.sqrt(0.25 + 4) + 0.5))]
    first = 0.2 / (np.sqrt(0.25 + 0.01 * 4) + 0.5)
    assert one("fedyogi", [[2.0]], [1], learning_rate=1.0, tau=0.5) == [pytest.approx(first)]


PEERS: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "fedavg": ({}, "FedAvg", {}),
    "fedavgm": (
        {"learning_rate": 0.7, "server_momentum": 0.6},
        "FedAvgM",
        {"server_learning_rate": 0.7, "server_momentum": 0.6},
    ),
    # Flower starts v at 0, and the paper at τ²: with a small τ they agree.
    "fedadagrad": ({"tau": 1e-9}, "FedAdagrad", {"tau": 1e-9}),
    "fedyogi": ({"tau": 1e-9}, "FedYogi", {"tau": 1e-9}),
    "fedmedian": ({}, "FedMedian", {}),
    "fedtrimmedavg": ({"beta": 0.2}, "FedTrimmedAvg", {"beta": 0.2}),
    "krum": ({"malicious": 1}, "Krum", {"num_malicious_nodes": 1}),
}


@pytest.mark.parametrize("name", PEERS)
def test_flower_agrees_where_it_is_right(name: str) -> None:
    settings, peer, theirs = PEERS[name]
    made, other = strategy(name, **settings), flower(peer, 7, **theirs)
    updates, records = drawn(5, 7, 4), [3, 1, 4, 1, 5, 9, 2]
    found, weights = path(made, made.server(), updates, records), np.ones(4)
    for number, rows in enumerate(updates, start=1):
        step = flower_vector(other, weights, rows.numpy(), examples=records, number=number)
        assert step is not None
        weights = step
        np.testing.assert_allclose(found[number - 1].numpy(), weights, rtol=0, atol=1e-8)


def test_fedprox_without_its_term_is_fedavg_and_pulls_by_the_squared_distance() -> None:
    (term,) = strategy("fedprox", proximal_mu=1.0).hooks()
    term.start_round([torch.zeros(2)], {})
    (pull,) = term.gradients(0, [torch.tensor([3.0, 4.0])], [torch.zeros(2)])
    assert pull.tolist() == [3.0, 4.0]
    (none,) = strategy("fedprox", proximal_mu=0.0).hooks()
    given = [torch.ones(2)]
    none.start_round([torch.zeros(2)], {})
    assert none.gradients(0, [torch.ones(2)], given) is given


def test_fedprox_anchors_anew_in_every_round() -> None:
    (term,) = strategy("fedprox", proximal_mu=1.0).hooks()
    for start in (0.0, 5.0):
        term.start_round([torch.full((2,), start)], {})
        assert term.gradients(0, [torch.full((2,), start + 1)], [torch.zeros(2)])[0].tolist() == [1, 1]
        assert term.end_round() == {}
        assert term.state()[0] == {}


@pytest.mark.parametrize("name", OURS)
def test_a_restored_server_takes_the_same_next_step(name: str) -> None:
    made = strategy(name)
    updates, records = drawn(5, 9, 6), [2] * 9
    server = made.server()
    path(made, server, updates[:3], records)
    tensors, about = server.state()
    again = made.server()
    again.restore({key: value.clone() for key, value in tensors.items()}, about)
    weights = [path(made, state, updates[3:], records)[-1] for state in (server, again)]
    assert torch.equal(*weights)


@pytest.mark.parametrize("name", OURS)
def test_a_fresh_server_is_restored_as_a_fresh_one(name: str) -> None:
    made = strategy(name)
    updates = drawn(2, 9, 6)
    again = made.server()
    again.restore(*made.server().state())
    assert torch.equal(path(made, again, updates, [1] * 9)[-1], path(made, made.server(), updates, [1] * 9)[-1])


@pytest.mark.parametrize("name", OURS)
def test_a_strategy_changes_neither_weights_nor_updates_in_place(name: str) -> None:
    made, (updates,) = strategy(name), drawn(1, 9, 6)
    weights, before = torch.ones(6, dtype=torch.float64), updates.clone()
    vectors: list[Any] = [dict.fromkeys(made.summed_vectors, updates[place]) for place in range(9)]
    about = cohort([1] * 9, losses=[1.0] * 9)
    server = made.server()
    for _ in range(2):
        next_weights(made, server, weights, updates, about, vectors=vectors)
    assert torch.equal(updates, before)
    assert torch.equal(weights, torch.ones(6, dtype=torch.float64))


def quadratic(target: float, curvature: float) -> Callable[[Tensor], Tensor]:
    return lambda weights: curvature * (weights - target)


def test_federated_averaging_of_two_quadratics_ends_beside_the_optimum() -> None:
    """½x² and 2(x - 1)², ten steps at 0.1: the reference figure of the drift that SCAFFOLD removes."""
    run = Federation(
        strategy=strategy("fedavg"),
        gradients=[quadratic(0.0, 1.0), quadratic(1.0, 4.0)],
        weights=vector(0.0),
        steps=[10, 10],
    )
    for _ in range(400):
        run.round()
    a, b = 0.9**10, 0.6**10  # local training maps x to a x, and to 1 + b (x - 1)
    assert float(run.weights) == pytest.approx((1 - b) / (2 - a - b), abs=1e-12)
    assert float(run.weights) == pytest.approx(0.604, abs=5e-4)
