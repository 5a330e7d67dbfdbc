"""Codes are within a step of their values."""

import math

import numpy as np
import pytest

from assay.federated.transforms.quantise import Quantise


def through(transform: Quantise, values: np.ndarray, seed: int = 0) -> np.ndarray:
    encoded = transform.encode(values, [(len(values),)], {}, generator=np.random.default_rng(seed))
    assert len(encoded.values) == 0
    return transform.decode(encoded.values, encoded.side, len(values), [(len(values),)])


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("size", [1, 2, 9, 64, 65])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_error_is_at_most_a_step_and_half_a_step_to_the_nearest(bits: int, size: int, dtype: type) -> None:
    values: np.ndarray = (np.random.default_rng(size).standard_normal(size) / 1000).astype(dtype)
    parts = np.split(values, range(32, size, 32))
    steps = np.concatenate([np.full(len(part), np.abs(part).max() / (2 ** (bits - 1) - 1)) for part in parts])
    nearest = through(Quantise(bits=bits, rounding="nearest", chunk=32), values)
    assert nearest.dtype == dtype and (np.abs(nearest - values) <= 0.5001 * steps).all()
    assert (np.abs(through(Quantise(bits=bits, chunk=32), values) - values) <= 1.0001 * steps).all()


@pytest.mark.parametrize("bits", [4, 8])
def test_multiples_of_the_step_come_back(bits: int) -> None:
    greatest = 2 ** (bits - 1) - 1
    values = np.arange(-greatest, greatest + 1).astype(np.float32)
    assert through(Quantise(bits=bits, rounding="nearest"), values).tolist() == values.tolist()


def test_rounding_up_is_as_probable_as_the_remainder() -> None:
    values = np.tile(np.array([7.0, 3.25, -0.75, 0.0], np.float32), 4000)
    drawn = through(Quantise(bits=4), values).reshape(4000, 4)
    assert set(drawn[:, 1]) == {3.0, 4.0} and set(drawn[:, 2]) == {-1.0, 0.0}
    assert np.mean(drawn[:, 1] == 4.0) == pytest.approx(0.25, abs=5 * math.sqrt(0.25 * 0.75 / 4000))
    assert np.mean(drawn[:, 2] == -1.0) == pytest.approx(0.75, abs=5 * math.sqrt(0.25 * 0.75 / 4000))
    assert (drawn[:, 0] == 7.0).all() and (drawn[:, 3] == 0.0).all()


@pytest.mark.parametrize("value", [1e-45, 1e-38, 3.4e38])
def test_the_ends_of_float32_stay_finite(value: float) -> None:
    decoded = through(Quantise(), np.array([value, -value, 0], np.float32))
    assert np.isfinite(decoded).all() and float(np.abs(decoded).max()) <= value * 1.001
