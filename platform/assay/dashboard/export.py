"""The selection as a file: a table, or a study that runs it again."""

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

import yaml

from assay.dashboard.live import Live
from assay.dashboard.table import Row, Trials
from assay.errors import UserError
from assay.store.columns import about_of

MOST_TRIALS = 5_000
"""Trials of an exported study."""
_RISKY = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of a text that a spreadsheet would run as a formula."""


def as_csv(trials: Trials, rows: Sequence[int]) -> str:
    """Returns trials as comma-separated values: what names them, settings that vary, figures, and errors.

    Args:
        trials: the table.
        rows: numbers of the rows.

    Returns:
        The text, with a line of titles.
    """
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    columns = trials.served()
    writer.writerow(["trial", *(one.key for one in columns), "error"])
    for row in rows:
        values = [one.column.text(row) for one in columns]
        writer.writerow([trials.row(row).place[1], *map(_cell, values), _cell(trials.error(row))])
    return written.getvalue()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value.is_integer() and abs(value) < 1e15 else value
    return f"'{value}" if isinstance(value, str) and value.startswith(_RISKY) else value


def as_study(live: Live, rows: Sequence[Row]) -> str:
    """Returns a study file whose recipes are those of some trials; it plans these trials under the same ids.

    A study runs every fold of its recipes. Trials that have results in the folder are not run again, if the study is
    run with ``--results`` of that folder.

    Args:
        live: the trials of the page.
        rows: where the trials lie.

    Returns:
        YAML.

    Raises:
        UserError: the trials are of several studies, there are too many recipes, or the study has no file yet.
    """
    folders = {row.folder for row in rows}
    if len(folders) != 1:
        what = "nothing is selected" if not folders else f"the selection has trials of {len(folders)} studies"
        raise UserError(f"{what}; select trials of one study, for a study file holds one", setting="selection")
    if len(rows) > MOST_TRIALS:
        message = f"the selection has {len(rows)} trials; select at most {MOST_TRIALS} for a study file"
        raise UserError(message, setting="selection", given=len(rows), allowed=MOST_TRIALS)
    folder = live.folders[folders.pop()]
    about = yaml.safe_load(folder.reader.read_text("study.yaml")) or {}
    if "study" not in about:
        raise UserError(f"{folder.name} has no study file yet; a job writes it when it begins, a sweep when it ends")
    recipes: dict[str, dict[str, Any]] = {}
    asked_of: dict[str, Any] = {}
    for row in rows:
        asked = about_of(folder.rows(row.place)).get("asked", {})
        if "recipe" not in asked:
            raise UserError(
                f"trial {row.place[1]} is of a model that Assay did not train; there is nothing to run again"
            )
        recipes.setdefault(asked["cohort"], {})[asked["recipe_name"]] = asked["recipe"]
        asked_of[asked["cohort"]] = asked
    count = sum(map(len, recipes.values()))
    study = _narrowed(about["study"], recipes, asked_of, folder.name)
    head = (
        f"# {len(rows)} trials of {folder.name}, selected on the dashboard: {count} recipes, each with all its folds.\n"
        f"# Trials that have results are not run again with --results {folder.location}\n"
    )
    return head + yaml.safe_dump(study, sort_keys=False, allow_unicode=True)


def _narrowed(
    study: dict[str, Any], recipes: dict[str, dict[str, Any]], asked_of: dict[str, Any], name: str
) -> dict[str, Any]:
    """Returns the settings of a study with these recipes alone, without the requirements on the others."""
    cohorts = {}
    for cohort, chosen in recipes.items():
        if cohort not in study["cohorts"]:
            raise UserError(
                f"the study file of {name} has no cohort {cohort!r} any more", setting="cohort", given=cohort
            )
        kept = {
            key: value for key, value in study["cohorts"][cohort].items() if key not in ("requirements", "candidates")
        }
        audits = _audits(asked_of[cohort])
        kept["evaluations"] = [_counted(one, audits) for one in kept.get("evaluations", ())]
        kept["selected_evaluations"] = [
            {**one, "recipes": own, "evaluations": [_counted(inner, audits) for inner in one["evaluations"]]}
            for one in kept.get("selected_evaluations", ())
            if (own := [recipe for recipe in one["recipes"] if recipe in chosen])
        ]
        cohorts[cohort] = {**kept, "recipes": chosen}
    baseline = study.get("baseline", "standard")
    everywhere = all(baseline in chosen for chosen in recipes.values())
    return {**study, "baseline": baseline if everywhere else "standard", "cohorts": cohorts}


def _audits(asked: dict[str, Any]) -> int | None:
    """Returns the number of audits with which the trials were read together; fewer would give them other names."""
    return next((one.get("audits") for one in asked.get("evaluations", ()) if one.get("name") == "audit"), None)


def _counted(evaluation: dict[str, Any], audits: int | None) -> dict[str, Any]:
    return {**evaluation, "audits": audits} if evaluation.get("name") == "audit" and audits else evaluation
