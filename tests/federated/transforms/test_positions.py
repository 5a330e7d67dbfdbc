"""Positions come back from few bytes, and from no others."""

import math

import numpy as np
import pytest

from assay.errors import DataError
from assay.federated.transforms.positions import decode_positions, encode_positions


def chosen(size: int, count: int, seed: int = 0) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).choice(size, count, replace=False))


@pytest.mark.parametrize(
    ("size", "count"),
    [(1, 1), (9, 1), (8, 8), (100, 99), (1000, 10), (4096, 4), (100_000, 1000), (5, 3), (70_000, 35_000)],
)
def test_positions_come_back(size: int, count: int) -> None:
    for seed in range(3):
        positions = chosen(size, count, seed)
        code = encode_positions(positions)
        assert decode_positions(code, count, size).tolist() == positions.tolist()
        assert len(code) <= 3 + min(size, 32 * count) // 8, "no longer than a bitmap, or an index of 32 bits for each"


@pytest.mark.parametrize("positions", [[0], [2**32 - 1], [0, 2**32 - 1], [2**31, 2**31 + 1]])
def test_the_ends_of_the_range_come_back(positions: list[int]) -> None:
    code = encode_positions(np.array(positions))
    assert decode_positions(code, len(positions), 2**32).tolist() == positions


def test_no_positions_need_no_bytes() -> None:
    assert encode_positions(np.zeros(0, np.int64)) == b"" and len(decode_positions(b"", 0, 5)) == 0


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1])
def test_random_positions_need_little_more_than_their_entropy(share: float) -> None:
    positions = chosen(1_000_000, int(share * 1_000_000))
    entropy = -math.log2(share) - (1 - share) / share * math.log2(1 - share)
    bits = 8 * len(encode_positions(positions)) / len(positions)
    assert entropy * 0.99 < bits < entropy * 1.04


def test_bytes_that_nobody_wrote_are_refused() -> None:
    draw = np.random.default_rng(0)
    code = encode_positions(chosen(1000, 20))
    for wrong in (
        b"",
        code[:1],
        code[:-1],
        code + b"\x00",
        code + b"\x01",
        bytes([33]) + code[1:],
        bytes([0]) + code[1:],
    ):
        with pytest.raises(DataError, match="no update of this network"):
            decode_positions(wrong, 20, 1000)
    with pytest.raises(DataError):
        decode_positions(code, 19, 1000)
    with pytest.raises(DataError):
        decode_positions(code, 20, int(chosen(1000, 20)[-1]))
    for _ in range(500):  # whatever arrives, the positions are valid or there is an error
        noise = bytes([int(draw.integers(12))]) + draw.bytes(int(draw.integers(1, 40)))
        try:
            found = decode_positions(noise, 20, 1000)
        except DataError:
            continue
        assert len(found) == 20 and (np.diff(found) > 0).all() and found[0] >= 0 and found[-1] < 1000
