"""What each hospital, or client, has by joining a federation: accuracy, AUROC, participation, and a verdict."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from assay.evaluations.client_answers import ALONE, JOINT, PERSONAL, TOGETHER
from assay.report.rows import holding, measured, of_recipe, runs_of, select, shared
from assay.report.scorecard import Scorecard
from assay.report.tables.rounds import failures
from assay.statistics import LEVEL, Summary, holm

ARRANGEMENTS = {
    ALONE: "alone",
    JOINT: "joint model",
    PERSONAL: "own model",
    TOGETHER: "all data in one place",
}
"""Titles of the arrangements, in the order of the columns."""
_MOST = 30
"""Greatest number of clients of a table."""


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Accuracy that a client gains by joining, with the test that it is not 0."""

    value: float
    low: float
    high: float
    p: float
    """Two-sided, after Holm's correction over the clients of the recipe; NaN where no test is possible."""

    @property
    def verdict(self) -> str:
        """``gains``, ``loses`` or ``inconclusive`` at the 5 % level."""
        if not self.p < 1 - LEVEL:
            return "inconclusive"
        return "gains" if self.value > 0 else "loses"


@dataclass(frozen=True, kw_only=True)
class HospitalRow:
    """One hospital, or client, of one recipe."""

    name: str
    records: str
    """Training records; a range where runs differ."""
    tested: str
    """Test records, likewise."""
    accuracy: Mapping[str, Summary]
    """By arrangement; none where it was not measured."""
    auroc: Mapping[str, Summary]
    absent: Mapping[str, str]
    """Why an arrangement has no accuracy, in words."""
    gain: Gain | None
    used: int | None
    """Rounds that use its update, over all runs; None where the log does not tell."""
    rounds: int
    """Rounds of all runs."""
    failures: Mapping[str, int]
    """Failed rounds by cause, over all runs."""


@dataclass(frozen=True, kw_only=True)
class HospitalTable:
    """The hospitals, or clients, of one recipe."""

    recipe: str
    sites: bool
    """Whether each client is a site of the data."""
    joined: str
    """The arrangement that a client has by joining."""
    arrangements: tuple[str, ...]
    """Those that were measured, in the order of the columns."""
    rows: tuple[HospitalRow, ...]
    clients: int
    """Number of all clients; the rows are those with the least gain, where there are many."""
    mean_auroc: Mapping[str, Summary]
    """Mean of the AUROC within each client, by arrangement."""
    pooled_auroc: Mapping[str, Summary]
    """AUROC on the records of all clients together, by arrangement: it includes differences between clients."""
    verdicts: Mapping[str, tuple[str, ...]]
    """Names of all clients by verdict."""


def hospitals(card: Scorecard, frame: pd.DataFrame) -> list[HospitalTable]:
    """Returns a table for each recipe whose clients were measured.

    Over several runs, the gain of a client is tested as any difference of two recipes is: over folds, or by record and
    seed on an official split; the family of Holm's correction is the clients of the recipe. Of a single run, it is the
    paired test of the evaluation.

    Args:
        card: of the cohort.
        frame: rows of the cohort.

    Returns:
        The tables, in the order of the recipes.
    """
    found = []
    for recipe in card.recipes:
        own = of_recipe(frame, recipe)
        accuracies = select(own, "client_accuracy")
        if not measured(own, "client_accuracy").empty:
            found.append(_table(card, recipe, own, accuracies))
    return found


def _table(card: Scorecard, recipe: str, own: pd.DataFrame, accuracies: pd.DataFrame) -> HospitalTable:
    conditions = list(accuracies["conditions"])
    names = list(dict.fromkeys(map(_name, conditions)))
    known = {_arrangement(c) for c in measured(accuracies, "client_accuracy")["conditions"]}
    joined = PERSONAL if any(_arrangement(c) == PERSONAL for c in conditions) else JOINT
    rows = _with_gains([_row(card, own, name, joined) for name in names], already=_runs(own) == 1)
    verdicts: dict[str, list[str]] = {}
    for row in rows:
        if row.gain is not None:
            verdicts.setdefault(row.gain.verdict, []).append(row.name)
    return HospitalTable(
        recipe=recipe,
        sites=any("site" in c for c in conditions),
        joined=joined,
        arrangements=tuple(arrangement for arrangement in ARRANGEMENTS if arrangement in known),
        rows=tuple(_least(rows)),
        clients=len(rows),
        mean_auroc=_by_arrangement(card, select(own, "mean_client_auroc")),
        pooled_auroc=_by_arrangement(card, select(own, "pooled_client_auroc")),
        verdicts={verdict: tuple(clients) for verdict, clients in verdicts.items()},
    )


def _row(card: Scorecard, own: pd.DataFrame, name: str, joined: str) -> HospitalRow:
    """Returns the row of a client; its gain is not yet corrected."""
    rows = holding(own, lambda c: "client" in c and _name(c) == name)
    accuracies, used = select(rows, "client_accuracy"), measured(rows, "client_rounds")
    missing = accuracies[(accuracies["status"] != "measured").to_numpy()]
    return HospitalRow(
        name=name,
        records=_range(measured(rows, "client_records")["value"]),
        tested=_range(measured(rows, "client_accuracy")["n"]),
        accuracy=_by_arrangement(card, accuracies),
        auroc=_by_arrangement(card, select(rows, "client_auroc")),
        absent={
            _arrangement(c): "; ".join(said) for c, said in zip(missing["conditions"], missing["warnings"], strict=True)
        },
        gain=_gain(card, rows, joined),
        used=int(used["value"].sum()) if len(used) else None,
        rounds=int(used["n"].sum()),
        failures=failures(measured(rows, "client_failures_by_cause")),
    )


def _gain(card: Scorecard, rows: pd.DataFrame, joined: str) -> Gain | None:
    """Returns the gain of a client with its p before Holm's correction; of a single run as the evaluation measured."""
    sides = [runs_of(_of(measured(rows, "client_accuracy"), arrangement)) for arrangement in (joined, ALONE)]
    places = shared(sides) if all(len(side) for side in sides) else []
    if not places:
        return None
    if len(places) == 1:
        gains, ps = measured(rows, "joining_gain"), measured(rows, "joining_p")
        if not len(gains):
            return None
        value, low, high = (float(gains[end].iloc[0]) for end in ("value", "low", "high"))
        return Gain(value=value, low=low, high=high, p=float(ps["value"].iloc[0]) if len(ps) else math.nan)
    test = card.design.against_limit(sides[0].at(places), 0.0, less=sides[1].at(places))
    return Gain(value=test.value, low=test.low, high=test.high, p=min(1.0, 2 * min(test.p_above, test.p_below)))


def _with_gains(rows: list[HospitalRow], *, already: bool) -> list[HospitalRow]:
    """Corrects the gains over the clients.

    Args:
        rows: of all clients.
        already: whether the evaluation has corrected them: there is one run.
    """
    if already:
        return rows
    corrected = holm([math.nan if row.gain is None else row.gain.p for row in rows])
    return [
        row if row.gain is None else replace(row, gain=replace(row.gain, p=p))
        for row, p in zip(rows, corrected, strict=True)
    ]


def _least(rows: list[HospitalRow]) -> list[HospitalRow]:
    """Returns all clients, or of many those with the least gain, in their order."""
    if len(rows) <= _MOST:
        return rows
    by_gain = sorted(rows, key=lambda row: math.inf if row.gain is None else row.gain.value)
    kept = {row.name for row in by_gain[:_MOST]}
    return [row for row in rows if row.name in kept]


def _by_arrangement(card: Scorecard, rows: pd.DataFrame) -> dict[str, Summary]:
    found = {}
    for arrangement in ARRANGEMENTS:
        runs = runs_of(_of(rows, arrangement))
        if len(runs):
            found[arrangement] = card.design.summarise(runs.runs)
    return found


def _of(rows: pd.DataFrame, arrangement: str) -> pd.DataFrame:
    return holding(rows, lambda c: _arrangement(c) == arrangement)


def _runs(own: pd.DataFrame) -> int:
    return len(runs_of(measured(own, "client_accuracy")))


def _name(conditions: Mapping[str, Any]) -> str:
    """Returns the name of a client: its site where it is one. Numbers of sites differ where a run lacks one."""
    return str(conditions.get("site", conditions["client"]))


def _arrangement(conditions: Mapping[str, Any]) -> str:
    return str(conditions.get("arrangement", JOINT))


def _range(values: pd.Series) -> str:
    if not len(values):
        return "–"
    least, most = int(values.min()), int(values.max())
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"
