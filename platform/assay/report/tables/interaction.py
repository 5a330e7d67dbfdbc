"""Interaction of adversarial and private training: whether their effects are additive."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from assay import statistics
from assay.report.cells import ScoreTable, tabulate
from assay.report.designs import FactorialDesign, factorial_designs
from assay.report.evidence import Evidence
from assay.report.rows import RunValues, measured, settings, shared
from assay.report.scorecard import Scorecard
from assay.report.words import shown
from assay.statistics import Comparison
from assay.study.spec import Study


@dataclass(frozen=True, kw_only=True)
class InteractionTest:
    """The test of an interaction in one metric, and the effects on the runs that all four recipes have."""

    comparison: Comparison
    """Effect of both minus the sum of the single effects; Holm's correction over the metrics of the design."""
    adversarial: float
    """Effect of adversarial training alone, mean over runs."""
    private: float
    both: float
    reading: str
    """The result in plain words."""


@dataclass(frozen=True, kw_only=True)
class Interaction:
    """One factorial design."""

    design: FactorialDesign
    table: ScoreTable
    tests: Mapping[str, InteractionTest]
    """By the key of the column, where all four recipes have two runs in common."""
    retuned: bool
    """Whether the private recipes also have other settings of training, which are then part of the factor."""


def interactions(card: Scorecard, study: Study, frame: pd.DataFrame) -> list[Interaction]:
    """Returns every factorial design of a cohort that was measured.

    Args:
        card: of the cohort.
        study: with the recipes.
        frame: rows of the cohort.

    Returns:
        The designs.
    """
    recipes = study.cohorts[card.cohort].recipes
    columns = _columns(card, frame)
    found = []
    for design in factorial_designs(recipes):
        table, runs = tabulate(columns, design.recipes, frame, card.design)
        if all(cell.summary is None for cell in table.cells.values()):
            continue
        retuned = recipes[design.neither].training != recipes[design.private].training
        tests = _tests(design, columns, runs, card)
        found.append(Interaction(design=design, table=table, tests=tests, retuned=retuned))
    return found


def _columns(card: Scorecard, frame: pd.DataFrame) -> tuple[Evidence, ...]:
    """Returns the columns of utility, attack, leakage and explanations, and the areas of membership attacks.

    The true-positive rate at a low false-positive rate is what matters; the area can be measured more precisely.
    """
    kept = [c for c in card.evidence if c.key in ("accuracy", "robust", "membership", "lira", "faithfulness")]
    areas = {"membership": "Membership AUC", "lira": "LiRA AUC"}
    modes = sorted(settings(measured(frame, "lira_auc"), "mode"), reverse=True)  # online first, as in the scorecard
    leaks = [
        Evidence(
            key=f"{name} area",
            title=title,
            name=f"{name}_auc",
            where={"mode": modes[0]} if name == "lira" else {},
            better="lower",
            unit="number",
            meaning="How well the attack separates training records from others; 0.5 is chance.",
        )
        for name, title in areas.items()
        if len(measured(frame, f"{name}_auc"))
    ]
    return (*kept, *leaks)


def _tests(
    design: FactorialDesign, columns: tuple[Evidence, ...], runs: Mapping[tuple[str, str], RunValues], card: Scorecard
) -> dict[str, InteractionTest]:
    found = {}
    for column in columns:
        four = [runs[recipe, column.key] for recipe in design.recipes]
        places = shared(four)
        if len(places) < 2:
            continue
        own = [one.at(places) for one in four]
        means = [float(one.values.mean()) for one in own]
        found[column.key] = (column, card.design.interaction(*own), [mean - means[0] for mean in means[1:]])
    corrected = statistics.holm([comparison.p for _, comparison, _ in found.values()])
    tests = {}
    for (key, (column, comparison, changes)), p in zip(found.items(), corrected, strict=True):
        judged = replace(comparison, p_holm=p)
        adversarial, private, both = changes
        tests[key] = InteractionTest(
            comparison=judged,
            adversarial=adversarial,
            private=private,
            both=both,
            reading=_reading(column, judged, adversarial, private, both),
        )
    return tests


def _reading(column: Evidence, found: Comparison, adversarial: float, private: float, both: float) -> str:
    """Describes the result of a test without statistical terms."""
    effects = (
        f"Alone, adversarial training changes it by {_signed(adversarial, column)} and privacy by "
        f"{_signed(private, column)}; together they change it by {_signed(both, column)}, where the sum would be "
        f"{_signed(adversarial + private, column)}."
    )
    if found.verdict == "inconclusive":
        least = "" if math.isnan(found.detectable) else f": only {_size(found.detectable, column)} or more would show"
        return f"{effects} Whether they influence each other is not shown{least}."
    good = (found.difference > 0) == (column.better == "higher")
    return f"{effects} Together they are {'better' if good else 'worse'} than the sum of their effects."


def _signed(change: float, column: Evidence) -> str:
    return f"{100 * change:+.1f} points" if column.unit == "percent" else f"{change:+.3f}"


def _size(value: float, column: Evidence) -> str:
    return f"{100 * value:.1f} points" if column.unit == "percent" else shown(value, column.unit)
