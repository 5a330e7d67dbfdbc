"""Means and intervals of the runs of a recipe, as figures draw them."""

import numpy as np
import pandas as pd

from assay.report.rows import as_runs, measured, of_recipe
from assay.report.scorecard import Scorecard
from assay.statistics import Summary


def curve(
    card: Scorecard, frame: pd.DataFrame, name: str, recipe: str, *, by: str, **where: object
) -> list[tuple[float, Summary]]:
    """Mean and interval of a measurement at each value of the condition ``by``, in order."""
    rows = of_recipe(measured(frame, name, **where), recipe)
    places, known = np.array([float(c[by]) for c in rows["conditions"]]), rows[["value", "low", "high"]]
    return [(float(p), card.design.summarise(as_runs(known[places == p]))) for p in np.unique(places)]


def mean(frame: pd.DataFrame, name: str, recipe: str, **where: object) -> float | None:
    """Mean over all runs, None where nothing was measured."""
    values = of_recipe(measured(frame, name, **where), recipe)["value"]
    return float(values.mean()) if len(values) else None
