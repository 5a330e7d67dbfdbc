"""Example records of a table with their maps: signed bars of the greatest features."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from assay.report.figures.explanation_scale import ShownMaps, colour_of
from assay.report.figures.style import PALETTE, TEMPLATE, escaped
from assay.report.view import View

_FEATURES = 10
"""Features that are shown for a record."""
_MARKERS = ("circle", "diamond", "square", "triangle-up", "triangle-down", "x", "cross", "star", "hexagon", "pentagon")


def bars(view: View, shown: Sequence[ShownMaps], unit: str) -> go.Figure:
    """Draws signed bars of the first method and markers of the others, of the greatest features of each record.

    Args:
        view: of the cohort.
        shown: records with the maps of each method, which share a unit.
        unit: of the values.

    Returns:
        The figure.
    """
    names = list(view.dataset.feature_names) or [f"input {k + 1}" for k in range(shown[0].maps.shape[1])]
    first = shown[0]
    count = len(first.maps)
    columns = min(2, count)
    figure = make_subplots(
        rows=-(-count // columns),
        cols=columns,
        subplot_titles=[escaped(text) for text in first.answers],
        horizontal_spacing=0.22,
        vertical_spacing=0.14,
    )
    reach = max(float(np.abs(one.maps).max()) for one in shown) * 1.05 or 1.0
    for record in range(count):
        at = {"row": record // columns + 1, "col": record % columns + 1}
        values = first.kept["records"]["values"][record]
        greatest = np.argsort(-np.abs(first.maps[record]), kind="stable")[:_FEATURES][::-1]
        lines = [escaped(f"{names[k]} = {values[k]:.4g}") for k in greatest]
        for place, one in enumerate(shown):
            _features(figure, one, one.maps[record][greatest], lines, place, at, legend=record == 0)
        figure.update_xaxes(
            range=[-reach, reach], zeroline=True, zerolinecolor="#52606d", title=unit, title_font_size=11, **at
        )
        figure.update_yaxes(tickfont={"size": 10}, **at)
    height = 130 + (90 + 19 * _FEATURES) * -(-count // columns)
    figure.update_layout(template=TEMPLATE, height=height, margin={"t": 90}, legend={"y": 1 + 40 / height})
    figure.update_annotations(font_size=12)
    return figure


def _features(  # noqa: PLR0917
    figure: go.Figure,
    one: ShownMaps,
    values: np.ndarray,
    lines: Sequence[str],
    place: int,
    at: Mapping[str, int],
    *,
    legend: bool,
) -> None:
    about: dict[str, Any] = {
        "x": values,
        "y": lines,
        "orientation": "h",
        "name": one.label,
        "legendgroup": one.label,
        "showlegend": legend,
        "hovertemplate": "%{y}: %{x:+.3f}<extra>" + one.label + "</extra>",
    }
    if place == 0:
        colours = [colour_of(0.75 if value > 0 else -0.75) for value in values]
        figure.add_bar(marker={"color": colours}, **about, **at)
    else:
        colour = PALETTE[place % len(PALETTE)]
        symbol = f"{_MARKERS[place % len(_MARKERS)]}-open"
        marker = {"color": colour, "symbol": symbol, "size": 8, "line": {"width": 1.5}}
        figure.add_scatter(mode="markers", marker=marker, **about, **at)
