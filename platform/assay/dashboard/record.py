"""The record of one trial: its settings, every measurement with interval and checks, and its files."""

import json
import math
from typing import Any

import pyarrow as pa

from assay.results import TELLS_OF
from assay.store.columns import about_of
from assay.store.settings import parsed, settings_of

WITHHELD = (
    "This model was trained privately. Figures that were read off its training records are not shown here, because no "
    "ε pays for what they tell; the curator finds them in report.html of the results."
)
UNKNOWN = (
    "This model was trained privately, and its results do not say which figures were read off training records, so "
    "none is shown here; run the study again, or look into report.html of the results."
)
_LONGEST = 600
"""Characters of a text that is shown, such as an error."""


def record_of(rows: pa.Table, *, withheld: "list[bool] | None") -> dict[str, Any]:
    """Returns the record of a trial as the page shows it.

    Args:
        rows: of the trial.
        withheld: for each row, whether it must not be shown; None where that is not known, and then no row is.

    Returns:
        JSON-able values.
    """
    about = about_of(rows)
    asked = about.get("asked", {})
    measured = rows.to_pylist()
    shown = [] if withheld is None else [row for row, hidden in zip(measured, withheld, strict=True) if not hidden]
    return {
        "settings": [{"key": key, "value": value} for key, value in map(parsed, settings_of(asked))],
        "measurements": [_row(row) for row in shown if row["kind"] != "check"],
        "checks": [_check(row) for row in shown if row["kind"] == "check"],
        "withheld": len(measured) - len(shown),
        "why_withheld": "" if len(shown) == len(measured) else UNKNOWN if withheld is None else WITHHELD,
        "error": about.get("error", "").splitlines()[:1],
        "seconds": about.get("seconds"),
        "tested": asked.get("split", {}).get("tested", "test"),
        "versions": {key: about[key] for key in ("versions", "environment") if key in about},
        "data": {key: about.get("data", {}).get(key) for key in ("name", "records", "licence", "citation")},
    }


def of_training_records(rows: pa.Table) -> "list[bool] | None":
    """Returns which rows of a trial tell of training records that no ε covers; see ``Evaluation.of_training_records``.

    Args:
        rows: of the trial.

    Returns:
        A bool for each row: always False for a model without privacy, of which nothing is withheld. None for a private
        one of an earlier version of which no row is marked: either it has none, or they were not marked then.
    """
    if not is_private(rows):
        return [False] * len(rows)
    marks = [TELLS_OF in json.loads(text) for text in rows["conditions"].to_pylist()]
    return marks if any(marks) or about_of(rows).get("marks") == TELLS_OF else None


def is_private(rows: pa.Table) -> bool:
    """Returns whether the model of a trial was trained privately.

    Args:
        rows: of the trial.

    Returns:
        True if its recipe has a budget.
    """
    return bool((about_of(rows).get("asked", {}).get("recipe") or {}).get("privacy"))


def _row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": row["name"],
        "value": _number(row["value"]),
        "low": _number(row["low"]),
        "high": _number(row["high"]),
        "unit": row["unit"],
        "n": row["n"],
        "status": row["status"],
        "reason": row["reason"],
        "warnings": [text[:_LONGEST] for text in row["warnings"] or ()],
        "flags": [dict(flag) for flag in row["flags"] or ()],
        "conditions": {key: value for key, value in json.loads(row["conditions"]).items() if key != TELLS_OF},
    }


def _check(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "rule": row["rule"],
        "verdict": row["verdict"],
        "figure": _number(row["value"]),
        "concerns": list(row["concerns"] or ()),
        "message": (row["warnings"] or [""])[0][:_LONGEST],
    }


def _number(value: float | None) -> float | str | None:
    """Returns a number as JSON can hold it."""
    if value is None or math.isnan(value):
        return None
    return value if math.isfinite(value) else "∞" if value > 0 else "−∞"
