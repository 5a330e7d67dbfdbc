"""Means and intervals over the runs of a recipe, for figures."""

import numpy as np
import pandas as pd

from assay.report.rows import measured, of_recipe, runs_of
from assay.report.scorecard import Scorecard
from assay.statistics import Summary


def curve(
    card: Scorecard, frame: pd.DataFrame, name: str, recipe: str, *, by: str, **where: object
) -> list[tuple[float, Summary]]:
    """Returns mean and interval of a measurement at each value of a condition, in ascending order.

    Args:
        card: of the cohort.
        frame: rows of the cohort.
        name: of the measurement.
        recipe: its name.
        by: the condition.
        where: other conditions.

    Returns:
        Pairs of the value of the condition and the summary.
    """
    rows = of_recipe(measured(frame, name, **where), recipe)
    places = np.array([float(c[by]) for c in rows["conditions"]])
    return [(float(p), card.design.summarise(runs_of(rows[places == p]).runs)) for p in np.unique(places)]


def summary(card: Scorecard, frame: pd.DataFrame, name: str, recipe: str, **where: object) -> Summary | None:
    """Returns mean and interval of a measurement over all runs.

    Args:
        card: of the cohort.
        frame: rows of the cohort.
        name: of the measurement.
        recipe: its name.
        where: conditions.

    Returns:
        The summary; None where nothing was measured.
    """
    values = runs_of(of_recipe(measured(frame, name, **where), recipe))
    return card.design.summarise(values.runs) if len(values) else None
