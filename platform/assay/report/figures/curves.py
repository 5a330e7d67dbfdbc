"""Means and intervals of the runs of a recipe, as figures draw them."""

import numpy as np
import pandas as pd

from assay.report.rows import measured, of_recipe, runs_of
from assay.report.scorecard import Scorecard
from assay.statistics import Summary


def curve(
    card: Scorecard, frame: pd.DataFrame, name: str, recipe: str, *, by: str, **where: object
) -> list[tuple[float, Summary]]:
    """Mean and interval of a measurement at each value of the condition ``by``, in order."""
    rows = of_recipe(measured(frame, name, **where), recipe)
    places = np.array([float(c[by]) for c in rows["conditions"]])
    return [(float(p), card.design.summarise(runs_of(rows[places == p]).runs)) for p in np.unique(places)]


def summary(card: Scorecard, frame: pd.DataFrame, name: str, recipe: str, **where: object) -> Summary | None:
    """Mean and interval over all runs, None where nothing was measured."""
    found = runs_of(of_recipe(measured(frame, name, **where), recipe))
    return card.design.summarise(found.runs) if len(found) else None
