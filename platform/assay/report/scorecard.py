"""From the long table of measurements to what is shown: recipes × evidence, comparisons, verdicts of checks."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from assay import statistics
from assay.statistics import BlockedAnova, Comparison, Summary
from assay.study.spec import Cohort, Study


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One column of the scorecard: a measurement, at one of its conditions, and how to read it."""

    key: str
    title: str
    name: str
    """Of the measurement."""
    meaning: str
    where: Mapping[str, Any] = field(default_factory=dict)
    """Conditions that must hold."""
    better: str = "higher"
    """``higher``, ``lower`` or ``neither``."""
    unit: str = "percent"
    """``percent``, ``number`` or ``seconds``."""
    least: float = 0.0
    most: float = 1.0
    """The values that are possible at all: an interval from a t distribution is cut there."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One recipe's value of one piece of evidence over all folds."""

    summary: Summary | None
    """None where nothing was measured."""
    why: str = ""
    """Why there is no value."""
    warnings: tuple[str, ...] = ()
    """What the checks said, each with the number of folds in which they said it."""
    failed: bool = False
    """Whether a check failed, or the measurement did."""


@dataclass(frozen=True, kw_only=True)
class Scorecard:
    """Everything that the page shows of one cohort."""

    cohort: str
    recipes: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    cells: Mapping[tuple[str, str], Cell]
    """By recipe and evidence key."""
    comparisons: Mapping[tuple[str, str], Comparison]
    """Against the baseline, Holm over the recipes of each piece of evidence."""
    anova: Mapping[str, BlockedAnova]
    checks: pd.DataFrame
    """recipe, rule, verdict, folds, worst figure, message."""
    reference_epsilon: float
    """The radius at which robustness enters the scorecard."""


def scorecard(study: Study, name: str, frame: pd.DataFrame) -> Scorecard:
    """The scorecard of one cohort.

    Args:
        frame: rows of the results, as the store gives them.
    """
    cohort = study.cohorts[name]
    frame = of_cohort(frame, name)
    recipes = tuple(cohort.recipes)
    epsilon = _reference_epsilon(cohort, frame)
    evidence = columns(epsilon)
    tables = {column.key: table(frame, column, recipes) for column in evidence}
    share = share_tested(study)
    cells = {
        (recipe, column.key): _cell(frame, column, recipe, tables[column.key], share)
        for recipe in recipes
        for column in evidence
    }
    comparisons: dict[tuple[str, str], Comparison] = {}
    anova = {}
    for column in evidence:
        if column.better == "neither":
            continue
        comparisons |= _comparisons(tables[column.key], column.key, study.baseline, share)
        complete = tables[column.key].dropna(axis="columns", how="all").dropna()
        if min(complete.shape) >= 2 and np.ptp(complete.to_numpy()) > 0:
            anova[column.key] = statistics.blocked_anova(complete.to_numpy())
    return Scorecard(
        cohort=name,
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


def columns(epsilon: float) -> tuple[Evidence, ...]:
    """The scorecard's columns, robustness at one radius."""
    return (
        Evidence(
            key="accuracy",
            title="Accuracy",
            name="accuracy",
            meaning="Share of test patients classified correctly.",
        ),
        Evidence(
            key="auroc",
            title="AUROC",
            name="auroc",
            unit="number",
            meaning="Chance that a diseased patient is ranked above a healthy one; 0.5 is a coin.",
        ),
        Evidence(
            key="sensitivity",
            title="Sensitivity",
            name="sensitivity",
            meaning="Share of diseased patients found, at the operating point chosen on the validation split.",
        ),
        Evidence(
            key="specificity",
            title="Specificity",
            name="specificity",
            meaning="Share of healthy patients left in peace, at the same operating point.",
        ),
        Evidence(
            key="calibration_error",
            title="Calibration error",
            name="calibration_error",
            unit="number",
            better="lower",
            meaning="Mean gap between the confidence that the model states and how often it is right.",
        ),
        Evidence(
            key="robust",
            title="Worst case" if math.isnan(epsilon) else f"Worst case, ε = {epsilon:g}",
            name="worst_case_accuracy",
            where={"epsilon": epsilon},
            meaning="Share of patients classified correctly whatever attack of this threat model is tried on them.",
        ),
        Evidence(
            key="fgsm",
            title="FGSM" if math.isnan(epsilon) else f"FGSM, ε = {epsilon:g}",
            name="robust_accuracy",
            where={"attack": "fgsm", "epsilon": epsilon},
            meaning="The same under one gradient step alone: what a weak attack flatters, and where masking shows.",
        ),
        Evidence(
            key="certified",
            title="Certified" if math.isnan(epsilon) else f"Certified, ε = {epsilon:g}",
            name="certified_accuracy",
            where={"epsilon": epsilon},
            meaning="Share of patients proven to be classified correctly within ε, whatever attack is ever invented.",
        ),
        Evidence(
            key="cw",
            title="C&W distance",
            name="carlini_wagner_median_distance",
            unit="number",
            most=math.inf,
            meaning="Median Euclidean change that flips a correct answer, in the units of the data.",
        ),
        Evidence(
            key="epsilon",
            title="ε claimed",
            name="epsilon",
            unit="number",
            better="neither",
            meaning="Differential privacy of one training record by the RDP accountant; ∞ if training is not private.",
        ),
        Evidence(
            key="epsilon_pld",
            title="ε, 2nd accountant",
            name="epsilon_pld",
            unit="number",
            better="neither",
            meaning="The same run counted independently by a privacy loss distribution; must not exceed the claim.",
        ),
        Evidence(
            key="membership",
            title="Membership TPR",
            name="membership_tpr",
            where={"false_positive_rate": 0.1},
            better="lower",
            meaning="Share of training records that an attacker recognises while wrongly accusing 10 % of the others.",
        ),
        Evidence(
            key="insertion",
            title="Fidelity gain",
            name="insertion_gain",
            where={"method": "integrated_gradients"},
            unit="number",
            least=-1.0,
            meaning="How much faster the prediction returns when features are restored in the explanation's order, not "
            "at random; 0 means that the explanation is no better than chance.",
        ),
        Evidence(
            key="seconds",
            title="Training",
            name="training_seconds",
            unit="seconds",
            better="lower",
            most=math.inf,
            meaning="Wall time of training one fold.",
        ),
    )


def table(frame: pd.DataFrame, column: Evidence, recipes: tuple[str, ...]) -> pd.DataFrame:
    """Values by (repeat, fold) × recipe; NaN where not measured."""
    rows = select(frame, column.name, **column.where)
    rows = rows[rows["status"] == "measured"]
    wide = rows.pivot_table(index=["repeat", "fold"], columns="recipe", values="value", aggfunc="mean")
    return wide.reindex(columns=list(recipes))


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


def _cell(frame: pd.DataFrame, column: Evidence, recipe: str, values: pd.DataFrame, share: float) -> Cell:
    rows = select(frame, column.name, **column.where)
    rows = rows[rows["recipe"] == recipe]
    if not len(rows):
        begun = len(frame[(frame["recipe"] == recipe) & (frame["status"] != "failed")])
        return Cell(summary=None, why="this was not asked of the model" if begun else "no trial has finished")
    missing = rows[rows["status"] != "measured"]
    said, failed = _said(frame[frame["recipe"] == recipe], rows, column)
    failed = failed or bool((missing["status"] == "failed").any())
    known = values[recipe].dropna().to_numpy()
    if not len(known):
        why = "; ".join(missing.iloc[0]["warnings"])
        return Cell(summary=None, why=why, warnings=(why,) if failed else (), failed=failed)
    if len(known) == 1:
        # One model has no spread over folds: its own interval over records stands instead.
        only = rows[rows["status"] == "measured"].iloc[0]
        summary = Summary(mean=only["value"], deviation=math.nan, low=only["low"], high=only["high"], count=1)
    else:
        summary = statistics.summarise(known, test_share=share)
    return Cell(summary=summary, warnings=said, failed=failed)


def _said(own: pd.DataFrame, rows: pd.DataFrame, column: Evidence) -> tuple[tuple[str, ...], bool]:
    """What stands beside a value: its own warnings once, and each check that did not pass with its worst figure."""
    notes = [w for warnings in rows["warnings"] for w in warnings if not w.startswith(("warn: ", "fail: "))]
    checks = _checks(_holding(own, lambda conditions: _concerns(conditions, column)))
    raised = checks[checks["verdict"] != "pass"]
    lines = [f"{check.message} [{check.raised} of {check.count} folds]" for check in raised.itertuples()]
    return (*lines, *dict.fromkeys(notes)), bool((raised["verdict"] == "fail").any())


def _concerns(conditions: Mapping[str, Any], column: Evidence) -> bool:
    """Whether a check looked at this column: of one attack or method, at that one alone."""
    asked = {key: column.where.get(key) for key in ("attack", "method")}
    return conditions.get("concerns") == column.name and all(
        conditions.get(key) in (None, wanted) for key, wanted in asked.items()
    )


def _comparisons(values: pd.DataFrame, key: str, baseline: str, share: float) -> dict[tuple[str, str], Comparison]:
    """Each recipe against the baseline on the folds that both have, with Holm's correction over the recipes."""
    if baseline not in values:
        return {}
    found: dict[str, Comparison] = {}
    for recipe in values.columns:
        pairs = values[[baseline, recipe]].dropna() if recipe != baseline else values.iloc[:0]
        if len(pairs) >= 2:
            found[recipe] = statistics.compare(pairs[recipe].to_numpy(), pairs[baseline].to_numpy(), test_share=share)
    corrected = statistics.holm([comparison.p for comparison in found.values()])
    return {
        (recipe, key): Comparison(**{**comparison.__dict__, "p_holm": p})
        for (recipe, comparison), p in zip(found.items(), corrected, strict=True)
    }


@dataclass(frozen=True, kw_only=True)
class Line:
    """One measurement at one set of conditions, for every recipe."""

    name: str
    conditions: str
    unit: str
    by_recipe: Mapping[str, Summary]


def everything(frame: pd.DataFrame, recipes: tuple[str, ...], share: float) -> list[Line]:
    """Mean, deviation and interval of whatever was measured, by recipe."""
    rows = frame[(frame["status"] == "measured") & ~frame["name"].str.startswith("check.")]
    told = rows.assign(told=[_told(conditions) for conditions in rows["conditions"]])
    lines = []
    for (name, conditions, unit), group in told.groupby(["name", "told", "unit"], sort=False):
        values = {recipe: group[group["recipe"] == recipe]["value"].to_numpy() for recipe in recipes}
        summaries = {r: statistics.summarise(v, test_share=share) for r, v in values.items() if len(v)}
        lines.append(Line(name=str(name), conditions=str(conditions), unit=str(unit), by_recipe=summaries))
    return lines


_TELLING = ("attack", "epsilon", "method", "map", "false_positive_rate", "client", "group")


def _told(conditions: Mapping[str, Any]) -> str:
    """The conditions that tell one row from another, in words."""
    return ", ".join(f"{key.replace('_', ' ')} {conditions[key]}" for key in _TELLING if key in conditions)


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
                "raised": sum(v != "pass" for v in verdicts),
                "count": len(verdicts),
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
