"""Tests of noise and sampling say of a sound training what chance says, and find what they are for."""

import numpy as np
import pytest

from assay.privacy.noise_levels import NoiseRecord
from assay.privacy.step_tests import BatchRecord, gaussian_noise, noise_knows_records, surest

RECORDS, RATE, STEPS = 200, 0.2, 20
NAMES, SHAPES = ["weight", "bias"], [(12, 10), (10,)]


def batches(draw: object = None, *, seed: int = 0, steps: int = STEPS) -> BatchRecord:
    generator = np.random.default_rng(seed)
    found = BatchRecord(records=RECORDS, generator=np.random.default_rng(seed + 10_000))
    for step in range(steps):
        own = np.flatnonzero(generator.random(RECORDS) < RATE)
        found.add(own if draw is None else draw(own, step))  # type: ignore[operator]
    return found


def noise(make: object = None, *, seed: int = 0, steps: int = STEPS) -> NoiseRecord:
    generator, found = np.random.default_rng(seed), NoiseRecord(NAMES, SHAPES)
    for _ in range(steps):
        own = generator.normal(size=130) if make is None else make(generator)  # type: ignore[operator]
        found.add(own, 5 * generator.normal(size=130))
    return found


def test_p_values_of_sound_sampling_are_spread_evenly_and_not_too_small() -> None:
    least = np.array([surest(batches(seed=seed, steps=8).poisson(RATE))[1] for seed in range(300)])
    assert (least < 0.05).mean() <= 0.05 + 3 * (0.05 / 300) ** 0.5
    assert (least < 0.3).mean() > 0.1, "and they are no mere formality"


def test_p_values_of_sound_noise_are_not_too_small() -> None:
    found = [noise(seed=seed, steps=6) for seed in range(200)]
    sizes = np.random.default_rng(0).binomial(RECORDS, RATE, 6)
    knows = np.array([surest(noise_knows_records(one, sizes, expected=40.0))[1] for one in found])
    shape = np.array([surest(gaussian_noise(one))[1] for one in found])
    for least in (knows, shape):
        assert (least < 0.05).mean() <= 0.05 + 3 * (0.05 / 200) ** 0.5


FIXED = np.arange(40)


@pytest.mark.parametrize(
    ("draw", "what"),
    [
        (lambda own, step: FIXED, "the numbers of times that records were drawn vary more"),
        (
            lambda own, step: np.random.default_rng(step).choice(RECORDS, 40, replace=False),
            "the sizes of batches vary less",
        ),
        (
            lambda own, step: (np.arange(40) + 40 * step) % RECORDS,
            "the numbers of times that records were drawn vary less",
        ),
        (
            lambda own, step: np.union1d(own, np.flatnonzero(np.random.default_rng(step).random(RECORDS) < 0.1)),
            "more often",
        ),
        (lambda own, step: own[: len(own) // 2], "less often"),
    ],
    ids=["one sample", "fixed size", "in turn", "more often", "less often"],
)
def test_what_is_no_poisson_sampling_is_named(draw: object, what: str) -> None:
    tests = batches(draw).poisson(RATE)
    assert surest(tests)[1] < 1e-6
    assert any(what in test.what and test.p < 1e-6 for test in tests)


def test_a_record_that_a_batch_holds_twice_is_counted() -> None:
    assert batches().repeated == 0
    assert batches(lambda own, step: np.append(own, own[0])).repeated == STEPS


def test_where_every_batch_holds_all_records_nothing_is_drawn() -> None:
    assert batches(lambda own, step: np.arange(RECORDS)).poisson(1.0) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda g: g.uniform(-(3**0.5), 3**0.5, 130),
        lambda g: g.laplace(scale=0.5**0.5, size=130),
        lambda g: g.choice([-1.0, 1.0], 130),
        lambda g: np.clip(g.normal(size=130), -1.5, 1.5),
    ],
    ids=["uniform", "laplace", "signs", "clipped"],
)
def test_noise_of_the_right_variance_that_is_not_normal_is_found(make: object) -> None:
    assert surest(gaussian_noise(noise(make)))[1] < 1e-6


def test_a_batch_that_is_divided_by_its_actual_size_is_found() -> None:
    generator, found = np.random.default_rng(0), NoiseRecord(NAMES, SHAPES)
    sizes = generator.binomial(RECORDS, RATE, STEPS)
    for size in sizes:
        sums, own = 5 * generator.normal(size=(2, 130)) / np.array([[1], [5]])
        found.add((own + sums) * 40 / size - sums, sums)
    test, p = surest(noise_knows_records(found, sizes, expected=40.0))
    assert p < 1e-6
    assert "actual size" in test.what
