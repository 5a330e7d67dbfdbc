"""The points of a sweep in a table: their settings, the values of the goals with intervals, and what is missing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from assay.report.pareto import pareto_front
from assay.report.rows import largest_sample, select
from assay.statistics import summarise
from assay.store.folder import Store
from assay.study.sweep import Sweep
from assay.study.sweep_goals import ACCURACY, COST, EPSILON, GOALS, ROBUST, Goal
from assay.study.sweep_rungs import RungResult, last_rungs


def results(sweep: Sweep, store: Store, radius: float) -> pd.DataFrame:
    """Returns one row for each point: its settings, and the means of its figures over its trials.

    Columns: ``recipe``; one for each varied setting; for each goal of ``GOALS`` its value (NaN where it was not
    measured), ``KEY_low`` and ``KEY_high``, and ``KEY_runs``, the trials that have a value; ``trials``, those of the
    point; ``records`` and ``robust_records``, the numbers of records of the two accuracies in a trial; ``missing``, why
    the point has no value: it was stopped, or failed; empty otherwise; and ``pareto``.

    Args:
        sweep: with the varied settings.
        store: of the results.
        radius: of the worst case, in the units of the data.

    Returns:
        The table, sorted by the settings.
    """
    asked = store.asked()
    points = {about["recipe_name"]: sweep.settings_in(about) for about in asked.values()}
    table = pd.DataFrame({"recipe": list(points)}, dtype=object)
    for key in sweep.keys:
        table[key] = pd.Series([settings[key] for settings in points.values()], dtype=object).infer_objects()
    trials = Counter(about["recipe_name"] for about in asked.values())
    table["trials"] = [trials[recipe] for recipe in points]
    figures = goal_rows(store.frame(), radius)
    share = _test_share(figures)
    for goal in GOALS.values():
        table = table.join(_values(goal, figures[goal.key], share), on="recipe")
    for key, goal in (("records", ACCURACY), ("robust_records", ROBUST)):
        table[key] = table["recipe"].map(figures[goal.key].groupby("recipe")["n"].min()).astype(float)
    failed = _failed(store, asked)
    table["missing"] = pd.Series([failed.get(recipe, "") for recipe in points], dtype=object)
    table = _with_stopped(table, last_rungs(store), sweep.keys)
    table["pareto"] = pareto(table, goals(table))
    order = [key for key in sweep.keys if not table[key].map(lambda value: isinstance(value, list)).any()]
    return table.sort_values(order, ignore_index=True) if order else table


def goal_rows(frame: pd.DataFrame, radius: float) -> dict[str, pd.DataFrame]:
    """Returns the measured rows of each goal.

    Args:
        frame: of a store.
        radius: of the worst case.

    Returns:
        Rows by the key of the goal.
    """
    known = frame[(frame["status"] == "measured").to_numpy()]
    found = {goal.key: select(known, goal.measurement) for goal in GOALS.values()}
    found[ROBUST.key] = largest_sample(select(found[ROBUST.key], ROBUST.measurement, epsilon=radius))
    return found


def _values(goal: Goal, rows: pd.DataFrame, share: float) -> pd.DataFrame:
    """Returns the mean of each point with its interval, which is that of the records where there is one trial."""
    grouped = rows.groupby("recipe")
    found = grouped.agg(value=("value", "mean"), low=("low", "mean"), high=("high", "mean"), runs=("trial", "nunique"))
    for recipe in found.index[(found["runs"] > 1).to_numpy()]:
        over_folds = summarise(grouped.get_group(recipe)["value"].to_numpy(), test_share=share)
        found.loc[recipe, ["low", "high"]] = over_folds.low, over_folds.high
    names = {"value": goal.key, "low": f"{goal.key}_low", "high": f"{goal.key}_high", "runs": f"{goal.key}_runs"}
    return found.rename(columns=names)


def _test_share(figures: Mapping[str, pd.DataFrame]) -> float:
    """Returns the number of records measured over the number of those trained on, as trials had them."""
    measured, trained = figures[ACCURACY.key]["n"], figures[COST.key]["n"]
    return float(measured.mean() / trained.mean()) if len(measured) and len(trained) and trained.mean() else 1.0


def _failed(store: Store, asked: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Returns why points failed, by their names."""
    errors = store.failures()
    return {asked[trial]["recipe_name"]: error.splitlines()[0] for trial, error in errors.items() if trial in asked}


def _with_stopped(table: pd.DataFrame, stopped: Sequence[RungResult], keys: Sequence[str]) -> pd.DataFrame:
    """Adds the points that were stopped at a rung; they have no value of any goal."""
    there = set(table["recipe"])
    rows = {
        result.recipe: {
            "recipe": result.recipe,
            **{key: result.settings.get(key) for key in keys},
            "trials": 1,
            **{f"{key}_runs": 0 for key in GOALS},
            "missing": result.text,
        }
        for result in stopped
        if result.recipe not in there
    }
    if not rows:
        return table
    added = pd.DataFrame(list(rows.values()), columns=table.columns)
    return pd.concat([table.astype(object), added.astype(object)], ignore_index=True).infer_objects()


def rests_on(row: Mapping[Any, Any], goal: Goal) -> str:
    """Describes how many of a point's trials and records a value uses, where it is not all.

    Args:
        row: of the table.
        goal: the metric.

    Returns:
        A text; empty where it uses all.
    """
    runs, trials = row[f"{goal.key}_runs"], int(row["trials"])
    said = [f"{int(runs)} of {trials} trials"] if 0 < runs < trials else []
    if goal is ROBUST and row["robust_records"] < row["records"]:
        said.append(f"{int(row['robust_records'])} of {int(row['records'])} records")
    return ", ".join(said)


def goals(table: pd.DataFrame, wanted: Sequence[Goal] = (ACCURACY, ROBUST, EPSILON)) -> list[Goal]:
    """Returns the goals that can be compared, because some point has a value.

    Args:
        table: see ``results``.
        wanted: the goals of the sweep; accuracy, worst-case accuracy and ε by default.

    Returns:
        The goals.
    """
    return [goal for goal in wanted if table[goal.key].notna().any()]


def pareto(table: pd.DataFrame, wanted: Sequence[Goal]) -> np.ndarray:
    """Returns which rows are on the Pareto front: no other row is better in one goal and at least equal in all others.

    Args:
        table: see ``results``.
        wanted: the goals.

    Returns:
        (n,) bool; False for a row without a value in some goal.
    """
    signs = np.array([goal.sign for goal in wanted], float)
    return pareto_front(table[[goal.key for goal in wanted]].to_numpy(float) * signs)


def left_out(table: pd.DataFrame, wanted: Sequence[Goal]) -> dict[str, str]:
    """Returns the points that no front can hold, with the reason.

    Args:
        table: see ``results``.
        wanted: the goals.

    Returns:
        Reasons by the name of the point.
    """
    reasons = {}
    for row in table.to_dict("records"):
        absent = [goal.title for goal in wanted if pd.isna(row[goal.key])]
        if absent:
            reasons[str(row["recipe"])] = str(row["missing"] or f"not measured: {', '.join(absent)}")
    return reasons
