"""Accuracy of each client with and without federation."""

import plotly.graph_objects as go

from assay.report.figures.style import QUIET, blank, colours
from assay.report.rows import measured, of_recipe
from assay.report.view import View

_ARRANGEMENTS = {
    "each client alone<br>(all test records)": ("local_only_accuracy", "client", ""),
    "federated<br>(each client's records)": ("client_accuracy", "client", "federated"),
    "personal<br>(each client's records)": ("client_accuracy", "client", "personal"),
    "federated<br>(all test records)": ("accuracy", "", ""),
    "all data in one place<br>(all test records)": ("centralised_accuracy", "", ""),
}
"""Measurement, condition that names a point, and arrangement, by the label below the box."""


def clients(view: View) -> go.Figure | None:
    """Draws the accuracy at each client, compared with local-only and centralised training.

    Args:
        view: of the cohort.

    Returns:
        The figure; None without federated recipes.
    """
    card, frame = view.card, view.frame
    federated = [r for r in card.recipes if len(of_recipe(measured(frame, "client_accuracy"), r))]
    if not federated:
        return None
    figure = blank("", "accuracy")
    for recipe in federated:
        colour = colours(card.recipes)[recipe]
        for place, (name, by, arrangement) in _ARRANGEMENTS.items():
            rows = of_recipe(measured(frame, name), recipe)
            if arrangement:
                rows = rows[[c.get("arrangement", "federated") == arrangement for c in rows["conditions"]]]
            if not len(rows):
                continue
            runs = rows["repeat" if card.design.official else "fold"]
            keys = [c.get(by, "") for c in rows["conditions"]] if by else runs.tolist()
            means = rows.assign(key=keys).groupby("key")["value"].mean()
            label = "client" if by else card.design.run
            figure.add_box(
                y=means,
                x=[place] * len(means),
                boxpoints="all",
                jitter=0.5,
                pointpos=0,
                name=recipe,
                showlegend=False,
                marker={"color": colour, "size": 7, "opacity": 0.75},
                line={"color": QUIET, "width": 1},
                fillcolor="rgba(0,0,0,0)",
                text=[f"{label} {key if by else key + 1}" for key in means.index],
                hovertemplate="%{text}<br>%{y:.1%}<extra></extra>",
            )
    drawn = {box.x[0] for box in figure.data}
    figure.update_xaxes(categoryorder="array", categoryarray=[place for place in _ARRANGEMENTS if place in drawn])
    figure.update_yaxes(tickformat=".0%")
    return figure
