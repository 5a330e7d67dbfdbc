"""A bound on ε is the published one, is reached by the worst mechanism there is, and is rarely wrong."""

import math

import numpy as np
import pytest
from scipy import stats

from assay.privacy.accounting import Mechanism, pld_epsilon
from assay.privacy.auditing import audited, canaries_needed, least_epsilon, log_likelihood_ratio, moved, p_value

DELTA = 1e-5


def randomised_response(epsilon: float, m: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores that tell each coin rightly with probability e^ε / (1 + e^ε): no (ε, 0)-private mechanism tells more."""
    generator = np.random.default_rng(seed)
    inside = generator.random(m) < 0.5
    told = np.where(generator.random(m) < 1 / (1 + math.exp(-epsilon)), inside, ~inside)
    return told + 0.5 * generator.random(m), inside


def test_the_bound_is_the_published_one() -> None:
    bound = least_epsilon(1000, 100, 75, delta=1e-4, significance=0.05)
    assert bound == pytest.approx(0.673, abs=5e-4)


@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-3])
@pytest.mark.parametrize(("guesses", "correct"), [(100, 75), (40, 40), (7, 1), (12, 0)])
def test_the_p_value_is_that_of_the_theorem(guesses: int, correct: int, delta: float) -> None:
    chance = 1 / (1 + math.exp(-0.8))
    toss = [math.comb(guesses, k) * chance**k * (1 - chance) ** (guesses - k) for k in range(guesses + 1)]
    nearly = [sum(toss[correct - i : correct]) / i for i in range(1, correct + 1)]
    expected = sum(toss[correct:]) + 2 * 150 * delta * max(nearly, default=0.0)
    assert p_value(150, guesses, correct, epsilon=0.8, delta=delta) == pytest.approx(min(1.0, expected), rel=1e-9)


@pytest.mark.parametrize("guesses", [1, 10, 100, 1000])
def test_guesses_without_a_mistake_give_the_closed_form(guesses: int) -> None:
    root = 0.05 ** (1 / guesses)
    expected = max(0.0, math.log(root / (1 - root)))
    assert least_epsilon(guesses, guesses, guesses, delta=0.0, significance=0.05) == pytest.approx(expected, abs=1e-5)


def test_guesses_no_better_than_chance_show_nothing() -> None:
    assert least_epsilon(1000, 500, 260, delta=DELTA, significance=0.05) == 0.0


def test_a_greater_delta_explains_more() -> None:
    bounds = [least_epsilon(1000, 100, 80, delta=delta, significance=0.05) for delta in (0.0, 1e-5, 1e-4, 1e-3)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] > bounds[-1]


def test_the_bound_approaches_the_epsilon_of_randomised_response() -> None:
    for epsilon in (0.5, 2.0):
        gaps = []
        for m in (1_000, 400_000):
            scores, inside = randomised_response(epsilon, m, seed=m)
            bound = audited(scores, inside, shares=(1.0,), delta=0.0, confidence=0.95)
            gaps.append(epsilon - bound.epsilon)
        assert gaps[0] > gaps[1]
        assert 0 <= gaps[-1] < 0.02


def test_a_true_epsilon_is_refuted_no_more_often_than_stated() -> None:
    runs, epsilon, m = 2000, 1.0, 200
    right = stats.binom(m, 1 / (1 + math.exp(-epsilon))).rvs(runs, random_state=0)
    refuted = {v: least_epsilon(m, m, v, delta=0.0, significance=0.05) > epsilon for v in np.unique(right).tolist()}
    rate = float(np.mean([refuted[v] for v in right.tolist()]))
    assert 0.02 < rate <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs), "and the bound gives nothing away"


@pytest.mark.parametrize("epsilon_of", [1.0, 4.0])
def test_the_gaussian_mechanism_is_never_said_to_need_more_than_it_spends(epsilon_of: float) -> None:
    sigma = {1.0: 3.73, 4.0: 1.06}[epsilon_of]
    spends = pld_epsilon(Mechanism(noise_multiplier=sigma, sample_rate=1.0, steps=1, delta=DELTA))
    assert spends == pytest.approx(epsilon_of, rel=0.1)
    bounds = []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        inside = generator.random(1000) < 0.5
        scores = inside + sigma * generator.normal(size=1000)
        bounds.append(audited(scores, inside, shares=(0.1, 1.0), delta=DELTA, confidence=0.95).epsilon)
    assert max(bounds) < spends
    assert np.mean(bounds) > {1.0: 0.05, 4.0: 1.0}[epsilon_of], "and yet something is seen"


def test_confidence_is_shared_among_audits_and_numbers_of_guesses() -> None:
    scores, inside = randomised_response(2.0, 1000, seed=1)

    def bound(shares: tuple[float, ...], audits: int) -> float:
        return audited(scores, inside, shares=shares, delta=0.0, confidence=0.9, audits=audits).epsilon

    alone = audited(scores, inside, shares=(1.0,), delta=0.0, confidence=0.9)
    assert alone.guesses == 1000
    assert bound((1.0,), 1) == least_epsilon(1000, 1000, alone.correct, delta=0.0, significance=0.1)
    assert bound((1.0,), 20) == least_epsilon(1000, 1000, alone.correct, delta=0.0, significance=0.1 / 20)
    assert bound((1.0, 1.0), 5) == bound((1.0,), 10) < bound((1.0,), 5)


def test_the_highest_scores_are_guessed_in_and_the_lowest_out() -> None:
    inside = np.array([True, False, True, False, False, True])
    scores = np.array([0.9, 0.1, 0.8, 0.2, 0.6, 0.5])
    two, all_ = (audited(scores, inside, shares=(share,), delta=0.0, confidence=0.95) for share in (2 / 6, 1.0))
    assert (two.guesses, two.correct) == (2, 2)
    assert (all_.guesses, all_.correct) == (6, 4)


@pytest.mark.parametrize("epsilon", [0.5, 4.0, 8.0])
def test_as_many_canaries_as_needed_and_no_fewer_can_refute(epsilon: float) -> None:
    needed = canaries_needed(epsilon, significance=0.025)
    assert least_epsilon(needed, needed, needed, delta=0.0, significance=0.025) > epsilon
    fewer = needed - 2
    assert least_epsilon(fewer, fewer, fewer, delta=0.0, significance=0.025) < epsilon


@pytest.mark.parametrize("sample_rate", [0.05, 1.0])
def test_the_score_is_the_logarithm_of_the_likelihood_ratio(sample_rate: float) -> None:
    released, signal, sigma = np.linspace(-3, 3, 13), 0.7, 1.3
    out, drawn = stats.norm(0, sigma).pdf(released), stats.norm(signal, sigma).pdf(released)
    expected = np.log(((1 - sample_rate) * out + sample_rate * drawn) / out)
    found = log_likelihood_ratio(released, signal=signal, noise_multiplier=sigma, sample_rate=sample_rate)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def released(seed: int, canaries: int, *, steps: int = 8, rate: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """What a sound trainer releases along each canary, in clipping norms, and which are in: two or more, not all."""
    generator = np.random.default_rng(seed)
    inside = generator.permutation(canaries) < np.clip(generator.binomial(canaries, 0.5), 2, canaries - 2)
    return inside * generator.binomial(steps, rate, canaries) + steps**0.5 * generator.normal(size=canaries), inside


@pytest.mark.parametrize("canaries", [10, 60, 1000])
def test_how_far_a_canary_moves_is_the_interval_of_welch(canaries: int) -> None:
    sums, inside = released(3, canaries, steps=40, rate=0.1)
    found = moved(sums, inside, expected=4.0)
    welch = stats.ttest_ind(sums[inside], sums[~inside], equal_var=False)
    assert found.freedom == pytest.approx(welch.df)
    assert found.share / found.error == pytest.approx(welch.statistic)
    for significance in (0.05, 1e-3, 1e-5):
        low, high = welch.confidence_interval(1 - significance)
        assert found.share - found.margin(significance) == pytest.approx(low / 4, rel=1e-6, abs=1e-9)
        assert found.share + found.margin(significance) == pytest.approx(high / 4, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("canaries", [10, 20, 300])
def test_chance_alone_passes_the_margin_no_more_often_than_stated_however_few_canaries_there_are(canaries: int) -> None:
    runs, significance = 3000, 0.01
    found = [moved(*released(seed, canaries), expected=8.0) for seed in range(runs)]
    rate = float(np.mean([abs(one.share - 1) > one.margin(significance) for one in found]))
    assert 0.003 < rate < significance + 4 * math.sqrt(significance / runs)


def test_without_noise_nothing_is_left_to_chance() -> None:
    inside = np.arange(30) % 2 == 0
    found = moved(5.0 * inside, inside, expected=5.0)
    assert (found.share, found.margin(1e-3)) == (1.0, 0.0)
