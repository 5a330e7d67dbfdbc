"""Where the pixels of a record lie in the image that was sent, so that an explanation returns to them."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Placement:
    """How an image became a record: a part was cut out and scaled, without padding.

    Coordinates are continuous: pixel ``i`` covers ``i`` to ``i + 1``, in the source as in the record.
    """

    source: tuple[int, int]
    """Height and width of the image that was sent, in pixels."""
    box: tuple[float, float, float, float]
    """Left, upper, right and lower end of the part that became the record, in pixels of the source."""
    record: tuple[int, int]
    """Height and width of the record, in pixels."""

    def to_source(self, row: float, column: float) -> tuple[float, float]:
        """Returns the place in the source of a place in the record.

        Args:
            row: from 0 (upper end) to the height of the record.
            column: from 0 (left end) to its width.

        Returns:
            Row and column in the source.
        """
        left, upper, right, lower = self.box
        return upper + row * (lower - upper) / self.record[0], left + column * (right - left) / self.record[1]

    def overlay(self, values: np.ndarray) -> np.ndarray:
        """Returns a map of the record as a map of the source, by bilinear interpolation.

        Args:
            values: (height, width) of the record.

        Returns:
            (height, width) of the source, float32; 0 outside the part that became the record.
        """
        left, upper, right, lower = self.box
        rows = _spread(values.astype(np.float32), self.source[0], upper, lower)
        return _spread(rows.T, self.source[1], left, right).T

    def to_json(self) -> dict[str, list[float]]:
        """Returns the fields, JSON-able."""
        return {"source": list(self.source), "box": list(self.box), "record": list(self.record)}


def _spread(values: np.ndarray, length: int, first: float, last: float) -> np.ndarray:
    """Interpolates values along the first axis at the centres of pixels.

    Args:
        values: (n, m), at the centres of n equal parts from ``first`` to ``last``; 0 elsewhere.
        length: number of pixels.
        first: begin of the values, in pixels.
        last: their end.
    """
    centres = np.arange(length) + 0.5
    places = ((centres - first) * len(values) / (last - first) - 0.5).clip(0, len(values) - 1)
    below = np.floor(places).astype(int)
    above = np.minimum(below + 1, len(values) - 1)
    weight = (places - below).astype(np.float32)[:, None]
    spread = values[below] * (1 - weight) + values[above] * weight
    spread[(centres < first) | (centres > last)] = 0
    return spread
