"""Reads rows of earlier versions, whose files held verdicts, flags and reasons in words; only this module reads them.

A check was a row whose name began with ``check.``, with its verdict and the measurements it concerns among its
conditions. Its message was among the warnings of a figure, after ``warn: `` or ``fail: ``. Later versions had typed
columns, and no row of a map said whether its method is the default one.
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assay.results import NOT_RELEASABLE

TYPED = ("reason", "flags", "kind", "rule", "verdict", "concerns")
"""Columns that files of earlier versions do not have."""
_CHECK = "check."
_VERDICTS = ("warn", "fail")
_SEEDED = "experiment, not releasable"


def is_earlier(table: pa.Table) -> bool:
    """Returns whether a row of a file lacks what ``typed`` adds: a column, or a condition of its figure.

    Args:
        table: rows of a file, with ``conditions`` as JSON.

    Returns:
        True if it does.
    """
    if "kind" not in table.column_names:
        return True
    has = {key: pc.match_substring(table["conditions"], f'"{key}":') for key in ("method", "reference", "primary")}
    lacks_primary = pc.and_(pc.and_(has["method"], has["reference"]), pc.invert(has["primary"]))
    return bool(pc.any(lacks_primary).as_py())


def typed(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row of any version with all columns of the present one.

    Args:
        row: its columns by name; ``conditions`` as a mapping, typed columns absent or None where its version had none.

    Returns:
        The row. Where ``kind`` was not stored, the typed columns are read from name, conditions and warnings.
    """
    if row.get("kind"):
        return {**row, "conditions": _with_primary(row["conditions"])}
    conditions, warnings = _with_primary(row["conditions"]), list(row["warnings"])
    read: dict[str, Any] = {"reason": None, "flags": [], "kind": "measurement", "rule": "", "verdict": None}
    read["concerns"] = []
    if row["name"].startswith(_CHECK):
        concerns = conditions.pop("concerns")
        read |= {"kind": "check", "rule": row["name"].removeprefix(_CHECK), "verdict": conditions.pop("verdict")}
        read["concerns"] = [concerns] if isinstance(concerns, str) else list(concerns)
    else:
        read["flags"] = [flag for warning in warnings if (flag := _flag(warning))]
        warnings = [warning for warning in warnings if not _flag(warning)]
    if row["status"] != "measured":
        # Only there the report has told one reason from another.
        unpaid = row["name"].startswith("epsilon") and any("not private" in warning for warning in warnings)
        read["reason"] = "not_private" if unpaid else "unspecified"
    return {**row, **read, "conditions": conditions, "warnings": warnings}


def _with_primary(conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the conditions of a row; of a map by a method, with whether this is the default one.

    It was integrated gradients, of all kinds of records, and no row said so.
    """
    found = dict(conditions)
    if "method" in found and "reference" in found and "primary" not in found:
        found["primary"] = found["method"] == "integrated_gradients"
    return found


def _flag(warning: str) -> dict[str, str] | None:
    """Returns the flag that a warning stands for; None for a plain warning."""
    verdict, _, message = warning.partition(": ")
    if verdict in _VERDICTS:
        return {"verdict": verdict, "message": message, "rule": ""}
    if warning.startswith(_SEEDED):
        return {"verdict": "warn", "message": warning, "rule": NOT_RELEASABLE}
    return None
