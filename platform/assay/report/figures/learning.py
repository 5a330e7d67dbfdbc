"""Accuracy of federated recipes by round, by second and by byte."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from assay.report.figures.curves import curve
from assay.report.figures.style import add_band, escaped, looks, panels
from assay.report.rows import measured, of_recipe
from assay.report.view import View
from assay.statistics import Summary

ACCURACY, SECONDS, BYTES = "round_accuracy", "round_elapsed_seconds", "round_sent_bytes"
"""Measurements with the condition ``round``."""
_MEGABYTE = 1e6
_APART = 20
"""Recipes whose bytes differ by more than this factor are drawn on a logarithmic scale."""

Points = Sequence[tuple[float, Summary]]


def learning(view: View) -> go.Figure | None:
    """Draws the validation accuracy of the shared network by round, by second, and by byte up and down.

    A point is the mean over runs at one round, with the band of its 95 % intervals; its seconds and bytes are means
    over the same runs.

    Args:
        view: of the cohort.

    Returns:
        The figure; None without such measurements.
    """
    card, look = view.card, looks(view.card.recipes)
    drawn = {
        recipe: points for recipe in card.recipes if (points := curve(card, view.frame, ACCURACY, recipe, by="round"))
    }
    if not drawn:
        return None
    grid = panels(["by round", "by second", "by byte"], columns=3, x="", height=330)
    for recipe, points in drawn.items():
        for place, (x, unit) in enumerate(
            (
                ([at for at, _ in points], "round %{x}"),
                (_means(view, SECONDS, recipe, points), "%{x:.3g} s"),
                ([sent / _MEGABYTE for sent in _means(view, BYTES, recipe, points)], "%{x:.3g} MB"),
            )
        ):
            add_band(
                grid.figure,
                escaped(recipe),
                look[recipe],
                [(at, summary) for at, (_, summary) in zip(x, points, strict=True)],
                hover=f"{unit}: %{{y:.1%}}",
                showlegend=place == 0,
                **grid.at(place),
            )
    for column, title in enumerate(("round", "seconds, all rounds so far", "megabytes, up and down"), start=1):
        grid.figure.update_xaxes(title=title, row=1, col=column)
    totals = [_means(view, BYTES, recipe, points)[-1] for recipe, points in drawn.items()]
    if min(totals) > 0 and max(totals) > _APART * min(totals):
        grid.figure.update_xaxes(type="log", row=1, col=3)
    grid.figure.update_yaxes(tickformat=".0%")
    grid.figure.update_yaxes(title="validation accuracy", row=1, col=1)
    return grid.figure


def _means(view: View, name: str, recipe: str, points: Points) -> list[float]:
    """Returns the mean over runs of a measurement at the round of each point."""
    rows = of_recipe(measured(view.frame, name), recipe)
    rounds = np.array([float(conditions["round"]) for conditions in rows["conditions"]])
    return [float(rows["value"].to_numpy()[rounds == at].mean()) for at, _ in points]
