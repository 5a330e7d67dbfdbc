"""Calibration, net benefit, predictive values and subgroups."""

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from assay.registry import register
from assay.report.figures.clinical import decision_curve
from assay.report.rows import measured, of_recipe, runs_of, select, settings
from assay.report.sections.base import Content, Section
from assay.report.view import View
from assay.statistics import Summary

_SHARES = {
    "accuracy_of_subgroup": "Accuracy",
    "sensitivity_of_subgroup": "Sensitivity",
    "worst_case_accuracy_of_subgroup": "Worst case",
}


@dataclass(frozen=True, kw_only=True)
class SubgroupRow:
    """One metric of one subgroup."""

    figure: str
    attribute: str
    subgroup: str
    records: str
    """Number of records in a trial, or its range over trials."""
    summaries: dict[str, Summary | None]
    """By recipe; None where it was not measured."""


@register("section")
class ClinicalSection(Section):
    """Calibration, net benefit, predictive values and subgroups."""

    name: Literal["clinical"] = "clinical"
    title: str = "Clinical use"
    order: int = 15

    def build(self, view: View) -> Content | None:
        rows = [*subgroup_rows(view)]
        drawn = decision_curve(view)
        if drawn is None and not rows:
            return None
        prevalences = settings(measured(view.frame, "ppv"), "prevalence")
        stated = settings(measured(view.frame, "net_benefit", stated=True), "threshold")
        return Content(
            figures={"decision_curve": drawn},
            tables={"subgroups": rows, "prevalences": sorted(prevalences), "thresholds": sorted(stated)},
        )


def subgroup_rows(view: View) -> list[SubgroupRow]:
    """Returns every metric of every subgroup, with all recipes; worst cases at the radius of the scorecard.

    Args:
        view: of the cohort.

    Returns:
        The rows.
    """
    found = []
    for name, title in _SHARES.items():
        radius = {"epsilon": view.card.reference_epsilon, "norm": view.card.reference_norm}
        rows = measured(view.frame, name, **(radius if name.startswith("worst_case") else {}))
        for attribute in settings(rows, "attribute"):
            for subgroup in settings(select(rows, name, attribute=attribute), "subgroup"):
                own = select(rows, name, attribute=attribute, subgroup=subgroup)
                found.append(_row(view, title, str(attribute), str(subgroup), own))
    return found


def _row(view: View, title: str, attribute: str, subgroup: str, rows: pd.DataFrame) -> SubgroupRow:
    least, most = int(rows["n"].min()), int(rows["n"].max())
    summaries = {}
    for recipe in view.card.recipes:
        runs = runs_of(of_recipe(rows, recipe))
        summaries[recipe] = view.card.design.summarise(runs.runs) if len(runs) else None
    records = f"{least}" if least == most else f"{least} – {most}"
    return SubgroupRow(figure=title, attribute=attribute, subgroup=subgroup, records=records, summaries=summaries)
