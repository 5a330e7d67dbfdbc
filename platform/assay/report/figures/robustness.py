"""Worst-case accuracy against the radius of attacks."""

import math

import plotly.graph_objects as go

from assay.report.evidence import norm_text
from assay.report.figures.curves import curve
from assay.report.figures.style import QUIET, add_band, looks, panels
from assay.report.rows import select, settings
from assay.report.view import View


def worst_case_figure(view: View) -> go.Figure:
    """Draws worst-case accuracy against ε, mean and 95 % interval; a plot for each norm.

    Args:
        view: of the cohort.

    Returns:
        The figure.
    """
    card, frame = view.card, view.frame
    rows = select(frame, "worst_case_accuracy")
    norms = settings(rows, "norm") or [card.reference_norm]
    drawn, look = panels([""] * len(norms), columns=2, x="", height=290), looks(card.recipes)
    for place, norm in enumerate(norms):
        at = drawn.at(place)
        for recipe in card.recipes:
            points = curve(card, rows, "worst_case_accuracy", recipe, by="epsilon", norm=norm)
            hover = "ε = %{x}<br>%{y:.1%}"
            add_band(drawn.figure, recipe, look[recipe], points, hover=hover, showlegend=place == 0, **at)
        drawn.figure.update_xaxes(title=f"ε, size of the change in {norm_text(norm)} ({view.units})", **at)
        if norm == card.reference_norm and not math.isnan(card.reference_epsilon):
            drawn.figure.add_vline(x=card.reference_epsilon, line={"dash": "dot", "color": QUIET}, **at)
    drawn.figure.update_yaxes(tickformat=".0%", range=[0, 1.02])
    drawn.figure.update_yaxes(title="accuracy in the worst case", col=1)
    return drawn.figure
