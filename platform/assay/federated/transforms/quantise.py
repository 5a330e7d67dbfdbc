"""Quantisation: each value as an 8-bit or 4-bit code."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from assay.federated.transforms.base import Encoded, Shapes, Transform, malformed
from assay.registry import register


@register("transform")
class Quantise(Transform):
    """Writes values as signed codes of few bits, with one scale for each chunk (QSGD, Alistarh et al. 2017).

    The scale is the greatest magnitude of the chunk, divided by the greatest code (127 or 7). So an error is at most
    one step of the scale, or half a step if rounding is ``nearest``.
    """

    name: Literal["quantise"] = "quantise"
    position: ClassVar[Literal["first", "last"]] = "last"
    bits: Literal[4, 8] = 8
    """Bits of a code."""
    rounding: Literal["stochastic", "nearest"] = "stochastic"
    """``stochastic`` rounds up with the probability of the remainder, so the decoded value is right on average."""
    chunk: int = Field(default=256, ge=2, le=65536)
    """Number of values that share one scale."""

    @property
    def biased(self) -> bool:
        return self.rounding == "nearest"

    def count(self, size: int, shapes: Shapes) -> int:
        return 0

    def encode(
        self, values: np.ndarray, shapes: Shapes, state: Mapping[str, np.ndarray], *, generator: np.random.Generator
    ) -> Encoded:
        chunks = np.zeros((-(-len(values) // self.chunk), self.chunk), values.dtype)
        chunks.reshape(-1)[: len(values)] = values
        scales = np.abs(chunks).max(axis=1) / values.dtype.type(self._greatest)
        exact = np.divide(chunks, scales[:, None], out=np.zeros_like(chunks), where=scales[:, None] > 0)
        exact = exact.reshape(-1)[: len(values)]
        if self.rounding == "stochastic":
            rounded = np.floor(exact + generator.random(len(exact), dtype=np.float32))
        else:
            rounded = np.rint(exact)
        codes = np.clip(rounded, -self._greatest, self._greatest).astype(np.int8)
        return Encoded(values=values[:0], side=scales.tobytes() + self._packed(codes))

    def decode(self, values: np.ndarray, side: bytes, size: int, shapes: Shapes) -> np.ndarray:
        of_scales = -(-size // self.chunk) * values.itemsize
        due = of_scales + -(-size * self.bits // 8)
        if len(side) != due:
            raise malformed(f"{len(side)} bytes of codes where {due} are due")
        scales = np.frombuffer(side[:of_scales], values.dtype)
        chunks = np.zeros((len(scales), self.chunk), values.dtype)
        chunks.reshape(-1)[:size] = self._unpacked(side[of_scales:], size)
        chunks *= scales[:, None]
        return chunks.reshape(-1)[:size]

    @property
    def _greatest(self) -> int:
        return 2 ** (self.bits - 1) - 1

    def _packed(self, codes: np.ndarray) -> bytes:
        """Returns the codes as bytes; of 4-bit codes, the first of a pair is the high half of its byte."""
        if self.bits == 8:
            return codes.tobytes()
        halves = np.zeros(-(-len(codes) // 2) * 2, np.uint8)
        halves[: len(codes)] = codes + 8
        return (halves[::2] << 4 | halves[1::2]).tobytes()

    def _unpacked(self, packed: bytes, size: int) -> np.ndarray:
        if self.bits == 8:
            return np.frombuffer(packed, np.int8)
        pairs = np.frombuffer(packed, np.uint8)
        return np.stack([pairs >> 4, pairs & 15], axis=1).reshape(-1)[:size].astype(np.int8) - 8
