"""Checks of what a client reports, before any strategy sees it: arrays and the number of examples.

A single NaN in one client's update makes the average NaN for all, and an average that is weighted by what clients say
of themselves is whatever the greatest claim says. The functions here are pure; they know no message.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

LARGEST = 1e15
"""Greatest absolute value of a real number in an update: the squares of 10⁸ such values still add up in float32."""
MOST_EXAMPLES = 10**8
"""Greatest number of examples that a client may claim where the server does not know it."""
DOMINATING = 0.9
"""Share of all examples from which on one client of three or more decides the average alone."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What an array of a report must look like."""

    shape: tuple[int, ...] | None
    """None for any length: bytes of a serialised model."""
    dtypes: frozenset[str]
    """Names of the allowed types, such as ``float32``."""


def fault_in_array(array: np.ndarray, expected: Expected | None, *, largest: float = LARGEST) -> str:
    """Returns what is wrong with one array of a report.

    Args:
        array: of any shape, such as a flat vector of all weights.
        expected: its shape and type; None checks the values alone.
        largest: greatest absolute value of a real number.

    Returns:
        The fault, or an empty text.
    """
    if array.dtype.kind not in "biuf":
        return f"has the type {array.dtype}, which is no real number"
    if expected is not None and str(array.dtype) not in expected.dtypes:
        return f"has the type {array.dtype}, not {' or '.join(sorted(expected.dtypes))}"
    if expected is not None and expected.shape is not None and array.shape != expected.shape:
        return f"has the shape {array.shape}, not {expected.shape}"
    return _fault_in_values(array, largest) if array.dtype.kind == "f" and array.size else ""


def fault_in_arrays(
    arrays: Mapping[str, np.ndarray], expected: Mapping[str, Expected] | None, *, largest: float = LARGEST
) -> str:
    """Returns the first fault of a report's arrays.

    Args:
        arrays: by key.
        expected: shapes and types by key, in any order; None checks the values alone.
        largest: see ``fault_in_array``.

    Returns:
        The fault with the key of its array, or an empty text.
    """
    if expected is not None and arrays.keys() != expected.keys():
        missing, unknown = sorted(expected.keys() - arrays.keys()), sorted(arrays.keys() - expected.keys())
        parts = [f"lacks {_some(missing)}"] * bool(missing) + [f"has the unknown {_some(unknown)}"] * bool(unknown)
        return " and ".join(parts)
    for key, array in arrays.items():
        fault = fault_in_array(array, None if expected is None else expected[key], largest=largest)
        if fault:
            return f"{key!r} {fault}"
    return ""


def fault_in_count(claimed: Any, *, most: float = MOST_EXAMPLES) -> str:
    """Returns what is wrong with the number of examples that a client claims.

    Args:
        claimed: as reported.
        most: greatest number that is believed.

    Returns:
        The fault, or an empty text.
    """
    if isinstance(claimed, bool) or not isinstance(claimed, int | float):
        return f"claims {claimed!r} examples, which is no number"
    if not math.isfinite(claimed) or claimed <= 0:
        return f"claims {claimed!r} examples; a client has more than none"
    if claimed > most:
        return f"claims {claimed:g} examples, beyond {most:g}"
    return ""


def capped_count(claimed: float, known: int | None) -> tuple[float, bool]:
    """Returns the number of examples that counts: never more than the server knows a client to have.

    A client may use fewer records than it has, for example 80 % of them for training.

    Args:
        claimed: a number without fault.
        known: records of the client that the server knows of, if it does.

    Returns:
        The count, and whether the claim was above it.
    """
    return (known, True) if known is not None and claimed > known else (claimed, False)


def dominating(counts: Mapping[int, float], *, share: float = DOMINATING) -> int | None:
    """Returns the client that has nearly all examples of a round, so that the average is its own.

    Args:
        counts: examples by client.
        share: of all examples.

    Returns:
        The client; None where there is none, where fewer than three take part, or where it is not far above the median.
    """
    if len(counts) < 3:
        return None
    greatest = max(counts, key=lambda client: counts[client])
    alone = counts[greatest] > share * sum(counts.values()) and counts[greatest] > 10 * median(counts.values())
    return greatest if alone else None


def _some(keys: list[str]) -> str:
    shown = ", ".join(repr(key) for key in keys[:3])
    return shown if len(keys) <= 3 else f"{shown} and {len(keys) - 3} more"


def _fault_in_values(array: np.ndarray, largest: float) -> str:
    # Minimum and maximum are NaN where any value is, and cost no array of their own.
    low, high = float(array.min()), float(array.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"has {int((~np.isfinite(array)).sum())} values that are not finite"
    if max(-low, high) > largest:
        return f"has a value of {max(-low, high):.3g}, beyond {largest:g}"
    return ""
