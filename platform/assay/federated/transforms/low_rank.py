"""Low rank: the change of a weight matrix as the product of two thin ones."""

from collections.abc import Iterator, Mapping
from math import prod
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from assay.federated.transforms.base import Encoded, Shapes, Transform
from assay.registry import register


@register("transform")
class LowRank(Transform):
    """Sends each weight matrix's change as two factors, found by one step of power iteration (PowerSGD).

    Vogels, Karimireddy & Jaggi (2019), arXiv:1905.13727. The step starts from the right factor of the client's previous
    update. Weights with more than two dimensions count as matrices (first dimension × all others). Parameters that two
    factors would not make smaller, such as biases, are sent as they are. What the factors miss stays in the client's
    residual.
    """

    name: Literal["low_rank"] = "low_rank"
    position: ClassVar[Literal["first", "last"]] = "first"
    rank: int = Field(default=2, ge=1)
    """Columns of each factor."""

    @property
    def biased(self) -> bool:
        return True

    def count(self, size: int, shapes: Shapes) -> int:
        return sum(self.rank * (rows + columns) if thin else rows * columns for rows, columns, thin in self._of(shapes))

    def encode(
        self, values: np.ndarray, shapes: Shapes, state: Mapping[str, np.ndarray], *, generator: np.random.Generator
    ) -> Encoded:
        sent, kept, start = [], {}, 0
        for number, (rows, columns, thin) in enumerate(self._of(shapes)):
            piece = values[start : start + rows * columns]
            start += len(piece)
            if not thin:
                sent.append(piece)
                continue
            drawn = generator.standard_normal((columns, self.rank)).astype(values.dtype)
            left, right = _factors(piece.reshape(rows, columns), state.get(f"right{number}", drawn), drawn)
            lengths = np.linalg.norm(right, axis=0)
            # Columns of both factors have equal lengths, and lie together, so that they share scales of quantisation.
            shared = np.sqrt(np.where(lengths > 0, lengths, 1))
            sent += [(left * shared).T.reshape(-1), (right / shared).T.reshape(-1)]
            kept[f"right{number}"] = np.ascontiguousarray(right / np.where(lengths > 0, lengths, 1))
        return Encoded(values=np.concatenate(sent), state=kept)

    def decode(self, values: np.ndarray, side: bytes, size: int, shapes: Shapes) -> np.ndarray:
        pieces, start = [], 0
        for rows, columns, thin in self._of(shapes):
            if not thin:
                pieces.append(values[start : start + rows * columns])
                start += rows * columns
                continue
            middle, end = start + self.rank * rows, start + self.rank * (rows + columns)
            left, right = values[start:middle].reshape(self.rank, rows), values[middle:end].reshape(self.rank, columns)
            pieces.append((left.T @ right).reshape(-1))
            start = end
        return np.concatenate(pieces)

    def _of(self, shapes: Shapes) -> Iterator[tuple[int, int, bool]]:
        """Yields rows and columns of each parameter, and whether two factors are sent for it."""
        for shape in shapes:
            rows, columns = (shape[0], prod(shape[1:])) if len(shape) > 1 else (1, prod(shape))
            yield rows, columns, self.rank * (rows + columns) < rows * columns


def _factors(matrix: np.ndarray, right: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the orthonormal left factor (m, r) and the right one (n, r) after one step of power iteration.

    Columns of zeros in the given right factor, which an update of zeros leaves, are drawn anew.
    """
    start = np.where(np.any(right, axis=0), right, drawn)
    left, _ = np.linalg.qr(matrix @ start)
    return left, matrix.T @ left
