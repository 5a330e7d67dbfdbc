"""Range and spacing of float32 numbers, as networks take them."""

import numpy as np

LARGEST = float(np.finfo(np.float32).max)


def bounds_around(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns float32 bounds that enclose an interval and never coincide.

    Args:
        low: lower ends.
        high: upper ends.

    Returns:
        The nearest float32 numbers at or below ``low``, and at or above ``high``.
    """
    lowest, highest = np.asarray(low).astype(np.float32), np.asarray(high).astype(np.float32)
    lowest = np.where(lowest > low, np.nextafter(lowest, np.float32(-np.inf)), lowest)
    highest = np.where(highest < high, np.nextafter(highest, np.float32(np.inf)), highest)
    return lowest, np.where(highest > lowest, highest, above(lowest))


def above(numbers: np.ndarray) -> np.ndarray:
    """Returns each float32 number plus 1, or the next float32 number where their spacing is larger.

    Args:
        numbers: any array.

    Returns:
        A float32 array of the same shape.
    """
    one = numbers.astype(np.float32)
    return np.maximum(one + np.float32(1), np.nextafter(one, np.float32(np.inf)))
