"""Numbers of 32 bits, as networks take them: where they end, and how far apart they lie."""

import numpy as np

LARGEST = float(np.finfo(np.float32).max)


def bounds_around(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest numbers of 32 bits at or below ``low`` and at or above ``high``, and never one for both."""
    lowest, highest = np.asarray(low).astype(np.float32), np.asarray(high).astype(np.float32)
    lowest = np.where(lowest > low, np.nextafter(lowest, np.float32(-np.inf)), lowest)
    highest = np.where(highest < high, np.nextafter(highest, np.float32(np.inf)), highest)
    return lowest, np.where(highest > lowest, highest, above(lowest))


def above(numbers: np.ndarray) -> np.ndarray:
    """Each number of 32 bits plus 1, or the next one where they lie further apart than that."""
    one = numbers.astype(np.float32)
    return np.maximum(one + np.float32(1), np.nextafter(one, np.float32(np.inf)))
