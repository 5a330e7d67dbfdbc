"""Whether explanations tell the truth about the model."""

import pandas as pd
import plotly.graph_objects as go

from assay.report.figures.curves import mean
from assay.report.figures.style import blank
from assay.report.scorecard import Scorecard


def faithfulness(card: Scorecard, frame: pd.DataFrame) -> go.Figure:
    """What each kind of explanation gains over a random order, and 0 where it tells nothing."""
    figure = blank("", "insertion area above a random order")
    for method, name, shade in (
        ("integrated_gradients", "integrated gradients", "#1f4a6e"),
        ("shap", "SHAP", "#7d92a6"),
        ("attention", "attention", "#b4c2ce"),
    ):
        values = [mean(frame, "insertion_gain", recipe, method=method) for recipe in card.recipes]
        if any(value is not None for value in values):
            figure.add_bar(
                x=list(card.recipes),
                y=values,
                name=name,
                marker_color=shade,
                hovertemplate="%{y:.3f}<extra>" + name + "</extra>",
            )
    figure.update_layout(barmode="group", bargap=0.35)
    return figure
