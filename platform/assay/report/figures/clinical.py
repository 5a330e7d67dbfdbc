"""The decision curve: net benefit against the threshold of treatment."""

import math

import plotly.graph_objects as go

from assay.report.figures.curves import curve
from assay.report.figures.style import QUIET, add_band, blank, looks
from assay.report.rows import measured, settings
from assay.report.view import View

_LEAST = -0.1
"""Lower end of the axis: a model with less net benefit is not useful."""


def decision_curve(view: View) -> go.Figure | None:
    """Draws the net benefit of each recipe by threshold, with those of treating all and treating none.

    Args:
        view: of the cohort.

    Returns:
        The figure; None where it was not measured.
    """
    card, rows = view.card, measured(view.frame, "net_benefit")
    if not len(rows):
        return None
    figure = blank("risk from which on a patient would be treated", "net benefit")
    look = looks(card.recipes)
    highest = 0.0
    for recipe in card.recipes:
        points = curve(card, rows, "net_benefit", recipe, by="threshold")
        highest = max([highest, *(summary.mean for _, summary in points)])
        hover = "threshold %{x:.0%}<br>net benefit %{y:.3f}"
        add_band(figure, recipe, look[recipe], points, hover=hover, possible=(-math.inf, 1.0))
    everyone = measured(view.frame, "net_benefit_treat_all")
    # The same of all recipes but for their folds: it depends on the records alone.
    of_all = curve(card, everyone, "net_benefit_treat_all", next(iter(card.recipes)), by="threshold")
    figure.add_scatter(
        x=[threshold for threshold, _ in of_all],
        y=[summary.mean for _, summary in of_all],
        mode="lines",
        name="treat all",
        line={"dash": "dash", "color": QUIET},
        hovertemplate="treat all<br>threshold %{x:.0%}<br>net benefit %{y:.3f}<extra></extra>",
    )
    figure.add_hline(y=0, line={"dash": "dot", "color": QUIET}, annotation_text="treat none")
    for threshold in settings(measured(view.frame, "net_benefit", stated=True), "threshold"):
        figure.add_vline(x=threshold, line={"dash": "dot", "color": QUIET, "width": 1})
    figure.update_xaxes(tickformat=".0%", range=[0, 1])
    figure.update_yaxes(range=[_LEAST, highest * 1.1 + 0.02])
    return figure
