"""Columns of stored results, and the conversion of findings to rows and back."""

import json
import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from assay.outcomes import Outcomes
from assay.results import Check, Finding, Flag, Measurement
from assay.store.earlier import typed

_FLAG = pa.struct([pa.field(name, pa.string()) for name in ("verdict", "message", "rule")])
MEASUREMENT_SCHEMA = pa.schema(
    [
        pa.field("trial", pa.string(), nullable=False),
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("recipe", pa.string(), nullable=False),
        pa.field("fold", pa.int32(), nullable=False),
        pa.field("repeat", pa.int32(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("unit", pa.string()),
        pa.field("conditions", pa.string()),
        pa.field("n", pa.int64()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("warnings", pa.list_(pa.string())),
        pa.field("reason", pa.string()),
        pa.field("flags", pa.list_(_FLAG)),
        pa.field("kind", pa.string()),
        pa.field("rule", pa.string()),
        pa.field("verdict", pa.string()),
        pa.field("concerns", pa.list_(pa.string())),
        pa.field("outcomes", pa.binary()),
    ]
)
"""One row a measurement or a check; ``conditions`` is JSON, ``outcomes`` as ``assay.outcomes`` packs them. Files of
earlier versions lack the columns from ``reason`` on, or ``outcomes``; they are filled where such a file is read."""
FIGURES = pa.schema(list(MEASUREMENT_SCHEMA)[6:])
"""Columns of the results of one evaluation, which belong to no cohort, recipe name or fold."""


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Converts a row to the types of Parquet.

    Args:
        row: fields of a measurement or a check, with those of its trial if it has one.

    Returns:
        The values of its columns.
    """
    lists = {key: list(row[key]) for key in ("warnings", "concerns")}
    flags = [vars(flag) for flag in row["flags"]]
    outcomes = None if row["outcomes"] is None else row["outcomes"].packed
    return {**row, **lists, "conditions": json.dumps(row["conditions"]), "flags": flags, "outcomes": outcomes}


def of_earlier_version(table: pa.Table) -> pa.Table:
    """Adds the columns and conditions of the present version to the rows of a file that lacks some.

    Args:
        table: rows of a file of an earlier version.

    Returns:
        The rows with the columns of ``MEASUREMENT_SCHEMA``.
    """
    rows = [typed({**row, "conditions": json.loads(row["conditions"])}) for row in table.to_pylist()]
    plain = [{**row, "conditions": json.dumps(row["conditions"])} for row in rows]
    return pa.Table.from_pylist(plain, schema=MEASUREMENT_SCHEMA.with_metadata(table.schema.metadata))


def finding(row: Mapping[str, Any]) -> Finding:
    """Returns the finding of an evaluation that a row was written from.

    Args:
        row: values of its columns.

    Returns:
        A measurement or a check.
    """
    row = typed({**row, "conditions": json.loads(row["conditions"])})
    fields: dict[str, Any] = {
        key: row[key] for key in ("name", "unit", "n", "status", "reason", "kind", "rule", "verdict", "conditions")
    }
    fields |= {key: math.nan if row[key] is None else row[key] for key in ("value", "low", "high")}
    fields |= {key: tuple(row[key]) for key in ("warnings", "concerns")}
    if row.get("outcomes"):
        fields["outcomes"] = Outcomes(row["outcomes"])
    measurement = Measurement(**fields, flags=tuple(Flag(**flag) for flag in row["flags"]))
    return Check.of(measurement) if measurement.kind == "check" else measurement
