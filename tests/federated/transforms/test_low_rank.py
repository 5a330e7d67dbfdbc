"""Factors find what a singular value decomposition finds."""

from collections.abc import Mapping

import numpy as np
import pytest

from assay.federated.transforms.low_rank import LowRank

SHAPES = [(20, 3, 10), (5,), (2, 2)]


State = Mapping[str, np.ndarray]


def encoded(transform: LowRank, values: np.ndarray, state: State, seed: int = 0) -> tuple[State, np.ndarray]:
    """The client's new state, and what the server decodes."""
    made = transform.encode(values, SHAPES, state, generator=np.random.default_rng(seed))
    assert len(made.values) == transform.count(len(values), SHAPES)
    return made.state, transform.decode(made.values, b"", len(values), SHAPES)


def whole(matrix: np.ndarray) -> np.ndarray:
    rest = np.arange(5 + 4) / 7
    return np.concatenate([matrix.reshape(-1), rest]).astype(np.float32)


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_a_matrix_of_that_rank_comes_back_and_small_parameters_are_not_touched(rank: int) -> None:
    draw = np.random.default_rng(rank)
    values = whole(draw.standard_normal((20, rank)) @ draw.standard_normal((rank, 30)))
    _, decoded = encoded(LowRank(rank=rank), values, {})
    assert decoded[:600] == pytest.approx(values[:600], abs=1e-4)
    assert decoded[600:].tolist() == values[600:].tolist()


def test_started_from_the_last_factor_it_becomes_the_best_of_its_rank() -> None:
    matrix = np.random.default_rng(3).standard_normal((20, 30)).astype(np.float32)
    values, errors = whole(matrix), []
    state: State = {}
    for _ in range(60):
        state, decoded = encoded(LowRank(rank=3), values, state)
        errors.append(float(np.linalg.norm(decoded - values)))
    best = float(np.sqrt((np.linalg.svd(matrix, compute_uv=False)[3:] ** 2).sum()))
    assert errors[-1] == pytest.approx(best, rel=1e-3) and errors[0] > 1.05 * best
    assert state["right0"].shape == (30, 3) and list(state) == ["right0"]


def test_after_an_update_of_zeros_it_finds_the_next_one() -> None:
    draw = np.random.default_rng(1)
    state, _ = encoded(LowRank(rank=2), np.zeros(609, np.float32), {})
    values = whole(draw.standard_normal((20, 2)) @ draw.standard_normal((2, 30)))
    _, decoded = encoded(LowRank(rank=2), values, state, seed=1)
    assert decoded == pytest.approx(values, abs=1e-4)
