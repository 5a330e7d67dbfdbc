"""Duration of federated trainings on named networks, as computation and communication."""

import plotly.graph_objects as go

from assay.federated.network import NETWORKS
from assay.report.figures.style import STRONG, colours, escaped, panels
from assay.report.rows import measured, of_recipe
from assay.report.view import View

COMPUTE, COMMUNICATION = "network_compute_seconds", "network_communication_seconds"
"""Measurements with the condition ``network``, one of ``assay.federated.network.NETWORKS``."""


def network_time(view: View) -> go.Figure | None:
    """Draws how long each federated recipe takes on each network: computation, and on top what the network adds.

    Each network has a scale of its own. Above a bar stands what the network adds to the computation.

    Args:
        view: of the cohort.

    Returns:
        The figure; None without such measurements.
    """
    card = view.card
    rows = {name: measured(view.frame, name) for name in (COMPUTE, COMMUNICATION)}
    recipes = [r for r in card.recipes if all(len(of_recipe(of_all, r)) for of_all in rows.values())]
    if not recipes:
        return None
    grid = panels([network.title for network in NETWORKS.values()], columns=3, x="", height=300, spacing=0.08)
    for place, network in enumerate(NETWORKS):
        for recipe in recipes:
            compute, communication = (_mean(view, name, recipe, network) for name in (COMPUTE, COMMUNICATION))
            about = {"x": [escaped(recipe)], "showlegend": False, **grid.at(place)}
            colour = colours(card.recipes)[recipe]
            grid.figure.add_bar(
                y=[compute],
                marker_color=colour,
                hovertemplate=f"{escaped(recipe)}<br>computation %{{y:.3g}} s<extra></extra>",
                **about,
            )
            grid.figure.add_bar(
                y=[communication],
                marker={"color": "white", "line": {"color": colour, "width": 1.5}, "pattern": _striped(colour)},
                text=[f"+{communication / compute:.0%}" if compute > 0 else ""],
                textposition="outside",
                cliponaxis=False,
                hovertemplate=f"{escaped(recipe)}<br>communication %{{y:.3g}} s<extra></extra>",
                **about,
            )
    _add_legend(grid.figure)
    grid.figure.update_layout(barmode="stack", legend_traceorder="normal")
    grid.figure.update_yaxes(rangemode="tozero")
    grid.figure.update_yaxes(title="seconds", row=1, col=1)
    return grid.figure


def _mean(view: View, name: str, recipe: str, network: str) -> float:
    return float(of_recipe(measured(view.frame, name, network=network), recipe)["value"].mean())


def _striped(colour: str) -> dict[str, object]:
    return {"shape": "/", "fgcolor": colour, "size": 6}


def _add_legend(figure: go.Figure) -> None:
    """Adds a legend of fillings, since colours are those of recipes."""
    for name, marker in {
        "computation": {"color": STRONG},
        "communication": {"color": "white", "line": {"color": STRONG, "width": 1.5}, "pattern": _striped(STRONG)},
    }.items():
        figure.add_bar(x=[None], y=[None], name=name, marker=marker)
