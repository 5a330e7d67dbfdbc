"""What stands at one recipe and one column: a figure with its interval and its warnings, or why there is none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from assay.report.checks import Said, checks_of, sum_up
from assay.report.evidence import Evidence
from assay.report.rows import Found, of_recipe, runs_of, select
from assay.statistics import Design, Summary


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One recipe's value of one piece of evidence over all folds, or seeds."""

    summary: Summary | None
    """None where nothing was measured."""
    why: str = ""
    """Why there is no value."""
    warnings: tuple[str, ...] = ()
    """What the checks said, each with the number of folds or seeds in which they said it."""
    failed: bool = False
    """Whether a check failed, or the measurement did."""
    records: int = 0
    """Behind the value, in the trial that asked fewest."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Recipes × evidence."""

    recipes: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    cells: Mapping[tuple[str, str], Cell]
    """By recipe and evidence key."""

    def records(self, key: str) -> str:
        """How many records stand behind the figures of a column, in words; empty where nobody counted."""
        counts = {self.cells[recipe, key].records for recipe in self.recipes} - {0}
        return f"n = {between(min(counts), max(counts))}" if counts else ""


def tabulate(
    evidence: Sequence[Evidence], recipes: Sequence[str], frame: pd.DataFrame, design: Design
) -> tuple[Table, dict[tuple[str, str], Found]]:
    """A table of recipes, and behind each of its cells the runs.

    Args:
        frame: rows of the cohort.
    """
    cells, runs = {}, {}
    names = {column.name for column in evidence}
    for recipe in recipes:
        own = of_recipe(frame, recipe)
        checks = checks_of(own)
        begun = bool((own["status"] != "failed").any())
        own = own[own["name"].isin(names).to_numpy()]
        for column in evidence:
            rows = select(own, column.name, **column.where)
            found = runs[recipe, column.key] = runs_of(rows)
            cells[recipe, column.key] = _cell(rows, checks, column, found, design, begun=begun)
    return Table(recipes=tuple(recipes), evidence=tuple(evidence), cells=cells), runs


def between(least: int, most: int) -> str:
    """A count, or the two ends between which counts lie."""
    return f"{least}" if least == most else f"{least} – {most}"


def _cell(
    rows: pd.DataFrame, checks: list[Said], column: Evidence, runs: Found, design: Design, *, begun: bool
) -> Cell:
    """What stands at one recipe and column.

    Args:
        rows: of the recipe and the column; ``checks`` are those of the recipe.
        begun: whether any trial of the recipe has finished.
    """
    if not len(rows):
        return Cell(summary=None, why="this was not asked of the model" if begun else "no trial has finished")
    missing = rows[(rows["status"] != "measured").to_numpy()]
    said, failed = _said(checks, rows, column, design)
    failed = failed or bool((missing["status"] == "failed").any())
    if not len(runs):
        why = "; ".join(missing.iloc[0]["warnings"])
        return Cell(summary=None, why=why, warnings=(why,) if failed else (), failed=failed)
    fewest = int(rows["n"].to_numpy()[(rows["status"] == "measured").to_numpy()].min())
    return Cell(summary=design.summarise(runs.runs), warnings=said, failed=failed, records=fewest)


def _said(checks: list[Said], rows: pd.DataFrame, column: Evidence, design: Design) -> tuple[tuple[str, ...], bool]:
    """What stands beside a value: its own warnings once, and each check that did not pass with its worst figure."""
    notes = [w for warnings in rows["warnings"] for w in warnings if not w.startswith(("warn: ", "fail: "))]
    told = sum_up(check for check in checks if _concerns(check.conditions, column))
    raised = [check for check in told if check.verdict != "pass"]
    lines = [f"{check.message} [{check.raised} of {check.count} {design.run}s]" for check in raised]
    return (*lines, *dict.fromkeys(notes)), any(check.verdict == "fail" for check in raised)


def _concerns(conditions: Mapping[str, Any], column: Evidence) -> bool:
    """Whether a check looked at this column: of one attack or method, at that one alone."""
    asked = {key: column.where.get(key) for key in ("attack", "method", "corruption")}
    return conditions.get("concerns") == column.name and all(
        conditions.get(key) in (None, wanted) for key, wanted in asked.items()
    )
