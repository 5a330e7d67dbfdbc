"""Certificates of a method: their model, their radii, and the recipes without one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from assay.report.cells import ScoreTable, tabulate
from assay.report.evidence import Evidence
from assay.report.rows import measured, settings
from assay.report.scorecard import Scorecard


@dataclass(frozen=True, kw_only=True)
class Certified:
    """Facts about the certificates of one method."""

    holds_for: tuple[str, ...]
    """The models that they hold for, in words."""
    missing: Mapping[str, tuple[str, ...]]
    """Recipes without a certificate, by the reason."""
    radii: ScoreTable | None
    """Recipes × noise levels: the median radius of a certificate; None for a method without radii."""


def certified_table(card: Scorecard, frame: pd.DataFrame, method: str) -> Certified:
    """Returns facts about the certificates of one method.

    Args:
        card: of the cohort.
        frame: rows of the cohort.
        method: ``interval bounds`` or ``randomised smoothing``.

    Returns:
        The facts.
    """
    column = Evidence(key="", title="", name="certified_accuracy", where={"method": method}, meaning="")
    found, _ = tabulate([column], card.recipes, frame, card.design)
    missing: dict[str, tuple[str, ...]] = {}
    for (recipe, _), cell in found.cells.items():
        if cell.summary is None:
            missing[cell.why] = (*missing.get(cell.why, ()), recipe)
    rows = measured(frame, "certified_accuracy", method=method)
    return Certified(holds_for=tuple(settings(rows, "holds_for")), missing=missing, radii=_radii(card, frame, method))


def _radii(card: Scorecard, frame: pd.DataFrame, method: str) -> ScoreTable | None:
    about = {"method": method, "quantile": 0.5}
    rows = measured(frame, "certified_radius", **about)
    if not len(rows):
        return None
    columns = [
        Evidence(
            key=f"{sigma:g}",
            title=f"Median radius, σ = {sigma:g}",
            name="certified_radius",
            where={"sigma": sigma, **about},
            unit="number",
            most=math.inf,
            meaning="Half of all records are proven to be answered correctly within it; 0 for a wrong answer or none.",
        )
        for sigma in sorted(settings(rows, "sigma"))
    ]
    known = set(rows["recipe"])
    return tabulate(columns, [recipe for recipe in card.recipes if recipe in known], frame, card.design)[0]
