"""The columns of an index: one line a trial, with its settings and headline figures."""

import json
import math
from typing import Any

import pyarrow as pa

from assay.store.files import Stamp
from assay.store.settings import settings_of

ABOUT = b"assay"
"""Key of the metadata of a results file: the settings of the trial and where it ran, as JSON."""
HEADLINES = (
    "accuracy",
    "balanced_accuracy",
    "auroc",
    "sensitivity",
    "specificity",
    "calibration_error",
    "epsilon",
    "training_seconds",
)
"""Figures of a trial that have a column of the index, by the names of their measurements; NaN where not measured."""
COLUMNS = pa.schema(
    [
        pa.field("folder", pa.string()),
        pa.field("trial", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("modified", pa.int64()),
        pa.field("offset", pa.int64()),
        pa.field("cohort", pa.string()),
        pa.field("dataset", pa.string()),
        pa.field("model", pa.string()),
        pa.field("recipe", pa.string()),
        pa.field("fold", pa.int32()),
        pa.field("repeat", pa.int32()),
        pa.field("training", pa.string()),
        pa.field("artefact", pa.string()),
        pa.field("error", pa.string()),
        pa.field("seconds", pa.float64()),
        *(pa.field(name, pa.float64()) for name in HEADLINES),
        pa.field(
            "worst_case",
            pa.list_(pa.struct([("norm", pa.string()), ("epsilon", pa.float64()), ("accuracy", pa.float64())])),
        ),
        pa.field("settings", pa.list_(pa.dictionary(pa.int32(), pa.string()))),
    ]
)
"""One row a trial. ``offset`` is where its rows lie in the log, -1 where they do not; ``error`` is empty unless it
failed; ``worst_case`` holds the accuracy under the worst attack at each radius, ``settings`` one text a setting
(``assay.store.settings``), each stored once for all trials that share it."""
Place = tuple[str, str]
"""Folder and id of a trial."""


def about_of(table: pa.Table) -> dict[str, Any]:
    """Returns the metadata of a results file: the settings of the trial, and where it ran.

    Args:
        table: read from the file.

    Returns:
        Values by name.
    """
    return dict(json.loads(table.schema.metadata[ABOUT]))


def columns_of(place: Place, stamp: Stamp, table: pa.Table, offset: int) -> dict[str, Any]:
    """Returns the row of ``COLUMNS`` of one trial.

    Args:
        place: folder and id of the trial.
        stamp: size and time of its file.
        table: its rows, with the metadata of the file.
        offset: of its rows in the log, −1 if they are not in it.

    Returns:
        Values by column.
    """
    about, first = about_of(table), table.slice(0, 1).to_pylist()
    labels = {key: first[0][key] for key in ("dataset", "model", "recipe", "fold", "repeat")} if first else {}
    figures, worst = dict.fromkeys(HEADLINES, math.nan), []
    rows = (table[name].to_pylist() for name in ("name", "status", "value", "conditions"))
    for name, status, value, conditions in zip(*rows, strict=True):
        if status != "measured":
            continue
        if name in figures and math.isnan(figures[name]):
            figures[name] = value
        elif name == "worst_case_accuracy":
            asked = json.loads(conditions)
            worst.append({"norm": asked.get("norm", ""), "epsilon": asked.get("epsilon"), "accuracy": value})
    return {
        **dict(zip(("folder", "trial", "size", "modified"), (*place, *stamp), strict=True)),
        **labels,
        "offset": offset,
        "cohort": about.get("asked", {}).get("cohort", ""),
        "training": about.get("training") or place[1],
        "artefact": about.get("artefact") or "",
        "error": about["error"],
        "seconds": about.get("seconds"),
        **figures,
        "worst_case": worst,
        "settings": settings_of(about.get("asked", {})),
    }
