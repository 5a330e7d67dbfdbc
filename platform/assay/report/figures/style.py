"""Style of all figures: colours of recipes, bands of intervals, small plots in a grid."""

import colorsys
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio
from plotly.subplots import make_subplots

from assay.statistics import Comparison, Summary

# Okabe and Ito's palette, which colour-blind readers can tell apart.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B8A800")
_MORE = (
    "#660022", "#9900FF", "#005500", "#FF22FF", "#AA1177", "#00DD00", "#220099", "#775544", "#FF0066", "#7777FF",
    "#66DDAA", "#AA0000", "#DDAAFF", "#224466", "#998866", "#6633AA", "#667700", "#DDBBAA", "#0033FF", "#886699",
    "#FF8877", "#BB55DD", "#443311", "#550066",
)  # fmt: skip
"""Colours after the palette, each as different as possible from those before it (in OKLab) and from white."""
QUIET = "#9aa7b4"
"""Colour of axes, and of lines that do not belong to a recipe."""
STRONG = "#52606d"
"""Colour of prominent lines that belong to all recipes."""
_PAGE, _LETTER = 900, 7
"""Pixels: width of the page at its narrowest on a screen, and of a letter of an axis title."""
_DASHES = ("solid", "dash", "dot", "dashdot")
_AXIS = {"gridcolor": "#e8ecf0", "linecolor": QUIET, "ticks": "outside", "zeroline": False, "automargin": True}

TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#1c2733"},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "margin": {"l": 60, "r": 20, "t": 20, "b": 50},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        "hoverlabel": {"font": {"family": "system-ui, sans-serif"}},
    }
)


@dataclass(frozen=True, kw_only=True)
class Look:
    """Colour and dash of a line."""

    colour: str
    dash: str


def looks(names: Sequence[str]) -> dict[str, Look]:
    """Returns a colour for each name, and dashes where the palette for colour-blind readers is used up.

    Args:
        names: in order.

    Returns:
        Looks by name.
    """
    return {
        name: Look(colour=_colour(i), dash=_DASHES[i // len(PALETTE) % len(_DASHES)]) for i, name in enumerate(names)
    }


def _colour(place: int) -> str:
    """Returns the colour with a number, from 0; beyond the fixed colours, hues by the golden angle."""
    known = (*PALETTE, *_MORE)
    if place < len(known):
        return known[place]
    turn = place - len(known)
    channels = colorsys.hls_to_rgb(turn * 0.61803398875 % 1, 0.3 + 0.05 * (turn % 7), 0.5 + 0.04 * (turn % 11))
    return "#" + "".join(f"{round(255 * channel):02X}" for channel in channels)


def colours(recipes: Sequence[str]) -> dict[str, str]:
    """Returns a colour for each recipe.

    Args:
        recipes: names, in order.

    Returns:
        Colours by name.
    """
    return {recipe: look.colour for recipe, look in looks(recipes).items()}


def html(figure: go.Figure, *, described: str) -> str:
    """Renders a figure as a fragment of a page that already contains plotly.

    Args:
        figure: to render.
        described: text for screen readers.

    Returns:
        HTML.
    """
    fragment = pio.to_html(
        figure, include_plotlyjs=False, full_html=False, config={"displaylogo": False, "responsive": True}
    )
    return f'<div role="img" aria-label="{described}">{fragment}</div>'


def blank(x: str, y: str) -> go.Figure:
    """Returns an empty figure in the style of the page.

    Args:
        x: title of the horizontal axis.
        y: title of the vertical axis.

    Returns:
        The figure.
    """
    figure = go.Figure(layout={"template": TEMPLATE, "height": 400})
    figure.update_xaxes(title=x)
    figure.update_yaxes(title=y)
    return figure


@dataclass(frozen=True, kw_only=True)
class Panels:
    """Small plots in a grid."""

    figure: go.Figure
    columns: int

    def at(self, place: int) -> dict[str, Any]:
        """Returns the position of a plot in the grid.

        Args:
            place: number of the plot, from 0.

        Returns:
            ``row`` and ``col`` for plotly.
        """
        return {"row": place // self.columns + 1, "col": place % self.columns + 1}


def panels(titles: Sequence[str], *, columns: int, x: str, height: int = 210, spacing: float = 0.04) -> Panels:
    """Returns an empty small plot for each title.

    The horizontal axis has a title below the last plot of each column, or of the first column only where the titles
    would overlap.

    Args:
        titles: of the plots.
        columns: of the grid, at most.
        x: title of the horizontal axis.
        height: of one row, in pixels.
        spacing: between columns, as a share of the width.

    Returns:
        The grid.
    """
    lines, columns = math.ceil(len(titles) / columns), min(columns, len(titles))
    whole = 110 + height * lines
    figure = make_subplots(
        rows=lines,
        cols=columns,
        subplot_titles=[escaped(title) for title in titles],
        shared_yaxes=spacing < 0.05,
        horizontal_spacing=spacing,
        vertical_spacing=min(0.14, 0.36 / lines),
    )
    figure.update_layout(template=TEMPLATE, height=whole, legend={"y": 1 + 70 / whole}, margin={"t": 90})
    for column in range(1, columns + 1 if len(x) * _LETTER < _PAGE / columns else 2):
        figure.update_xaxes(title=x, row=(len(titles) - column) // columns + 1, col=column)
    return Panels(figure=figure, columns=columns)


def add_band(
    figure: go.Figure,
    name: str,
    look: Look,
    points: Sequence[tuple[float, Summary]],
    *,
    hover: str,
    possible: tuple[float, float] = (0.0, 1.0),
    **about: Any,
) -> None:
    """Draws a curve with the band of its 95 % intervals.

    Args:
        figure: to draw on.
        name: of the curve.
        look: its colour and dash.
        points: x, and mean and interval of y.
        hover: text at a point, as plotly's ``hovertemplate``.
        possible: least and greatest possible y, where the band ends.
        about: settings of both traces.
    """
    if not points:
        return
    x = [at for at, _ in points]
    low = [_within(s.low, s.mean, possible) for _, s in points]
    high = [_within(s.high, s.mean, possible) for _, s in points]
    about = {"legendgroup": name, **about}
    figure.add_scatter(
        x=[*x, *x[::-1]],
        y=[*high, *low[::-1]],
        fill="toself",
        mode="lines",
        fillcolor=_faint(look.colour),
        line={"width": 0},
        hoverinfo="skip",
        **{**about, "showlegend": False},
    )
    figure.add_scatter(
        x=x,
        y=[s.mean for _, s in points],
        name=name,
        mode="lines+markers",
        line={"color": look.colour, "dash": look.dash, "width": 2.5},
        text=[f"<br>{s.count} of {s.of} runs" if s.partial else "" for _, s in points],
        hovertemplate=f"{name}<br>{hover}%{{text}}<extra></extra>",
        **about,
    )


def add_legend(figure: go.Figure, dashes: Mapping[str, str]) -> None:
    """Adds a legend of dashes, where colours have another meaning.

    Args:
        figure: to draw on.
        dashes: by meaning.
    """
    for name, dash in dashes.items():
        line = {"color": STRONG, "dash": dash, "width": 2.5}
        figure.add_scatter(x=[None], y=[None], name=name, mode="lines", line=line)


def error_bar(summaries: Sequence[Summary | Comparison]) -> dict[str, object]:
    """Returns the error bars of 95 % intervals; none where a value has no interval.

    Args:
        summaries: in the order of the points.

    Returns:
        Settings for plotly.
    """
    means = [s.mean if isinstance(s, Summary) else s.difference for s in summaries]
    known = [not math.isnan(s.low) for s in summaries]
    return {
        "type": "data",
        "symmetric": False,
        "array": [s.high - m if k else 0.0 for s, m, k in zip(summaries, means, known, strict=True)],
        "arrayminus": [m - s.low if k else 0.0 for s, m, k in zip(summaries, means, known, strict=True)],
        "visible": any(known),
        "thickness": 1.5,
        "width": 5,
    }


def escaped(text: str) -> str:
    """Escapes text where plotly interprets tags.

    Args:
        text: to escape.

    Returns:
        Escaped text.
    """
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _within(end: float, mean: float, possible: tuple[float, float]) -> float:
    """Returns an end of an interval, limited to possible values; the mean where there is no interval."""
    return mean if math.isnan(end) else min(possible[1], max(possible[0], end))


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.10)"
