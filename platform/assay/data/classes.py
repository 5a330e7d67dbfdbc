"""Of two classes, the one to detect: what sensitivity, F1 and AUROC are of."""

from collections.abc import Sequence

import numpy as np

_ABSENT = (
    "0",
    "no",
    "false",
    "neg",
    "negative",
    "n",
    "f",
    "absent",
    "control",
    "controls",
    "healthy",
    "normal",
    "benign",
)
"""Classes of two that are the one not to detect, in lower case."""


def counted_classes(names: Sequence[str], y: np.ndarray) -> str:
    """The records of each class, and of two the one to detect: ``well (30), ill (20); ill is the one to detect``."""
    counts = np.bincount(y, minlength=len(names)).tolist()
    said = ", ".join(f"{name} ({count})" for name, count in zip(names, counts, strict=True))
    return said + (f"; {names[1]} is the one to detect" if len(names) == 2 else "")


def guessed_positive(names: Sequence[str], *, remedy: str) -> tuple[str, ...]:
    """A warning where the alphabet alone made the last of two classes the one to detect.

    Args:
        remedy: the setting that says which one is, ``positive: NAME``.
    """
    if len(names) != 2 or names[0].casefold() in _ABSENT:
        return ()
    return (f"class {names[1]!r} was taken for the one to detect, as the last of the alphabet; say {remedy}",)
