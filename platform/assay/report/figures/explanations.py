"""Faithfulness of explanations: places between controls and the oracle, areas, and replacements."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from assay.report.cells import runs_text
from assay.report.explained import (
    PANEL,
    MapMethod,
    map_methods,
    recipe_to_show,
    titles_of_controls,
    titles_of_replacements,
)
from assay.report.figures.style import PALETTE, STRONG, blank, colours, error_bar, looks
from assay.report.rows import measured, of_recipe, runs_of, settings
from assay.report.view import View
from assay.statistics import Summary

_ALPHA = 0.05
_SYMBOLS = (
    "diamond-open",
    "square-open",
    "triangle-up-open",
    "x-thin-open",
    "cross-thin-open",
    "star-open",
    "pentagon-open",
)
_ENDPOINT = "area_between"


def faithfulness(view: View) -> go.Figure | None:
    """Draws the place of each method's maps between the strongest control (0) and the best known order (1).

    Args:
        view: of the cohort.

    Returns:
        The figure; None where nothing was measured.
    """
    methods, colour = map_methods(view.frame), colours(view.card.recipes)
    figure = blank("place between the strongest control (0) and the best order that is known (1)", "")
    shown: list[str] = []
    for recipe in view.card.recipes:
        found = [(one, one.summary(view, "faithfulness", recipe)) for one in methods]
        known = [(one, summary) for one, summary in found if summary is not None]
        if not known:
            continue
        shown += [one.title for one, _ in known if one.title not in shown]
        figure.add_scatter(
            x=[summary.mean for _, summary in known],
            y=[one.title for one, _ in known],
            error_x=error_bar([summary for _, summary in known]),
            mode="markers",
            orientation="h",
            name=recipe,
            marker={"color": colour[recipe], "size": 9},
            text=[_verdicts(view, one, recipe, summary) for one, summary in known],
            hovertemplate="%{y}<br>%{x:.2f}<br>%{text}<extra>" + recipe + "</extra>",
        )
    if not figure.data:
        return None
    # The names stand on the outer sides of their lines: with wide intervals the lines are close to each other.
    for at, name, side in ((0.0, "strongest control", "left"), (1.0, "best known order", "right")):
        line = {"color": STRONG, "dash": "dot"}
        figure.add_vline(x=at, line=line, annotation_text=name, annotation_position=f"top {side}")
    lines = [one.title for one in methods if one.title in shown]
    # Upside down, so that the recipes of a method stand in the order of the legend.
    figure.update_yaxes(categoryorder="array", categoryarray=lines, autorange="reversed")
    height = len(lines) * max(26, 15 * len(figure.data))
    figure.update_layout(
        scattermode="group",
        scattergap=0.3,
        height=170 + height,
        margin={"t": 70},
        legend={"y": 1 + 40 / (50 + height), "title": {"text": ""}},
    )
    return figure


def areas(view: View) -> go.Figure | None:
    """Draws the areas of maps beside those of their controls and of the best known order, of one recipe.

    Args:
        view: of the cohort.

    Returns:
        The figure; None where nothing was measured.
    """
    recipe = recipe_to_show(view)
    known = [] if recipe is None else _known(view, map_methods(view.frame), _ENDPOINT, recipe, replacement=PANEL)
    if recipe is None or not known:
        return None
    figure = blank("insertion minus deletion, share of the change of the log-odds", "")
    methods = [one for one, _ in known]
    titles = titles_of_controls()
    names = sorted(settings(of_recipe(measured(view.frame, "control_area"), recipe), "control"))
    for place, name in enumerate(names):
        of_control = _known(view, methods, "control_area", recipe, control=name)
        figure.add_scatter(
            x=[summary.mean for _, summary in of_control],
            y=[one.title for one, _ in of_control],
            mode="markers",
            name=titles.get(name, name),
            marker={
                "symbol": _SYMBOLS[place % len(_SYMBOLS)],
                "size": 9,
                "color": PALETTE[1 + place % (len(PALETTE) - 1)],
                "line": {"width": 2},
            },
            hovertemplate="%{y}<br>%{x:.3f}<extra>" + titles.get(name, name) + "</extra>",
        )
    figure.add_scatter(
        x=[summary.mean for _, summary in known],
        y=[one.title for one, _ in known],
        error_x=error_bar([summary for _, summary in known]),
        mode="markers",
        name="map of the method",
        marker={"color": PALETTE[0], "size": 11},
        hovertemplate="%{y}<br>%{x:.3f}<extra>map of the method</extra>",
    )
    best = runs_of(of_recipe(measured(view.frame, "oracle_area"), recipe))
    if len(best):
        at = view.card.design.summarise(best.runs).mean
        about: dict[str, Any] = {"annotation_text": "best order found by search", "annotation_position": "top"}
        figure.add_vline(x=at, line={"color": STRONG, "dash": "dot"}, **about)
    figure.update_yaxes(categoryorder="array", categoryarray=[one.title for one in methods][::-1])
    above, height = 50 + 20 * -(-len(figure.data) // 3), 30 * len(methods)
    figure.update_layout(height=height + above + 60, margin={"t": above}, legend={"y": 1 + 26 / height})
    return figure


def replacements(view: View) -> go.Figure | None:
    """Draws the area of each method by each replacement of removed features: lines that cross change the order.

    Args:
        view: of the cohort.

    Returns:
        The figure; None where fewer than two methods have maps.
    """
    recipe = recipe_to_show(view)
    if recipe is None:
        return None
    titles = titles_of_replacements()
    names = sorted({*settings(of_recipe(measured(view.frame, _ENDPOINT), recipe), "replacement")} - {PANEL})
    methods = map_methods(view.frame)
    look = looks([one.title for one in methods])
    figure = blank("replacement of removed features", "area between the curves")
    for one in methods:
        found = [one.summary(view, _ENDPOINT, recipe, replacement=name) for name in names]
        if all(summary is None for summary in found):
            continue
        figure.add_scatter(
            x=[titles.get(name, name) for name in names],
            y=[np.nan if summary is None else summary.mean for summary in found],
            mode="lines+markers",
            name=one.title,
            line={"color": look[one.title].colour, "dash": look[one.title].dash, "width": 2},
            hovertemplate="%{x}<br>%{y:.3f}<extra>" + one.title + "</extra>",
        )
    if len(figure.data) < 2:
        return None
    figure.update_layout(
        height=440, legend={"orientation": "v", "x": 1.02, "y": 1, "yanchor": "top", "xanchor": "left"}
    )
    return figure


def _known(
    view: View, methods: Sequence[MapMethod], name: str, recipe: str, **where: Any
) -> list[tuple[MapMethod, Summary]]:
    found = [(one, one.summary(view, name, recipe, **where)) for one in methods]
    return [(one, summary) for one, summary in found if summary is not None]


def _verdicts(view: View, method: MapMethod, recipe: str, summary: Summary) -> str:
    """Describes in how many runs a map beats every control, and which are the strongest."""
    rows = method.rows(view.frame, "faithfulness_p", recipe, endpoint=_ENDPOINT)
    beats = int((rows["value"].to_numpy() < _ALPHA).sum())
    titles = titles_of_controls()
    strongest = ", ".join(titles.get(name, name) for name in settings(rows, "control"))
    of = view.card.design.run + "s"
    partial = runs_text(summary, view.card.design)
    told = f"better than every control in {beats} of {len(rows)} {of}<br>strongest control: {strongest}"
    return told + (f"<br>{partial}" if partial else "")
