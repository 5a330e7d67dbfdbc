"""Faithfulness of explanations."""

import plotly.graph_objects as go

from assay.report.cells import runs_text
from assay.report.figures.curves import summary
from assay.report.figures.style import blank
from assay.report.view import View


def faithfulness(view: View) -> go.Figure:
    """Draws the gain of each kind of explanation over a random order; 0 means no information.

    Args:
        view: of the cohort.

    Returns:
        The figure.
    """
    card, frame = view.card, view.frame
    figure = blank("", "gain over a random order")
    for method, name, shade in (
        ("integrated_gradients", "integrated gradients", "#1f4a6e"),
        ("deep_shap", "SHAP", "#7d92a6"),
        ("attention", "attention", "#b4c2ce"),
    ):
        found = [summary(card, frame, "insertion_gain", recipe, method=method) for recipe in card.recipes]
        if any(one is not None for one in found):
            figure.add_bar(
                x=list(card.recipes),
                y=[None if one is None else one.mean for one in found],
                name=name,
                marker_color=shade,
                text=["" if one is None else runs_text(one, card.design) for one in found],
                hovertemplate="%{y:.3f}<br>%{text}<extra>" + name + "</extra>",
            )
    figure.update_layout(barmode="group", bargap=0.35)
    return figure
