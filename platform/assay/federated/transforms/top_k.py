"""Top-k: only the weights that change most are sent."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from assay.federated.transforms.base import Encoded, Shapes, Transform
from assay.federated.transforms.positions import decode_positions, encode_positions
from assay.registry import Number, register


@register("transform")
class TopK(Transform):
    """Sends the values of greatest magnitude of the whole update, with their positions (Aji & Heafield 2017).

    What is not sent stays in the client's residual and is added to its next update (Stich et al. 2018, Karimireddy et
    al. 2019). Among equal magnitudes the first positions are sent.
    """

    name: Literal["top_k"] = "top_k"
    position: ClassVar[Literal["first", "last"]] = "first"
    share: Number = Field(default=0.01, gt=0, le=1)
    """Fraction of the values that is sent, rounded to whole values and at least one."""

    @property
    def biased(self) -> bool:
        return True

    @property
    def lossless(self) -> bool:
        return self.share == 1.0

    def count(self, size: int, shapes: Shapes) -> int:
        return min(size, max(1, round(self.share * size)))

    def encode(
        self, values: np.ndarray, shapes: Shapes, state: Mapping[str, np.ndarray], *, generator: np.random.Generator
    ) -> Encoded:
        count = self.count(len(values), shapes)
        if count == len(values):
            return Encoded(values=values)
        positions = largest(np.abs(values), count)
        return Encoded(values=values[positions], side=encode_positions(positions))

    def decode(self, values: np.ndarray, side: bytes, size: int, shapes: Shapes) -> np.ndarray:
        if len(values) == size and not side:
            return values
        decoded = np.zeros(size, values.dtype)
        decoded[decode_positions(side, len(values), size)] = values
        return decoded


def largest(magnitudes: np.ndarray, count: int) -> np.ndarray:
    """Returns the positions of the greatest magnitudes, increasing.

    Args:
        magnitudes: (n,) not negative.
        count: how many, from 1 to n.

    Returns:
        (count,) positions; among equal magnitudes, the first.
    """
    limit = np.partition(magnitudes, len(magnitudes) - count)[len(magnitudes) - count]
    chosen = np.flatnonzero(magnitudes > limit)
    equal = np.flatnonzero(magnitudes == limit)[: count - len(chosen)]
    return np.sort(np.concatenate([chosen, equal]))
