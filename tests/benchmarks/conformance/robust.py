"""Rows on robust strategies: replies that are not finite, bounds, distances."""

from fractions import Fraction
from typing import Any

import numpy as np
import torch

import assay.objectives  # noqa: F401
from assay.federated.strategies.bulyan import Bulyan
from assay.recipes import Recipe
from tests.benchmarks.conformance.rounds import assay_round, strategy
from tests.benchmarks.conformance.row import Row, near, refused
from tests.federated.flower_peer import flower, flower_round, flower_vector
from tests.federated.quadratics import vector

_DRAWS = 20


def _with_one(name: str, lie: float) -> float:
    """Five clients of whom one says something else than 1."""
    return float(assay_round(strategy(name), vector(0.0), [vector(lie)] + [vector(1.0)] * 4, [5] * 5))


def _with_one_of_flower(name: str, lie: float) -> float:
    found = flower_vector(flower(name, 5), [0.0], [[lie]] + [[1.0]] * 4)
    assert found is not None
    return float(found[0])


def _trained(name: str, updates: list[list[float]], **settings: Any) -> float:
    """Weights after a round, if the strategy is not refused before."""
    made = strategy(name, **settings)
    made.refuse(len(updates), Recipe())
    return float(assay_round(made, vector(0.0), [vector(*update) for update in updates], [1] * len(updates)))


def _trained_of_flower(name: str, updates: list[list[float]], **settings: Any) -> Any:
    found = flower_vector(flower(name, len(updates), **settings), [0.0], updates)
    return "no weights, and no error" if found is None else float(found[0])


def _draws() -> list[np.ndarray]:
    generators = [np.random.default_rng(seed) for seed in range(_DRAWS)]
    return [(3 + 1e-4 * generator.normal(size=(9, 2000))).astype(np.float32) for generator in generators]


def _exact_krum(rows: np.ndarray, malicious: int = 2) -> int:
    """Krum's choice by differences in float64, whose error is far below the distance to the second best."""
    wide = rows.astype(np.float64)
    distances = np.square(wide[:, None] - wide[None]).sum(2)
    scores = np.sort(distances, axis=1)[:, 1 : len(rows) - malicious - 1].sum(1)
    order = np.argsort(scores)
    assert scores[order[1]] - scores[order[0]] > 1e-9 * scores[order[0]], "a tie in float64"
    return int(order[0])


def _other_choices() -> int:
    made, other = strategy("krum", malicious=2), 0
    for rows in _draws():
        found = assay_round(made, torch.zeros(rows.shape[1]), list(torch.from_numpy(rows)), [1] * 9)
        other += not np.array_equal(found.numpy(), rows[_exact_krum(rows)].astype(np.float64))
    return other


def _other_choices_of_flower() -> int:
    other = 0
    for rows in _draws():
        start = np.zeros(rows.shape[1], np.float32)
        found = flower_round(flower("Krum", 9, num_malicious_nodes=2), {"w": start}, [{"w": row} for row in rows])
        assert found is not None
        other += not np.array_equal(found["w"].astype(np.float32), rows[_exact_krum(rows)])
    return other


_SELECTION = [[value] for value in (-2.4, -0.5, -0.4, -0.3, 0.2, 0.3, 0.8, 1.1, 1.8, 3.4, 5.0)]
"""Eleven clients with two malicious ones of whom the best seven of one scoring are not those of Krum, iterated."""


def _iterated() -> float:
    """Bulyan's answer by the paper, in exact arithmetic."""
    rows = [Fraction(str(row[0])) for row in _SELECTION]
    remaining, selected = list(range(len(rows))), []
    while len(selected) < len(rows) - 4:
        scores = []
        for place in remaining:
            others = sorted((rows[place] - rows[other]) ** 2 for other in remaining if other != place)
            scores.append(sum(others[: max(2, len(remaining) - 4)]))
        selected.append(rows[remaining.pop(scores.index(min(scores)))])
    selected.sort()
    middle = selected[len(selected) // 2]
    nearest = sorted(selected, key=lambda value: abs(value - middle))[: len(selected) - 4]
    return float(sum(nearest) / len(nearest))


def _bulyan() -> float:
    rows = torch.tensor(_SELECTION, dtype=torch.float64)
    return float(assay_round(Bulyan(malicious=2), vector(0.0), list(rows), [1] * len(rows)))


ROWS = (
    *(
        Row(
            fault=18,
            name=f"{name}_{word}",
            input=f"{name}: four clients at 1, and one at {word}",
            right="1: that reply is rejected, the other four count",
            accepts=near(1.0),
            assay=lambda name=name, lie=lie: _with_one(name, lie),
            flower=lambda peer=peer, lie=lie: _with_one_of_flower(peer, lie),
            pfl_has_it=name == "fedavg" and word == "NaN",
        )
        for name, peer, word, lie in (
            ("fedmedian", "FedMedian", "NaN", float("nan")),
            ("fedavg", "FedAvg", "NaN", float("nan")),
            ("fedavg", "FedAvg", "infinity", float("inf")),
            ("fedavg", "FedAvg", "1e38", 1e38),
        )
    ),
    Row(
        fault=20,
        name="trimming_nobody",
        input="trimmed mean, β 0.2, four clients: 1, 1, 1 and 1e6",
        right="refused before training: β n < 1",
        accepts=refused,
        assay=lambda: _trained("fedtrimmedavg", [[1.0], [1.0], [1.0], [1e6]], beta=0.2),
        flower=lambda: _trained_of_flower("FedTrimmedAvg", [[1.0], [1.0], [1.0], [1e6]], beta=0.2),
    ),
    Row(
        fault=20,
        name="trimming_by_floats",
        input="trimmed mean, β 0.29, 100 clients: 71 at 1, and 29 at 1e6",
        right="1: 29 are trimmed at either end",
        accepts=near(1.0),
        assay=lambda: _trained("fedtrimmedavg", [[1.0]] * 71 + [[1e6]] * 29, beta=0.29),
        flower=lambda: _trained_of_flower("FedTrimmedAvg", [[1.0]] * 71 + [[1e6]] * 29, beta=0.29),
    ),
    Row(
        fault=21,
        name="krum_below_its_bound",
        input="Krum, n 3, f 1",
        right="refused before training: n ≥ 2f + 3",
        accepts=refused,
        assay=lambda: _trained("krum", [[1.0], [1.1], [9.0]], malicious=1),
        flower=lambda: _trained_of_flower("Krum", [[1.0], [1.1], [9.0]], num_malicious_nodes=1),
    ),
    Row(
        fault=21,
        name="bulyan_below_its_bound",
        input="Bulyan, n 5, f 1",
        right="refused before training: n ≥ 4f + 3",
        accepts=refused,
        assay=lambda: _trained("bulyan", [[1.0], [1.1], [1.2], [1.3], [9.0]], malicious=1),
        flower=lambda: _trained_of_flower("Bulyan", [[1.0], [1.1], [1.2], [1.3], [9.0]], num_malicious_nodes=1),
    ),
    Row(
        fault=21,
        name="bulyan_iterated",
        input=f"Bulyan, f 2, of {', '.join(f'{row[0]:g}' for row in _SELECTION)}",
        right=f"{_iterated():.6g}, by the paper's iterated selection",
        accepts=near(_iterated()),
        assay=_bulyan,
        flower=lambda: _trained_of_flower("Bulyan", _SELECTION, num_malicious_nodes=2),
    ),
    Row(
        fault=22,
        name="krum_distances",
        input=f"Krum, f 2, nine clients within 1e-4 of weights of 3, float32: wrong choices in {_DRAWS} draws",
        right="0",
        accepts=lambda given: given == 0,
        assay=_other_choices,
        flower=_other_choices_of_flower,
    ),
)
