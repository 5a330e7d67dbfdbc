"""Up to six trials side by side, with tests only where test records did not choose them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from assay.dashboard.figures import Figures
from assay.dashboard.live import Live
from assay.dashboard.record import of_training_records, record_of
from assay.dashboard.table import Row
from assay.store.columns import about_of
from assay.void_tests import why_no_test

MOST = 6
"""Trials side by side."""
_FIGURES = 150
"""Greatest number of figures that are shown side by side."""
OTHER_STUDIES = "No test: these trials are of different studies or data. A test needs the same records for all."
ONE_RECIPE = "No test: these trials have one recipe, and differ in their fold or seed alone."


def compared(
    live: Live, rows: Sequence[Row], tables: Sequence[pa.Table], sweeps: Mapping[int, bool], figures: Figures
) -> dict[str, Any]:
    """Puts trials side by side.

    Args:
        live: the trials of the page.
        rows: where the trials lie.
        tables: the rows of each.
        sweeps: whether a folder holds a sweep, by its number.
        figures: asks for tests.

    Returns:
        JSON-able: ``trials``, ``settings`` in which they differ, ``figures``, ``tests`` and ``why`` there is none.
    """
    records = []
    for row, table in zip(rows, tables, strict=True):
        withheld = of_training_records(table)
        if withheld is None:
            withheld = figures.withheld(live.folders[row.folder].location, row.place)
        records.append(record_of(table, withheld=withheld))
    settings = [{one["key"]: one["value"] for one in record["settings"]} for record in records]
    shown = [_figures(record) for record in records]
    names = list(dict.fromkeys(name for each in shown for name in each))[:_FIGURES]
    asked = [about_of(table).get("asked", {}) for table in tables]
    return {
        "trials": [
            {
                "trial": row.place[1],
                "study": live.folders[row.folder].name,
                **{key: one.get(key, "") for key in ("cohort", "recipe_name")},
                "fold": one.get("fold", 0) + 1,
                "repeat": one.get("repeat", 0) + 1,
                "tested": record["tested"],
                "withheld": record["withheld"],
            }
            for row, one, record in zip(rows, asked, records, strict=True)
        ],
        "settings": _differing(settings),
        "figures": [{"name": name, "values": [each.get(name) for each in shown]} for name in names],
        **_tested(live, rows, asked, sweeps, figures),
    }


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns the settings in which trials differ, with the value of each."""
    keys = dict.fromkeys(key for each in settings for key in each)
    values = {key: [each.get(key) for each in settings] for key in keys}
    return [{"key": key, "values": own} for key, own in values.items() if len(set(map(json.dumps, own))) > 1]


def _tested(
    live: Live, rows: Sequence[Row], asked: Sequence[Mapping[str, Any]], sweeps: Mapping[int, bool], figures: Figures
) -> dict[str, Any]:
    """Returns tests of the differences, or why there is none."""
    if len({(row.folder, one.get("cohort"), one.get("data")) for row, one in zip(rows, asked, strict=True)}) > 1:
        return {"tests": [], "why": OTHER_STUDIES}
    on_validation = any(one.get("split", {}).get("tested") == "validation" for one in asked)
    if void := why_no_test("validation" if on_validation else "test", sweep=sweeps[rows[0].folder]):
        return {"tests": [], "why": f"No test: {void}."}
    recipes = tuple(dict.fromkeys(str(one.get("recipe_name", "")) for one in asked))
    if len(recipes) < 2:
        return {"tests": [], "why": ONE_RECIPE}
    return figures.differences(live.folders[rows[0].folder].location, str(asked[0].get("cohort", "")), recipes)


def _figures(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the measurements of a record by their names with conditions."""
    found: dict[str, dict[str, Any]] = {}
    for row in record["measurements"]:
        about = ", ".join(f"{key} {_short(value)}" for key, value in row["conditions"].items() if _short(value))
        name = row["name"].replace("_", " ") + (f" ({about})" if about else "")
        kept = {key: row[key] for key in ("value", "low", "high", "unit", "n", "status")}
        found.setdefault(name, {**kept, "flags": len(row["flags"])})
    return found


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if isinstance(value, (str, int)) and len(str(value)) <= 24 else ""
