"""Cost of each budget in accuracy, the unit of each ε, and audits without correction."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from assay import statistics
from assay.report.designs import budgets
from assay.report.rows import RunValues, measured, of_cohort, of_recipe, runs_of, settings, shared
from assay.report.scorecard import Scorecard
from assay.statistics import Comparison, Summary
from assay.study.spec import Cohort, Study


@dataclass(frozen=True, kw_only=True)
class BudgetRow:
    """One budget."""

    recipe: str
    epsilon: Summary | None
    unit: str
    """Unit of ε: ``patient`` or ``record``; empty where it was not claimed."""
    accuracy: Summary
    comparison: Comparison | None
    """With the best training without privacy, on the folds and seeds that both have; Holm over the budgets."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """All budgets of a cohort."""

    plain: str
    """The most accurate training without privacy on these data: its recipe and model, and its cohort if another."""
    elsewhere: bool
    """Whether it belongs to another cohort of the study."""
    accuracy: Summary
    costs: Sequence[BudgetRow]


def costs(card: Scorecard, study: Study, frame: pd.DataFrame) -> Costs | None:
    """Compares each budget of a cohort with the best training without privacy.

    The best training on the test records is partly best by chance, so a cost is rather overstated than understated.

    Args:
        card: of the cohort.
        study: with its cohorts.
        frame: rows of all cohorts.

    Returns:
        The costs; None without several budgets, or without a training to compare with.
    """
    names = [name for line in budgets(study.cohorts[card.cohort].recipes) for name in line]
    recipes = [name for name in names if study.cohorts[card.cohort].recipes[name].privacy is not None]
    found = {place: runs for place, runs in _plain(study, card.cohort, frame).items() if len(runs)}
    if not recipes or not found:
        return None
    where, recipe = max(found, key=lambda place: float(found[place].runs.values.mean()))
    best, elsewhere = found[where, recipe], where != card.cohort
    own = measured(of_cohort(frame, card.cohort), "accuracy")
    compared = {name: _compared(runs_of(of_recipe(own, name)), best, card) for name in recipes}
    tested = [name for name, one in compared.items() if one is not None]
    corrected = statistics.holm([one.p for one in compared.values() if one is not None])
    p_holm = dict(zip(tested, corrected, strict=True))
    protects = units(of_cohort(frame, card.cohort), card.recipes)
    return Costs(
        plain=f"{recipe} ({_model(study.cohorts[where])}{f', {where}' if elsewhere else ''})",
        elsewhere=elsewhere,
        accuracy=card.design.summarise(best.runs),
        costs=[
            BudgetRow(
                recipe=name,
                epsilon=card.cells[name, "epsilon"].summary,
                unit=protects.get(name, ""),
                accuracy=accuracy,
                comparison=None if (one := compared[name]) is None else replace(one, p_holm=p_holm[name]),
            )
            for name in recipes
            if (accuracy := card.cells[name, "accuracy"].summary) is not None
        ],
    )


def units(frame: pd.DataFrame, recipes: Sequence[str]) -> dict[str, str]:
    """Returns the unit of the ε of each private recipe: a ``patient`` or a ``record``.

    Args:
        frame: rows of one cohort.
        recipes: names.

    Returns:
        Units by recipe.
    """
    claimed = measured(frame, "epsilon")
    found = {recipe: settings(of_recipe(claimed, recipe), "unit") for recipe in recipes}
    return {recipe: " or ".join(sorted(own)) for recipe, own in found.items() if own}


def units_text(frame: pd.DataFrame, recipes: Sequence[str]) -> str:
    """Describes the units in a phrase, such as "one patient with all of their records"; names recipes if they differ.

    Args:
        frame: rows of one cohort.
        recipes: names.

    Returns:
        A text.
    """
    found = units(frame, recipes)
    words = {"patient": "one patient with all of their records", "record": "one record"}
    by_unit = {unit: [recipe for recipe in found if found[recipe] == unit] for unit in dict.fromkeys(found.values())}
    if len(by_unit) < 2:
        return words.get(next(iter(by_unit), "record"), words["record"])
    return ", or ".join(f"{words.get(unit, unit)} ({', '.join(own)})" for unit, own in by_unit.items())


def uncorrected(card: Scorecard, frame: pd.DataFrame) -> str:
    """Describes audits of a cohort whose bounds are corrected for fewer audits than there are.

    Args:
        card: of the cohort.
        frame: rows of all cohorts.

    Returns:
        A text; empty where all are corrected, or where there are none.
    """
    rows = measured(frame, "epsilon_audited")
    least = min(settings(of_cohort(rows, card.cohort), "audits"), default=len(rows))
    if least >= len(rows):
        return ""
    return (
        f"{len(rows)} audits were measured, and a bound here is corrected for {least}: each may hold by itself, but "
        f"the highest of them is not as sure as it says; audit again with audits: {len(rows)}"
    )


def _plain(study: Study, cohort: str, frame: pd.DataFrame) -> dict[tuple[str, str], RunValues]:
    """Accuracy of ordinary training on the same records, by cohort and recipe."""
    asked = study.cohorts[cohort]
    found = {}
    for name, other in study.cohorts.items():
        if (other.dataset, other.records) != (asked.dataset, asked.records):
            continue
        rows = measured(of_cohort(frame, name), "accuracy")
        for recipe, said in other.recipes.items():
            ordinary = said.privacy is None and said.federation is None and said.objective.name == "standard"
            if ordinary and not any(treatment.treats for treatment in said.data):
                found[name, recipe] = runs_of(of_recipe(rows, recipe))
    return found


def _compared(own: RunValues, best: RunValues, card: Scorecard) -> Comparison | None:
    places = shared((own, best))
    return card.design.compare(own.at(places), best.at(places)) if len(places) > 1 else None


def _model(cohort: Cohort) -> str:
    """Returns the name of the model and the widths of its layers."""
    about = cohort.model.model_dump()
    widths = about.get("channels") or about.get("hidden")
    return cohort.model.name + (f" {' '.join(map(str, widths))}" if isinstance(widths, tuple | list) else "")
