"""The 95 % intervals of a trial's headline figures, for the few trials of which a page draws them."""

import json
import math
from typing import Any

import pyarrow as pa

from assay.dashboard.headlines import HEADLINES, worst_case


def intervals_of(rows: pa.Table) -> dict[str, list[float]]:
    """Returns the intervals of the figures that the page has as columns.

    Args:
        rows: of a trial.

    Returns:
        Low and high end by the key of the column; figures without an interval are left out.
    """
    found: dict[str, list[float]] = {}
    names = ("name", "status", "low", "high", "conditions")
    for name, status, low, high, conditions in zip(*(rows[key].to_pylist() for key in names), strict=True):
        if status == "measured" and all(end is not None and math.isfinite(end) for end in (low, high)):
            key = _key(name, conditions)
            if key and key not in found:
                found[key] = [low, high]
    return found


def _key(name: str, conditions: str) -> str:
    if name == "worst_case_accuracy":
        asked: dict[str, Any] = json.loads(conditions)
        radius = asked.get("epsilon")
        return worst_case(asked.get("norm", ""), float(radius))[0] if radius else ""
    return name if name in HEADLINES else ""
