"""The likelihood ratio reaches the power of the best test there is, and never less than the published formula."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from assay.evaluations.likelihood import likelihood_ratio

RATE = 0.01


def world(
    seed: int, *, shadows: int, n: int = 40_000, gap: float = 2.0, spread: float = 0.0, gaps: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Normal confidences of easy and hard records, which training on a record raises by ``gap`` deviations or so.

    Own (n,); of the shadows (shadows, n), and who is in; who is a member (n,); the best score that there is (n,).
    """
    generator = np.random.default_rng(seed)
    level, deviation = 5 * generator.normal(size=n), np.exp(spread * generator.normal(size=n))
    raised = gap * (1 + gaps * generator.normal(size=n))
    inside = generator.permuted(np.tile((np.arange(shadows) % 2 == 0)[:, None], n), axis=0)
    member = np.arange(n) % 2 == 0
    said = level + raised * inside + deviation * generator.normal(size=(shadows, n))
    own = level + raised * member + deviation * generator.normal(size=n)
    best = (raised * (own - level) - raised**2 / 2) / deviation**2
    return own, said, inside, member, best


def recognised(score: np.ndarray, member: np.ndarray, rate: float = RATE) -> float:
    """True-positive rate at a false-positive one."""
    return float((score[member] > np.quantile(score[~member], 1 - rate)).mean())


def published(own: np.ndarray, shadows: np.ndarray, inside: np.ndarray, mode: str, fixed: bool) -> np.ndarray:
    """Algorithm 1 of Carlini et al. 2022, from the paper; with one variance for all records, or one for each."""
    within, without = np.where(inside, shadows, np.nan), np.where(inside, np.nan, shadows)
    mean_in, mean_out = np.nanmean(within, 0), np.nanmean(without, 0)
    if fixed:
        std_in, std_out = np.nanstd(within - mean_in), np.nanstd(without - mean_out)
    else:
        std_in, std_out = np.nanstd(within, 0), np.nanstd(without, 0)
    if mode == "offline":
        return -norm.logsf(own, mean_out, std_out)
    return norm.logpdf(own, mean_in, std_in) - norm.logpdf(own, mean_out, std_out)


@pytest.mark.parametrize("shadows", [16, 64])
def test_it_reaches_the_power_that_neyman_and_pearson_allow(shadows: int) -> None:
    """Levels are known from all shadows, with 1/shadows of a model's own variance: no test does better than that."""
    own, said, inside, member, best = world(0, shadows=shadows)
    error = 3 * (0.25 / member.sum()) ** 0.5
    assert recognised(best, member) == pytest.approx(norm.cdf(2.0 - norm.isf(RATE)), abs=2 * error)
    with_levels = norm.cdf(2.0 / (1 + 1 / shadows) ** 0.5 - norm.isf(RATE))
    found = recognised(likelihood_ratio(own, said, inside, mode="online"), member)
    # The threshold is uncertain, too, and by more than the rate.
    assert found == pytest.approx(with_levels, abs=2 * error)


@pytest.mark.parametrize("mode", ["online", "offline"])
@pytest.mark.parametrize("shadows", [8, 32])
@pytest.mark.parametrize("asked", [{}, {"spread": 0.5, "gaps": 1.0}], ids=str)
def test_the_published_formula_recognises_no_more_from_the_same_shadows(
    mode: Any, shadows: int, asked: dict[str, float]
) -> None:
    own, said, inside, member, best = world(1, shadows=shadows, n=20_000, **asked)
    ours = recognised(likelihood_ratio(own, said, inside, mode=mode), member)
    theirs = [recognised(published(own, said, inside, mode, fixed), member) for fixed in (True, False)]
    assert ours >= max(theirs) - 0.01
    assert ours <= recognised(best, member) + 0.02
    if shadows == 8 and asked:
        assert ours > min(theirs) + 0.02


def test_who_is_a_member_by_lot_is_recognised_by_luck_alone() -> None:
    own, said, inside, member, _ = world(2, shadows=16, spread=0.5)
    drawn = np.random.default_rng(0).permutation(member)
    for mode in ("online", "offline"):
        found = recognised(likelihood_ratio(own, said, inside, mode=mode), drawn)  # type: ignore[arg-type]
        assert found == pytest.approx(RATE, abs=0.004)


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_scores_are_finite_whatever_the_shadows_say(mode: Any) -> None:
    inside = np.arange(4)[:, None] % 2 == np.zeros(6)
    for said in (np.zeros((4, 6)), np.full((4, 6), 1e30), 700.0 * np.ones((4, 6))):
        score = likelihood_ratio(said[0], said, inside, mode=mode)
        assert np.isfinite(score).all()
        np.testing.assert_allclose(score, score[0])
