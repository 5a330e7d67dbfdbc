"""Records of each class at each client, as they were dealt for training."""

import plotly.graph_objects as go

from assay.report.figures.style import escaped, looks, panels
from assay.report.tables.clients import ClassCounts, class_counts
from assay.report.view import View

_HEIGHT = 260
"""Pixels of one plot."""
_NAMED = 2
"""Greatest number of recipes that a title names."""


def partition(view: View) -> go.Figure | None:
    """Draws how many training records of each class each client has, with how much clients differ.

    Recipes with the same partition share a plot. It shows the first run.

    Args:
        view: of the cohort.

    Returns:
        The figure; None without federated recipes whose clients were counted.
    """
    drawn: dict[tuple[object, ...], ClassCounts] = {}
    names: dict[tuple[object, ...], list[str]] = {}
    for recipe in view.card.recipes:
        counts = class_counts(view.frame, recipe)
        if counts is not None:
            key = (counts.clients, counts.classes, counts.counts.tobytes())
            drawn.setdefault(key, counts)
            names.setdefault(key, []).append(recipe)
    if not drawn:
        return None
    titles = [f"{_listed(names[key])}: {_difference(counts)}" for key, counts in drawn.items()]
    grid = panels(titles, columns=1, x="client", height=_HEIGHT, spacing=0.1)
    classes = list(dict.fromkeys(name for counts in drawn.values() for name in counts.classes))
    look = looks(classes)
    shown: set[str] = set()
    for place, counts in enumerate(drawn.values()):
        for column, name in enumerate(counts.classes):
            grid.figure.add_bar(
                x=[escaped(client) for client in counts.clients],
                y=counts.counts[:, column],
                name=escaped(name),
                legendgroup=name,
                showlegend=name not in shown,
                marker={"color": look[name].colour},
                hovertemplate=f"client %{{x}}<br>{escaped(name)}: %{{y:,}} records<extra></extra>",
                **grid.at(place),
            )
            shown.add(name)
    grid.figure.update_layout(barmode="stack")
    grid.figure.update_xaxes(type="category")
    grid.figure.update_yaxes(title="training records")
    return grid.figure


def _listed(recipes: list[str]) -> str:
    """Names recipes in a title, which has room for a few."""
    return ", ".join(recipes) if len(recipes) <= _NAMED else f"{recipes[0]} and {len(recipes) - 1} more"


def _difference(counts: ClassCounts) -> str:
    """Describes how much the labels of clients differ, beside what chance alone gives."""
    return (
        f"Hellinger distance from all clients {counts.mean:.2f} on average, {counts.worst:.2f} at most "
        f"({counts.by_chance:.2f} by chance)"
    )
