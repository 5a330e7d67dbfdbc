"""Cells of a table: a value with its interval and warnings, or the reason why there is none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from assay.design import Design
from assay.report.checks import CheckResult, checks_of, sum_up
from assay.report.evidence import Evidence
from assay.report.rows import RunValues, largest_sample, of_recipe, own_flags, own_words, runs_of, select, shared
from assay.results import RAISED, ReasonCode
from assay.statistics import Summary


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One recipe's value in one column over all folds, or seeds."""

    summary: Summary | None
    """None where nothing was measured."""
    why: str = ""
    """Why there is no value, in words."""
    reason: ReasonCode | None = None
    """The reason as a code; None where there is a value, or where it was not asked for."""
    warnings: tuple[str, ...] = ()
    """Messages of the checks, each with the number of folds or seeds that raised it."""
    failed: bool = False
    """Whether a check failed, or the measurement did."""
    records: int = 0
    """Records of the value, in the trial that has fewest."""
    whole: int = 0
    """Test records of that trial; 0 where accuracy was not measured."""
    clean: Summary | None = None
    """Accuracy without an attack or a change on the same records and runs, where accuracy has more of them.
    None where it has not, or where it was not measured.
    """
    beside: Summary | None = None
    """Value of the column ``Evidence.beside`` on the same runs; None where all runs are the same."""
    at_zero: Summary | None = None
    """Its own value at ε = 0, on the same records and runs (``Evidence.from_zero``)."""


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """A table of recipes by columns."""

    recipes: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    cells: Mapping[tuple[str, str], Cell]
    """By recipe and evidence key."""

    def records(self, key: str) -> str:
        """Describes how many records the values of a column use.

        Args:
            key: of the column.

        Returns:
            A text; empty where it is unknown.
        """
        counts = {self.cells[recipe, key].records for recipe in self.recipes} - {0}
        return f"n = {between(min(counts), max(counts))}" if counts else ""


def tabulate(
    evidence: Sequence[Evidence], recipes: Sequence[str], frame: pd.DataFrame, design: Design
) -> tuple[ScoreTable, dict[tuple[str, str], RunValues]]:
    """Builds a table of recipes by columns.

    Args:
        evidence: the columns.
        recipes: the rows, by name.
        frame: rows of the cohort.
        design: of the cohort.

    Returns:
        The table, and the runs of each of its cells.
    """
    cells, runs = {}, {}
    names = {column.name for column in evidence} | {"accuracy", "sample_accuracy"}
    for recipe in recipes:
        own = of_recipe(frame, recipe)
        checks = checks_of(own)
        begun = bool((own["status"] != "failed").any())
        values = _Values(own[own["name"].isin(names).to_numpy()])
        for column in evidence:
            found = runs[recipe, column.key] = values.runs(column)
            cell = _cell(values.rows(column), checks, column, found, design, begun=begun)
            cells[recipe, column.key] = _compared(cell, values, column, found, design)
    return ScoreTable(recipes=tuple(recipes), evidence=tuple(evidence), cells=cells), runs


def runs_text(summary: Summary, design: Design) -> str:
    """Describes in how many folds, or seeds, there is a value.

    Args:
        summary: of a metric.
        design: of the cohort.

    Returns:
        A text; empty where all have one.
    """
    if not summary.partial:
        return ""
    run = design.run if design.repeats == 1 or design.official else "trial"
    return f"{summary.count} of {summary.of} {run}s"


class _Values:
    """The values of one recipe: columns are compared with the same few others, each of which is selected once.

    Args:
        own: rows of the recipe.
    """

    def __init__(self, own: pd.DataFrame) -> None:
        self._none = own.iloc[:0]
        self._named = dict(iter(own.groupby("name", sort=False)))
        self._rows: dict[str, pd.DataFrame] = {}
        self._runs: dict[str, RunValues] = {}

    def rows(self, column: Evidence) -> pd.DataFrame:
        """Returns the rows of a column; where both a sample and all records were used, those with more records."""
        key = repr((column.name, column.where, column.sampled))
        if key not in self._rows:
            rows = select(self._named.get(column.name, self._none), column.name, **column.where)
            self._rows[key] = largest_sample(rows) if column.sampled else rows
        return self._rows[key]

    def runs(self, column: Evidence) -> RunValues:
        """Returns the runs of a column."""
        key = repr((column.name, column.where, column.sampled))
        if key not in self._runs:
            self._runs[key] = runs_of(self.rows(column))
        return self._runs[key]

    def runs_of(self, name: str, **where: Any) -> RunValues:
        """Returns the runs of a measurement with certain conditions, of samples and of all records alike."""
        key = repr((name, where))
        if key not in self._runs:
            self._runs[key] = runs_of(select(self._named.get(name, self._none), name, **where))
        return self._runs[key]


def _compared(cell: Cell, values: _Values, column: Evidence, found: RunValues, design: Design) -> Cell:
    """Adds to a cell the values to compare it with, on the same records and runs.

    Args:
        values: of the recipe.
        found: the runs of the cell.
    """
    if cell.summary is None:
        return cell
    accuracy = values.runs_of("accuracy")
    beside = None if column.beside is None else _on_the_runs_of(found, values.runs(column.beside), design)
    if column.from_zero:
        unharmed = replace(column, where={**column.where, "epsilon": 0.0})
        return replace(cell, beside=beside, at_zero=_alike(found, values.runs(unharmed), design))
    if not column.sampled or not len(accuracy):
        return replace(cell, beside=beside)
    counts, whole = found.of_records(), accuracy.of_records()
    place = min(counts, key=counts.__getitem__)
    clean = None
    if column.evaluation:
        sample = values.runs_of("sample_accuracy", evaluation=column.evaluation)
        clean = _alike(found, accuracy, design) or _alike(found, sample, design)
    everything = len(accuracy) == len(found) and all(counts[p] == whole.get(p) for p in counts)
    return replace(cell, whole=whole.get(place, 0), clean=None if everything else clean, beside=beside)


def _alike(found: RunValues, other: RunValues, design: Design) -> Summary | None:
    """Returns another metric on the same runs, where it uses as many records in each of them; else None."""
    places = shared((found, other), same_records=True)
    return design.summarise(other.at(places)) if len(places) == len(found) else None


def _on_the_runs_of(found: RunValues, other: RunValues, design: Design) -> Summary | None:
    """Returns another metric on the same runs; None where it has no other runs than these."""
    places = shared((found, other))
    return design.summarise(other.at(places)) if places and len(other) > len(places) else None


def between(least: int, most: int) -> str:
    """Formats a count, or a range of counts.

    Args:
        least: smallest count.
        most: greatest count.

    Returns:
        Text such as ``5`` or ``5 – 7``.
    """
    return f"{least}" if least == most else f"{least} – {most}"


def _cell(
    rows: pd.DataFrame, checks: list[CheckResult], column: Evidence, runs: RunValues, design: Design, *, begun: bool
) -> Cell:
    """Builds the cell of one recipe and column.

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
        why, reason = "; ".join(missing.iloc[0]["warnings"]), missing.iloc[0]["reason"]
        return Cell(summary=None, why=why, reason=reason, warnings=(why,) if failed else (), failed=failed)
    fewest = int(rows["n"].to_numpy()[(rows["status"] == "measured").to_numpy()].min())
    return Cell(summary=design.summarise(runs.runs), warnings=said, failed=failed, records=fewest)


def _said(
    checks: list[CheckResult], rows: pd.DataFrame, column: Evidence, design: Design
) -> tuple[tuple[str, ...], bool]:
    """Returns the warnings of a value: each check that did not pass with its worst figure, then its own warnings."""
    told = sum_up(check for check in checks if check.judges(column.name, column.where))
    raised = [check for check in told if check.verdict in RAISED]
    lines = [f"{check.message} [{check.raised} of {check.count} {design.run}s]" for check in raised]
    own = own_flags(rows, (check.rule for check in checks))
    failed = "fail" in {*(check.verdict for check in raised), *(flag.verdict for flag in own)}
    return (*lines, *own_words(rows, own)), failed
