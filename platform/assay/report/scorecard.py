"""From the long table of measurements to what is shown: recipes × evidence, comparisons, verdicts of checks."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from assay import statistics
from assay.report.evidence import Evidence, columns
from assay.statistics import BlockedAnova, Comparison, Design, Runs, Summary
from assay.study.spec import Cohort, Study


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
class Scorecard:
    """Everything that the page shows of one cohort."""

    cohort: str
    design: Design
    """What an interval over its trials is."""
    recipes: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    cells: Mapping[tuple[str, str], Cell]
    """By recipe and evidence key."""
    comparisons: Mapping[tuple[str, str], Comparison]
    """Against the baseline, Holm over the recipes of each piece of evidence."""
    anova: Mapping[str, BlockedAnova]
    checks: pd.DataFrame
    """recipe, rule, verdict, in how many trials it was raised and of how many, worst figure, message."""
    reference_epsilon: float
    """The radius at which robustness enters the scorecard."""


def scorecard(study: Study, name: str, frame: pd.DataFrame) -> Scorecard:
    """The scorecard of one cohort.

    Args:
        frame: rows of the results, as the store gives them.
    """
    frame = of_cohort(frame, name)
    cohort, design = study.cohorts[name], design_of(study, name, frame)
    recipes = tuple(cohort.recipes)
    epsilon = _reference_epsilon(cohort, frame)
    evidence = _asked_for(frame, epsilon)
    cells, comparisons, anova = {}, {}, {}
    own = {recipe: frame[frame["recipe"] == recipe] for recipe in recipes}
    checks = {recipe: rows[rows["name"].str.startswith("check.")] for recipe, rows in own.items()}
    for column in evidence:
        runs = {recipe: runs_of(select(own[recipe], column.name, **column.where)) for recipe in recipes}
        for recipe in recipes:
            cells[recipe, column.key] = _cell(own[recipe], checks[recipe], column, runs[recipe], design)
        if column.better == "neither":
            continue
        for recipe, comparison in _comparisons(runs, study.baseline, design).items():
            comparisons[recipe, column.key] = comparison
        complete = table(runs).dropna(axis="columns", how="all").dropna()
        if min(complete.shape) >= 2 and np.ptp(complete.to_numpy()) > 0:
            anova[column.key] = statistics.blocked_anova(complete.to_numpy())
    return Scorecard(
        cohort=name,
        design=design,
        recipes=recipes,
        evidence=evidence,
        cells=cells,
        comparisons=comparisons,
        anova=anova,
        checks=_checks(frame),
        reference_epsilon=epsilon,
    )


def of_cohort(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows that were asked for one cohort; rows that name none belong to all."""
    return frame[frame["cohort"].isin([name, ""])]


def design_of(study: Study, name: str, frame: pd.DataFrame) -> Design:
    """How the trials of a cohort relate to each other.

    Args:
        frame: rows of the cohort; while there are none, what its source is known to bring decides.
    """
    split = study.split
    known = study.cohorts[name].dataset.official_train is not None and split.official == "keep"
    if frame["official"].any() if len(frame) else known:
        return Design(folds=1, repeats=split.repeats, official=True)
    return Design(folds=split.folds, repeats=split.repeats, test_share=share_tested(study))


def runs_of(rows: pd.DataFrame) -> pd.DataFrame:
    """What was measured in each trial, with its own interval: value, low and high by (repeat, fold)."""
    found = rows[rows["status"] == "measured"].set_index(["repeat", "fold"])[["value", "low", "high"]].sort_index()
    return found.groupby(level=[0, 1]).mean() if found.index.has_duplicates else found


def table(runs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Values by (repeat, fold) × recipe; NaN where not measured."""
    return pd.DataFrame({recipe: own["value"] for recipe, own in runs.items()})


def as_runs(rows: pd.DataFrame) -> Runs:
    """The same as statistics take it: each row a run."""
    return Runs(values=rows["value"].to_numpy(), low=rows["low"].to_numpy(), high=rows["high"].to_numpy())


def select(frame: pd.DataFrame, name: str, **where: Any) -> pd.DataFrame:
    """Rows of one measurement whose conditions hold."""
    rows = frame[frame["name"] == name]
    for key, wanted in where.items():
        # A measurement that did not apply has no conditions: it answers for all of them.
        rows = _holding(rows, lambda c, key=key, wanted=wanted: key not in c or c[key] == wanted)  # type: ignore[misc]
    return rows


def _holding(frame: pd.DataFrame, rule: Callable[[Mapping[str, Any]], bool]) -> pd.DataFrame:
    """Rows whose conditions obey a rule; none of none."""
    return frame[np.array([rule(conditions) for conditions in frame["conditions"]], dtype=bool)]


def _asked_for(frame: pd.DataFrame, epsilon: float) -> tuple[Evidence, ...]:
    """The columns, without those that no trial of the cohort was asked for."""
    risk = _condition(frame, "abstention_rate", "risk", preferred=0.05)
    alpha = _condition(frame, "conformal_coverage", "alpha", preferred=0.1)
    every = columns(epsilon, risk=risk, alpha=alpha)
    return tuple(c for c in every if not c.optional or len(select(frame, c.name, **c.where)))


def _condition(frame: pd.DataFrame, name: str, key: str, *, preferred: float) -> float:
    """A setting at which something was measured: the preferred one where it was, else the smallest."""
    known = {float(c[key]) for c in frame[frame["name"] == name]["conditions"] if key in c}
    return preferred if preferred in known or not known else min(known)


def _cell(own: pd.DataFrame, checks: pd.DataFrame, column: Evidence, runs: pd.DataFrame, design: Design) -> Cell:
    """What stands at one recipe and column.

    Args:
        own: the rows of the recipe, and ``checks`` those of them that are checks.
    """
    rows = select(own, column.name, **column.where)
    if not len(rows):
        begun = (own["status"] != "failed").any()
        return Cell(summary=None, why="this was not asked of the model" if begun else "no trial has finished")
    missing = rows[rows["status"] != "measured"]
    said, failed = _said(checks, rows, column, design)
    failed = failed or bool((missing["status"] == "failed").any())
    if not len(runs):
        why = "; ".join(missing.iloc[0]["warnings"])
        return Cell(summary=None, why=why, warnings=(why,) if failed else (), failed=failed)
    fewest = int(rows[rows["status"] == "measured"]["n"].min())
    return Cell(summary=design.summarise(as_runs(runs)), warnings=said, failed=failed, records=fewest)


def _said(checks: pd.DataFrame, rows: pd.DataFrame, column: Evidence, design: Design) -> tuple[tuple[str, ...], bool]:
    """What stands beside a value: its own warnings once, and each check that did not pass with its worst figure."""
    notes = [w for warnings in rows["warnings"] for w in warnings if not w.startswith(("warn: ", "fail: "))]
    told = _checks(_holding(checks, lambda conditions: _concerns(conditions, column)))
    raised = told[told["verdict"] != "pass"]
    lines = [f"{check.message} [{check.raised} of {check.count} {design.run}s]" for check in raised.itertuples()]
    return (*lines, *dict.fromkeys(notes)), bool((raised["verdict"] == "fail").any())


def _concerns(conditions: Mapping[str, Any], column: Evidence) -> bool:
    """Whether a check looked at this column: of one attack or method, at that one alone."""
    asked = {key: column.where.get(key) for key in ("attack", "method", "corruption")}
    return conditions.get("concerns") == column.name and all(
        conditions.get(key) in (None, wanted) for key, wanted in asked.items()
    )


def _comparisons(runs: Mapping[str, pd.DataFrame], baseline: str, design: Design) -> dict[str, Comparison]:
    """Each recipe against the baseline on the runs that both have, with Holm's correction over the recipes."""
    found: dict[str, Comparison] = {}
    for recipe, own in runs.items():
        if recipe == baseline or baseline not in runs:
            continue
        pairs = own.index.intersection(runs[baseline].index)
        if len(pairs) >= 2:
            found[recipe] = design.compare(as_runs(own.loc[pairs]), as_runs(runs[baseline].loc[pairs]))
    corrected = statistics.holm([comparison.p for comparison in found.values()])
    return {
        recipe: Comparison(**{**comparison.__dict__, "p_holm": p})
        for (recipe, comparison), p in zip(found.items(), corrected, strict=True)
    }


@dataclass(frozen=True, kw_only=True)
class Line:
    """One measurement at one set of conditions, for every recipe."""

    name: str
    conditions: str
    unit: str
    records: str
    """Behind each value."""
    by_recipe: Mapping[str, Summary]


def everything(frame: pd.DataFrame, recipes: tuple[str, ...], design: Design) -> list[Line]:
    """Mean, deviation and interval of whatever was measured, by recipe."""
    rows = frame[(frame["status"] == "measured") & ~frame["name"].str.startswith("check.")]
    keys = ["name", "told", "unit"]
    told = rows.assign(told=[_told(conditions, _TELLING) for conditions in rows["conditions"]])
    # Rows of one trial must never pass for repetitions of each other: then all their conditions are told.
    twice = told.duplicated(["trial", *keys], keep=False)
    told.loc[twice, "told"] = [_told(conditions, conditions) for conditions in told.loc[twice, "conditions"]]
    found: dict[tuple[str, ...], dict[str, Summary]] = {}
    for (*line, recipe), group in told.groupby([*keys, "recipe"], sort=False):
        found.setdefault(tuple(map(str, line)), {})[str(recipe)] = design.summarise(as_runs(group))
    by_line = told.groupby(keys, sort=False)["n"]
    fewest, most = by_line.min().to_dict(), by_line.max().to_dict()
    return [
        Line(
            name=name,
            conditions=conditions,
            unit=unit,
            records=_between(fewest[name, conditions, unit], most[name, conditions, unit]),
            by_recipe={r: own[r] for r in recipes if r in own},
        )
        for (name, conditions, unit), own in found.items()
    ]


def _between(least: int, most: int) -> str:
    return f"{least}" if least == most else f"{least} – {most}"


_TELLING = (
    *("attack", "epsilon", "method", "map", "false_positive_rate", "client", "group"),
    *("corruption", "severity", "coverage", "risk", "score", "alpha", "against"),
)


def _told(conditions: Mapping[str, Any], keys: Iterable[str]) -> str:
    """The conditions that tell one row from another, in words."""
    return ", ".join(f"{key.replace('_', ' ')} {conditions[key]}" for key in keys if key in conditions)


def _checks(frame: pd.DataFrame) -> pd.DataFrame:
    rows = frame[frame["name"].str.startswith("check.")]
    found = []
    order = {"pass": 0, "warn": 1, "fail": 2}
    for (recipe, rule), group in rows.groupby(["recipe", "name"], sort=False):
        verdicts = [c["verdict"] for c in group["conditions"]]
        worst = max(range(len(group)), key=lambda i: (order[verdicts[i]], abs(group["value"].iloc[i])))
        found.append(
            {
                "recipe": recipe,
                "rule": str(rule).removeprefix("check."),
                "verdict": verdicts[worst],
                "raised": group["trial"][[v != "pass" for v in verdicts]].nunique(),
                "count": group["trial"].nunique(),
                "figure": float(group["value"].iloc[worst]),
                "message": group["warnings"].iloc[worst][0],
            }
        )
    return pd.DataFrame(found, columns=["recipe", "rule", "verdict", "raised", "count", "figure", "message"])


def _reference_epsilon(cohort: Cohort, frame: pd.DataFrame) -> float:
    """The radius named in the study file, or else the middle one of those measured: never one chosen by its result."""
    rows = frame[frame["name"] == "worst_case_accuracy"]
    radii = sorted({float(c["epsilon"]) for c in rows["conditions"]} - {0.0})
    if cohort.reference_epsilon is not None:
        return cohort.reference_epsilon
    return radii[len(radii) // 2] if radii else math.nan


def share_tested(study: Study) -> float:
    """n_test / n_train of a fold, which the corrected variance needs; 0 where nothing was trained."""
    if study.split.folds < 2:
        return 0.0
    test = 1 / study.split.folds
    trained = (1 - test) * (1 - study.split.validation - study.split.calibration)
    tested = test if study.split.tested == "test" else (1 - test) * study.split.validation
    return tested / trained
