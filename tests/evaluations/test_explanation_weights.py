"""Whether a map depends on what was learnt is decided by several networks of random weights, not by one."""

import numpy as np
import pytest

from assay.evaluations.explanation_weights import weights_check

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


def test_one_draw_that_agrees_by_chance_accuses_nobody() -> None:
    random = of_draws(0, 0.02)
    random[0] += 0.4
    found = weights_check("m", random, again(0.1))
    assert found.verdict == "pass" and "inconclusive" in found.message


def test_at_most_one_in_twenty_maps_without_a_relation_is_accused() -> None:
    found = [weights_check("m", of_draws(0, 0.2, seed), again(0.0)).verdict for seed in range(400)]
    assert found.count("warn") <= 0.05 * 400 + 3 * np.sqrt(400 * 0.05 * 0.95)


def test_without_numbers_nothing_is_tested() -> None:
    assert weights_check("m", None, None).verdict == "warn"
