"""The class to detect, of two: the positive class of sensitivity, F1 and AUROC."""

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
"""Names of negative classes, in lower case."""


def counted_classes(names: Sequence[str], y: np.ndarray) -> str:
    """Returns a line with the number of records of each class and, of two classes, the one to detect.

    For example ``well (30), ill (20); ill is the one to detect``.

    Args:
        names: of the classes.
        y: (n,) labels.

    Returns:
        A line for the user.
    """
    counts = np.bincount(y, minlength=len(names)).tolist()
    line = ", ".join(f"{name} ({count})" for name, count in zip(names, counts, strict=True))
    return line + (f"; {names[1]} is the one to detect" if len(names) == 2 else "")


def guessed_positive(names: Sequence[str], *, remedy: str) -> tuple[str, ...]:
    """Returns a warning if only the alphabet decided which of two classes is the one to detect.

    Args:
        names: of the classes.
        remedy: the setting that decides it, ``positive: NAME``.

    Returns:
        The warning, or nothing.
    """
    if len(names) != 2 or names[0].casefold() in _ABSENT:
        return ()
    return (f"class {names[1]!r} was taken for the one to detect, as the last of the alphabet; say {remedy}",)
