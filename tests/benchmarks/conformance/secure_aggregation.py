"""Rows on secure aggregation, which Assay does not have yet."""

import numpy as np

from tests.benchmarks.conformance.row import Row, near

_SEED = bytes(range(32))
_SWAPPED = _SEED[4:8] + _SEED[:4] + _SEED[8:]
_CLIP, _RANGE, _MAX_WEIGHT = 8.0, 4194304, 1000.0
"""Flower's defaults."""


def _masks(*seeds: bytes, modulus: int = 1 << 32, size: int = 8) -> list[np.ndarray]:
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

    return [pseudo_rand_gen(seed, modulus, [(size,)])[0] for seed in seeds]


def _equal_masks() -> str:
    return "equal" if np.array_equal(*_masks(_SEED, _SWAPPED)) else "different"


def _values() -> str:
    (mask,) = _masks(_SEED, modulus=4, size=10_000)
    return ", ".join(map(str, np.unique(mask)))


def _average(values: list[float], examples: list[float]) -> float:
    """Weighted average by Flower's quantisation, without masks, which cancel."""
    from flwr.common.secure_aggregation.quantization import dequantize, quantize

    total, weights = np.zeros(1, np.int64), 0
    for value, held in zip(values, examples, strict=True):
        ratio = round(held / _MAX_WEIGHT * _RANGE)
        total += quantize([np.array([value]) * (ratio / _RANGE)], _CLIP, _RANGE)[0]
        weights += ratio
    shifted = total - (len(values) - 1) * _RANGE // 2  # the server takes the shift of all but one off
    return float(dequantize([shifted], _CLIP, _RANGE)[0][0] / (weights / _RANGE))


ROWS = (
    Row(
        fault=24,
        name="mask_entropy",
        input="masks of two seeds of 256 bits whose first two words are swapped",
        right="different",
        accepts=lambda given: given == "different",
        assay=None,
        flower=_equal_masks,
    ),
    Row(
        fault=25,
        name="mask_uniform",
        input="values of 10,000 masks modulo 4",
        right="0, 1, 2, 3",
        accepts=lambda given: given == "0, 1, 2, 3",
        assay=None,
        flower=_values,
    ),
    Row(
        fault=26,
        name="largest_weight",
        input="2.0 by 5,000 records and 0.0 by 500, at Flower's default max_weight 1,000",
        right="1.8182",
        accepts=near(2.0 * 5000 / 5500, 1e-3),
        assay=None,
        flower=lambda: _average([2.0, 0.0], [5000, 500]),
    ),
    Row(
        fault=27,
        name="drop_out",
        input="five clients, threshold 3, one lost at each of the four stages",
        right="the exact sum of the others",
        accepts=lambda given: False,
        assay=None,
    ),
)
