"""Coding of positions in few bytes: gaps between them in Golomb and Rice's code."""

import numpy as np

from assay.federated.transforms.base import malformed

_LARGEST_REMAINDER = 32
"""Greatest number of low bits: positions lie below 2³²."""


def encode_positions(positions: np.ndarray) -> bytes:
    """Encodes increasing positions by the gaps between them.

    Rice's code (1979; Golomb 1966) writes the low ``b`` bits of a gap as they are and the rest in unary. The best ``b``
    is found by counting. ``b = 0`` is a bitmap, and a large ``b`` is an index of fixed width, so the result is never
    longer than either. At a share p of random positions it needs about log₂(1/p) + 1.5 bits for each: 8.1 bits at 1 %,
    where the entropy is 8.08 bits.

    Args:
        positions: (k,) integers from 0 to 2³² − 1, increasing.

    Returns:
        One byte for ``b``, then all low bits, then all unary parts, each padded to whole bytes; empty if k is 0.
    """
    if not len(positions):
        return b""
    gaps: np.ndarray = np.diff(positions.astype(np.int64), prepend=-1) - 1
    low = min(range(int(gaps.max()).bit_length() + 1), key=lambda b: b * len(gaps) + int((gaps >> b).sum()))
    ones = np.cumsum(gaps >> low) + np.arange(len(gaps))
    unary = np.zeros(int(ones[-1]) + 1, np.uint8)
    unary[ones] = 1
    remainders = (gaps[:, None] >> np.arange(low)) & 1
    return bytes([low]) + np.packbits(remainders.astype(np.uint8)).tobytes() + np.packbits(unary).tobytes()


def decode_positions(code: bytes, count: int, size: int) -> np.ndarray:
    """Decodes what ``encode_positions`` wrote.

    Args:
        code: the bytes, which come from a client.
        count: k, the number of positions.
        size: positions must lie below it.

    Returns:
        (k,) int64, increasing.

    Raises:
        DataError: the bytes hold other than k positions below ``size``.
    """
    if not count and not code:
        return np.zeros(0, np.int64)
    if not code or not count or code[0] > _LARGEST_REMAINDER:
        raise malformed(f"{len(code)} bytes of positions where {count} positions are due")
    low = code[0]
    after = 1 + -(-low * count // 8)
    longest = after + -(-(count + (size >> low)) // 8)
    if not after < len(code) <= longest:
        raise malformed(f"{len(code)} bytes of positions where more than {after} and at most {longest} are due")
    bits = np.unpackbits(np.frombuffer(code[1:after], np.uint8))[: low * count].reshape(count, low)
    ones = np.flatnonzero(np.unpackbits(np.frombuffer(code[after:], np.uint8)))
    if len(ones) != count or len(code) - after != ones[-1] // 8 + 1:
        raise malformed(f"{len(ones)} positions where {count} are due")
    remainders = bits.astype(np.int64) @ (1 << np.arange(low, dtype=np.int64))
    gaps = ((np.diff(ones, prepend=-1) - 1) << low) + remainders
    positions = np.cumsum(gaps + 1) - 1
    if positions[-1] >= size:
        raise malformed(f"position {positions[-1]} of {size} weights")
    return positions
