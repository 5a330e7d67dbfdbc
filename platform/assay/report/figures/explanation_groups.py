"""Values and interactions of the groups of features that a study names."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from assay.explain.named_groups import told
from assay.report.explained import map_methods, recipe_to_show
from assay.report.figures.style import PALETTE, TEMPLATE, error_bar, escaped
from assay.report.rows import runs_of
from assay.report.view import View
from assay.statistics import Summary

_MOST = 12
"""Groups that are drawn of one way to group, those with the greatest values."""


def group_values(view: View) -> go.Figure | None:
    """Draws the mean |value| of each named group, of one recipe: a plot for each way to group, a bar for each method.

    Args:
        view: of the cohort.

    Returns:
        The figure; None where no group has a name.
    """
    plots = list(_plots(view).values())
    if not plots:
        return None
    lines = [len(names) for names, _ in plots]
    bars = [len(names) * (18 + 12 * len(methods)) for names, methods in plots]
    whole = 130 + sum(bars) + 40 * len(plots)
    figure = make_subplots(
        rows=len(plots), cols=1, shared_xaxes=True, row_heights=bars, vertical_spacing=min(0.9 / len(lines), 40 / whole)
    )
    number = 0
    for row, (names, methods) in enumerate(plots, 1):
        for title, summaries, signed in methods:
            each = [summaries[name] for name in names if name in summaries]
            figure.add_bar(
                x=[one.mean for one in each],
                y=[escaped(name) for name in names if name in summaries],
                orientation="h",
                error_x=error_bar(each),
                customdata=[signed[name] for name in names if name in summaries],
                name=escaped(title),
                marker_color=PALETTE[number % len(PALETTE)],
                hovertemplate="%{y}: %{x:.3f}, signed %{customdata:+.3f}<extra>" + escaped(title) + "</extra>",
                row=row,
                col=1,
            )
            number += 1
    figure.update_layout(
        template=TEMPLATE, barmode="group", bargap=0.25, height=whole, showlegend=True, legend={"y": 1 + 40 / whole}
    )
    figure.update_xaxes(title="mean |value of the group| (log-odds)", row=len(plots), col=1)
    figure.update_yaxes(autorange="reversed", type="category")
    return figure


_Bars = tuple[str, dict[str, Summary], dict[str, float]]
"""Title of a method, the mean size of each group's value, and its signed mean."""


def _plots(view: View) -> dict[str, tuple[list[str], list[_Bars]]]:
    """Returns, for each way to group, the groups with the greatest values and the bars of each method."""
    recipe, found = recipe_to_show(view), dict[str, tuple[list[str], list[_Bars]]]()
    for method in map_methods(view.frame):
        rows = method.rows(view.frame, "group_value", recipe or "")
        if not len(rows):
            continue
        labels = _labels(rows)
        summaries = {label: _summary(view, rows, **where) for label, where in labels.items()}
        signed = {label: _direction(rows, **where) for label, where in labels.items()}
        means = {label: one.mean for label, one in summaries.items()}
        names = sorted(means, key=means.__getitem__, reverse=True)
        _, bars = found.setdefault(told(method.settings["groups"]), (names[:_MOST], []))
        bars.append((method.title, summaries, signed))
    return found


def _labels(rows: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Returns the groups by their label, each with its conditions: runs may find other groups of the same name."""
    pairs = dict.fromkeys((str(about["group"]), str(about["holds"])) for about in rows["conditions"])
    found: dict[str, dict[str, str]] = {}
    for name, holds in pairs:
        times = sum(label == name or label.startswith(f"{name} (") for label in found)
        found[name if not times else f"{name} ({times + 1})"] = {"group": name, "holds": holds}
    return found


def group_interactions(view: View) -> go.Figure | None:
    """Draws the mean |interaction| of each pair of named groups as a matrix, of one recipe.

    Args:
        view: of the cohort.

    Returns:
        The figure; None where no interaction was measured.
    """
    recipe = recipe_to_show(view)
    for method in map_methods(view.frame):
        rows = method.rows(view.frame, "group_interaction", recipe or "")
        if len(rows):
            return _matrix(view, rows)
    return None


def _matrix(view: View, rows: pd.DataFrame) -> go.Figure:
    pairs = list(dict.fromkeys((str(about["first"]), str(about["second"])) for about in rows["conditions"]))
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    sizes, signed = (np.full((len(names), len(names)), np.nan) for _ in range(2))
    for first, second in pairs:
        one, other = names.index(first), names.index(second)
        sizes[one, other] = sizes[other, one] = _summary(view, rows, first=first, second=second).mean
        signed[one, other] = signed[other, one] = _direction(rows, first=first, second=second)
    labels = [escaped(name) for name in names]
    figure = go.Figure(
        go.Heatmap(
            z=sizes,
            x=labels,
            y=labels,
            customdata=signed,
            colorscale="Blues",
            zmin=0,
            texttemplate="%{z:.2g}",
            hoverongaps=False,
            showscale=False,
            hovertemplate="%{y}, %{x}: %{z:.3f}, signed %{customdata:+.3f}<extra></extra>",
        )
    )
    figure.update_layout(template=TEMPLATE, height=170 + 34 * len(names), width=320 + 64 * len(names), margin={"t": 30})
    figure.update_xaxes(type="category", tickangle=-45)
    figure.update_yaxes(type="category", autorange="reversed")
    return figure


def _of(rows: pd.DataFrame, **where: str) -> pd.DataFrame:
    kept = [where.items() <= {key: about.get(key) for key in where}.items() for about in rows["conditions"]]
    return rows[np.array(kept, bool)]


def _summary(view: View, rows: pd.DataFrame, **where: str) -> Summary:
    return view.card.design.summarise(runs_of(_of(rows, **where)).runs)


def _direction(rows: pd.DataFrame, **where: str) -> float:
    return float(np.mean([about["direction"] for about in _of(rows, **where)["conditions"]]))
