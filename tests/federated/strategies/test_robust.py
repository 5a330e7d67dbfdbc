"""Median, trimmed mean, Krum, Multi-Krum and Bulyan: definitions, bounds, and what liars can do."""

import itertools
import statistics
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import assay.objectives  # noqa: F401
from assay.errors import FederationError, IncompatibleRecipeError, SpecError
from assay.federated.strategies.base import Strategy
from assay.federated.strategies.bulyan import Bulyan
from assay.federated.strategies.distances import squared_distances
from assay.federated.strategies.fedtrimmedavg import FedTrimmedAvg
from assay.federated.strategies.krum import Krum
from assay.federated.strategies.multikrum import MultiKrum
from assay.recipes import Recipe
from assay.registry import build
from tests.federated.flower_peer import flower, flower_vector
from tests.federated.quadratics import cohort
from tests.mistakes import refused


def strategy(name: str, **settings: Any) -> Strategy:
    made = build("strategy", {"name": name, **settings})
    assert isinstance(made, Strategy)
    return made


def combined(made: Strategy, updates: Any) -> Tensor:
    rows = torch.as_tensor(updates, dtype=torch.float64)
    return made.combine(rows, cohort([1] * len(rows)))


def cloud(clients: int, size: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(clients, size))


def krum_by_definition(rows: list[list[Fraction]], malicious: int, least: int = 1) -> list[int]:
    """Rows by Krum's score in exact arithmetic, the best first."""
    distance = lambda a, b: sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    scores = []
    for place, row in enumerate(rows):
        others = sorted(distance(row, other) for number, other in enumerate(rows) if number != place)
        scores.append(sum(others[: max(least, len(rows) - malicious - 2)], Fraction(0)))
    return sorted(range(len(rows)), key=lambda place: scores[place])


def exact(updates: np.ndarray) -> list[list[Fraction]]:
    return [[Fraction(float(value)) for value in row] for row in updates]


@given(rows=st.lists(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), min_size=3, max_size=9))
def test_the_median_is_that_of_the_standard_library(rows: list[list[float]]) -> None:
    expected = [statistics.median(column) for column in zip(*rows, strict=True)]
    assert combined(strategy("fedmedian"), rows).tolist() == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_the_published_vectors_of_byzfl() -> None:
    """Its README: three honest vectors and their mean with the sign flipped, trimmed mean with f = 1."""
    rows = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0], [-4.0, -5.0, -6.0]]
    assert combined(strategy("fedtrimmedavg", beta=0.25), rows).tolist() == [2.5, 3.5, 4.5]


@pytest.mark.parametrize(
    ("beta", "clients", "trimmed"),
    [(0.29, 100, 29), ("29/100", 100, 29), (0.2, 5, 1), (0.2, 9, 1), (0.2, 10, 2), ("1/3", 3, 1), (0.07, 100, 7)],
)
def test_trimming_counts_by_fractions(beta: Any, clients: int, trimmed: int) -> None:
    made = FedTrimmedAvg(beta=beta)
    assert made.trimmed(clients) == trimmed
    rows = torch.arange(clients, dtype=torch.float64)[:, None]
    rows[-trimmed:] = 1e12
    expected = (sum(range(trimmed, clients - trimmed))) / (clients - 2 * trimmed)
    assert float(combined(made, rows)) == pytest.approx(expected)


def test_trimming_that_trims_nobody_is_refused_before_training() -> None:
    made = strategy("fedtrimmedavg", beta=0.2)
    with refused(IncompatibleRecipeError, "federation.strategy", 4, 5):
        made.refuse(4, Recipe())
    made.refuse(5, Recipe())
    assert strategy("fedtrimmedavg", beta=0.29).least_clients == 4


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.7, -0.1])
def test_trimming_nothing_or_everything_is_no_setting(beta: float) -> None:
    with refused(SpecError, "beta", beta):
        strategy("fedtrimmedavg", beta=beta)


@pytest.mark.parametrize(
    ("name", "settings", "least"),
    [
        ("krum", {"malicious": 0}, 3),
        ("krum", {"malicious": 1}, 5),
        ("krum", {"malicious": 3}, 9),
        ("multikrum", {"malicious": 2}, 7),
        ("bulyan", {"malicious": 1}, 7),
        ("bulyan", {"malicious": 2}, 11),
        ("fedmedian", {}, 3),
        ("fedavg", {}, 1),
    ],
)
def test_a_bound_is_checked_before_training_and_in_every_round(name: str, settings: dict[str, Any], least: int) -> None:
    made = strategy(name, **settings)
    made.refuse(least, Recipe())
    with refused(IncompatibleRecipeError, "federation.strategy", least - 1, least):
        made.refuse(least - 1, Recipe())
    if made.needs_single_updates:
        with pytest.raises(FederationError, match=str(least)):
            combined(made, cloud(least - 1))


def test_multikrum_selects_no_more_than_the_proof_covers() -> None:
    made = strategy("multikrum", malicious=1, selected=5)
    made.refuse(8, Recipe())
    with refused(IncompatibleRecipeError, "federation.strategy.selected", 5, 4):
        made.refuse(7, Recipe())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("clients", "malicious"), [(5, 1), (9, 2), (11, 4), (8, 0)])
def test_krum_and_multikrum_by_definition_in_exact_arithmetic(seed: int, clients: int, malicious: int) -> None:
    updates = cloud(clients, seed=seed)
    order = krum_by_definition(exact(updates), malicious)
    assert combined(Krum(malicious=malicious), updates).tolist() == updates[order[0]].tolist()
    for selected in (1, 2, clients - malicious - 2):
        found = combined(MultiKrum(malicious=malicious, selected=selected), updates)
        np.testing.assert_allclose(found.numpy(), updates[order[:selected]].mean(0), rtol=0, atol=1e-13)
    default = combined(MultiKrum(malicious=malicious), updates)
    np.testing.assert_allclose(default.numpy(), updates[order[: clients - malicious - 2]].mean(0), atol=1e-13)


def test_distances_of_nearly_equal_updates_are_exact() -> None:
    """Nine within 1e-4 of weights of size 3: the expanded square is negative here in float32."""
    for seed in range(20):
        updates = 3 + 1e-4 * cloud(9, 50, seed)
        distances = squared_distances(torch.from_numpy(updates))
        rows = exact(updates)
        for a, b in itertools.combinations(range(9), 2):
            right = float(sum((x - y) ** 2 for x, y in zip(rows[a], rows[b], strict=True)))
            assert float(distances[a, b]) == pytest.approx(right, rel=1e-9)
        order = krum_by_definition(rows, 2)
        assert combined(Krum(malicious=2), updates).tolist() == updates[order[0]].tolist()


def bulyan_by_definition(updates: np.ndarray, malicious: int) -> list[float]:
    rows, remaining, selected = exact(updates), list(range(len(updates))), []
    while len(selected) < len(updates) - 2 * malicious:
        best = krum_by_definition([rows[place] for place in remaining], malicious, least=2)[0]
        selected.append(remaining.pop(best))
    result = []
    for column in range(updates.shape[1]):
        values = [rows[place][column] for place in selected]
        middle = statistics.median(values)
        nearest = sorted(values, key=lambda value: abs(value - middle))[: len(selected) - 2 * malicious]
        result.append(float(sum(nearest) / len(nearest)))
    return result


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("clients", "malicious"), [(7, 1), (9, 1), (11, 2), (5, 0)])
def test_bulyan_by_definition_in_exact_arithmetic(seed: int, clients: int, malicious: int) -> None:
    updates = cloud(clients, 3, seed)
    found = combined(Bulyan(malicious=malicious), updates)
    assert found.tolist() == pytest.approx(bulyan_by_definition(updates, malicious), abs=1e-12)


def test_bulyan_is_iterated_where_a_selection_at_one_go_differs() -> None:
    """Flower takes the θ best of one scoring. In some of these clouds the two choose differently."""
    differing = 0
    for seed in range(20):
        updates = cloud(11, 2, seed)
        once = sorted(krum_by_definition(exact(updates), 2)[:7])
        differing += Bulyan(malicious=2).selection(torch.from_numpy(updates)) != once
    assert differing >= 3


def test_without_liars_bulyan_is_the_mean() -> None:
    updates = cloud(6)
    np.testing.assert_allclose(combined(Bulyan(malicious=0), updates).numpy(), updates.mean(0), atol=1e-13)


def test_flowers_bulyan_agrees_where_both_select_the_same() -> None:
    agreed = 0
    for seed in range(10):
        updates = cloud(7, 3, seed)
        made = Bulyan(malicious=1)
        if made.selection(torch.from_numpy(updates)) == sorted(krum_by_definition(exact(updates), 1)[:5]):
            theirs = flower_vector(flower("Bulyan", 7, num_malicious_nodes=1), np.zeros(3), updates)
            np.testing.assert_allclose(combined(made, updates).numpy(), theirs, atol=1e-9)
            agreed += 1
    assert agreed


@pytest.mark.parametrize("lie", [1e6, -1e30, 1e300])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("fedmedian", {}),
        ("fedtrimmedavg", {"beta": 0.25}),
        ("krum", {"malicious": 2}),
        ("multikrum", {"malicious": 2}),
        ("bulyan", {"malicious": 2}),
    ],
)
def test_two_liars_of_eleven_move_nothing_far(name: str, settings: dict[str, Any], lie: float) -> None:
    updates = cloud(11)
    updates[[0, 5]] = lie
    found = combined(strategy(name, **settings), updates)
    honest = np.delete(updates, [0, 5], axis=0)
    assert bool((found >= torch.from_numpy(honest.min(0))).all() and (found <= torch.from_numpy(honest.max(0))).all())


@pytest.mark.parametrize(
    ("name", "settings"),
    [("fedmedian", {}), ("fedtrimmedavg", {}), ("krum", {"malicious": 1}), ("bulyan", {"malicious": 1})],
)
def test_the_order_of_clients_does_not_matter(name: str, settings: dict[str, Any]) -> None:
    updates = cloud(8)
    found = [
        combined(strategy(name, **settings), updates[order]) for order in (np.arange(8), np.arange(8)[::-1].copy())
    ]
    torch.testing.assert_close(*found, rtol=0, atol=1e-13)
