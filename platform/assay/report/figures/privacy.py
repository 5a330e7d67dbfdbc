"""What privacy costs."""

import math
from dataclasses import replace

import plotly.graph_objects as go

from assay.report.figures.style import blank, colours, error_bar
from assay.report.scorecard import Scorecard


def privacy(card: Scorecard) -> go.Figure:
    """Accuracy against ε; what is not private stands at the right edge, at ∞."""
    figure = blank("ε claimed (smaller is more private)", "accuracy")
    spent = {r: card.cells[r, "epsilon"].summary for r in card.recipes}
    known = [s.mean for s in spent.values() if s is not None]
    edge = 10 ** (math.ceil(math.log10(max(known, default=1.0)) + 1e-9) + 1)
    for recipe in card.recipes:
        accuracy, epsilon = card.cells[recipe, "accuracy"].summary, spent[recipe]
        if accuracy is None:
            continue
        shown = "∞" if epsilon is None else f"{epsilon.mean:.3g}"
        figure.add_scatter(
            x=[edge if epsilon is None else epsilon.mean],
            y=[accuracy.mean],
            name=recipe,
            mode="markers",
            marker={
                "size": 13,
                "color": colours(card.recipes)[recipe],
                "symbol": "circle-open" if epsilon is None else "circle",
                "line": {"width": 2.5},
            },
            error_y=error_bar([replace(accuracy, low=max(accuracy.low, 0.0), high=min(accuracy.high, 1.0))]),
            hovertemplate=f"{recipe}<br>ε = {shown}<br>%{{y:.1%}}<extra></extra>",
        )
    ticks = [10.0**k for k in range(-1, int(math.log10(edge)))]
    figure.update_xaxes(
        type="log",
        tickvals=[*ticks, edge],
        ticktext=[*(f"{t:g}" for t in ticks), "∞"],
        range=[math.log10(min([*known, 1.0])) - 0.4, math.log10(edge) + 0.3],
    )
    figure.update_yaxes(tickformat=".0%")
    return figure
