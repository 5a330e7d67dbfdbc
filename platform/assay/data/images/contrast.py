"""Check of contrast: images that use only a small part of the range from black to white."""

import numpy as np

from assay.data.base import Lazy

LOW_CONTRAST = 0.1
"""Fraction of the range from black to white below which an image has low contrast."""
_MOST = 64
"""Number of images that are decoded for the check, if images are not in memory."""


def low_contrast(x: np.ndarray | Lazy) -> tuple[str, ...]:
    """Returns a warning if images span less than a tenth of the range from black to white, with their number.

    Args:
        x: (n, channels, height, width) from 0 to 1; of lazily decoded records only some are checked.

    Returns:
        The warning, or nothing.
    """
    rows = np.arange(len(x))
    if not isinstance(x, np.ndarray) and len(x) > _MOST:
        rows = np.unique(np.linspace(0, len(x) - 1, _MOST).astype(int))
    spans = []
    for start in range(0, len(rows), 64):
        spans.append(span(x[rows[start : start + 64]]))
    low = np.concatenate(spans) < LOW_CONTRAST
    if not low.any():
        return ()
    of = f"{len(rows):,}" if len(rows) == len(x) else f"{len(rows):,} images looked at, of {len(x):,},"
    return (
        f"{int(low.sum()):,} of {of} images span less than {LOW_CONTRAST:.0%} of the range from black to white: they "
        "may be blank, or wrongly scaled (see window and bits)",
    )


def span(x: np.ndarray) -> np.ndarray:
    """Returns the part of the range from black to white that each image uses, (n,).

    Args:
        x: (n, channels, height, width) from 0 to 1.
    """
    flat = x.reshape(len(x), -1)
    return np.asarray(flat.max(1) - flat.min(1))
