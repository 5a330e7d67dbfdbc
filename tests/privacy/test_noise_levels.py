"""Bounds on noise are exact, and every group of directions with too little is found, whatever its size."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from assay.privacy.accounting import Mechanism, rdp_epsilon
from assay.privacy.noise_levels import Directions, NoiseRecord, epsilon_at, least_noise

CLAIM = Mechanism(noise_multiplier=1.5, sample_rate=0.2, steps=12, delta=1e-5)
NAMES, SHAPES = ["weight", "bias", "table"], [(6, 5), (5,), (40, 1)]
Change = Callable[[list[np.ndarray], int], list[np.ndarray]]


def record(change: Change = lambda noise, step: noise, *, seed: int = 0, steps: int = 12) -> NoiseRecord:
    """Of standard normal noise, changed in some way."""
    found, generator = NoiseRecord(NAMES, SHAPES), np.random.default_rng(seed)
    for step in range(steps):
        noise = change([generator.normal(size=shape) for shape in SHAPES], step)
        whole = np.concatenate([np.asarray(one).ravel() for one in noise])
        found.add(whole, generator.normal(size=whole.shape))
    return found


def one(squares: float, count: int, *, signal: float = 1.0) -> Directions:
    return Directions(
        name=lambda _: "it", squares=np.array([squares]), counts=np.array([count]), steps=CLAIM.steps, signal=signal
    )


def test_bounds_are_those_of_the_chi_square_distribution() -> None:
    found = one(90.0, 100)
    low, high = stats.chi2.interval(0.98, 100)
    assert found.at_most(0.01)[0] == pytest.approx(math.sqrt(90 / low))
    assert found.at_least(0.01)[0] == pytest.approx(math.sqrt(90 / high))
    assert one(90.0, 100, signal=0.5).at_most(0.01)[0] == pytest.approx(2 * found.at_most(0.01)[0])


def test_the_bounds_hold_as_often_as_they_say() -> None:
    squares = np.random.default_rng(0).chisquare(7, 20_000)
    above = np.sqrt(squares / stats.chi2.ppf(0.05, 7)) < 1
    assert above.mean() == pytest.approx(0.05, abs=0.006)


def test_little_noise_is_an_epsilon_of_the_accountant() -> None:
    assert epsilon_at(CLAIM, 1.0, steps=12) == pytest.approx(rdp_epsilon(CLAIM))
    half = Mechanism(noise_multiplier=0.75, sample_rate=0.2, steps=12, delta=1e-5)
    assert epsilon_at(CLAIM, 0.5, steps=12) == pytest.approx(rdp_epsilon(half))
    assert rdp_epsilon(CLAIM) < epsilon_at(CLAIM, 0.5, steps=1) < epsilon_at(CLAIM, 0.5, steps=12)
    assert epsilon_at(CLAIM, 0.0, steps=1) == math.inf


def test_a_trifle_in_a_large_tensor_moves_no_epsilon_and_much_of_a_small_one_proves_nothing() -> None:
    trifle = least_noise([one(0.998 * 10**8, 10**8)], CLAIM, significance=1e-3)
    few = least_noise([one(0.3 * 4, 4)], CLAIM, significance=1e-3)
    for found in (trifle, few):
        assert found is not None
        assert found.epsilon < 1.01 * rdp_epsilon(CLAIM)
    assert one(0.998 * 10**8, 10**8).at_most(1e-3)[0] < 1, "and yet the difference is real"
    many = least_noise([one(0.3 * 400, 400)], CLAIM, significance=1e-3)
    assert many is not None
    assert many.epsilon > 1.5 * rdp_epsilon(CLAIM)


def nothing_of_bias(noise: list[np.ndarray], step: int) -> list[np.ndarray]:
    return [noise[0], 0 * noise[1], noise[2]]


def once(noise: list[np.ndarray], step: int) -> list[np.ndarray]:
    return [noise[0], np.random.default_rng(1).normal(size=5), noise[2]]


def repeated_later(noise: list[np.ndarray], step: int) -> list[np.ndarray]:
    return [np.random.default_rng(step % 7).normal(size=(6, 5)), *noise[1:]]


def alike(noise: list[np.ndarray], step: int) -> list[np.ndarray]:
    return [noise[0], noise[0].ravel()[:5], noise[2]]


def opposed(noise: list[np.ndarray], step: int) -> list[np.ndarray]:
    return [noise[0], -noise[2].ravel()[:5], noise[2]]


def by_column(noise: list[np.ndarray], step: int) -> list[np.ndarray]:
    return [np.broadcast_to(noise[0][:1], (6, 5)), *noise[1:]]


def one_number(noise: list[np.ndarray], step: int) -> list[np.ndarray]:
    return [noise[0], np.full(5, noise[1][0]), noise[2]]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (nothing_of_bias, "'bias'"),
        (once, "the steps of 'bias', around their mean"),
        (repeated_later, "the difference of steps 1 and 8 of 'weight'"),
        (alike, "the difference of 'weight' and 'bias'"),
        (opposed, "the sum of 'bias' and 'table'"),
        (by_column, "the rows of 'weight', around their mean"),
        (one_number, "all coordinates of 'bias', around their mean"),
    ],
)
def test_the_directions_that_lack_noise_are_named(change: Change, where: str) -> None:
    found = record(change)
    everything = [
        found.tensors(),
        found.single_steps(),
        *found.between_steps(),
        *found.between_coordinates(),
        found.between_tensors(),
    ]
    least = least_noise(everything, CLAIM, significance=1e-3)
    assert least is not None
    assert least.epsilon == math.inf
    named = [one.name(int(one.at_most(1e-3).argmin())) for one in everything if one.at_most(1e-3).min() < 0.01]
    assert where in named


def test_noise_as_claimed_is_enough_in_every_direction() -> None:
    found = [record(seed=seed) for seed in range(20)]
    for one_of in found:
        kinds = [one_of.tensors(), one_of.single_steps(), *one_of.between_steps(), *one_of.between_coordinates()]
        least = least_noise([*kinds, one_of.between_tensors()], CLAIM, significance=1e-3)
        assert least is not None
        assert least.epsilon < 1.01 * rdp_epsilon(CLAIM)


def test_along_the_sum_noise_is_standard_normal_and_what_holds_the_sum_is_not() -> None:
    sound, generator = NoiseRecord(NAMES, SHAPES), np.random.default_rng(0)
    leaking = NoiseRecord(NAMES, SHAPES)
    for _ in range(400):
        noise, sums = generator.normal(size=(2, 75))
        sound.add(noise, 9 * sums)
        leaking.add(noise + 0.5 * sums, 9 * sums)
    assert stats.kstest(sound.along_sums()[:, -1], "norm").pvalue > 0.01
    assert (leaking.along_sums() ** 2).mean(0).min() > 1.3
