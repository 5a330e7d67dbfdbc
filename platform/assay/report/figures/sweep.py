"""Figures of a sweep: every point in parallel coordinates, the Pareto front, and the ε-matrix."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from assay.report.figures.matrix import heatmap
from assay.report.figures.style import PALETTE, QUIET, TEMPLATE, blank
from assay.report.rows import measured
from assay.report.sweep_table import goals
from assay.store.folder import Store
from assay.study.sweep import Sweep
from assay.study.sweep_goals import ACCURACY, COST, EPSILON, ROBUST, Goal
from assay.threats import radius_text

_TRAINED = "objective.epsilon"
MANY = 1000
"""Points above which markers are drawn by the graphics card, not as SVG."""


def parallel(table: pd.DataFrame, keys: Sequence[str]) -> go.Figure:
    """Draws every point as a line through its settings and its results; the user can drag along an axis to select.

    Args:
        table: of the points; see ``sweep_table.results``.
        keys: the varied settings.

    Returns:
        The figure.
    """
    shown = goals(table, (ACCURACY, ROBUST, EPSILON, COST))
    dimensions = [_axis(table[key], key.split(".")[-1].replace("_", " ")) for key in keys]
    dimensions += [
        {"label": goal.title, "values": table[goal.key], "tickformat": ".0%" if goal.percent else ""} for goal in shown
    ]
    coloured = next(goal for goal in (ROBUST, ACCURACY, *shown) if goal in shown)
    figure = go.Figure(
        go.Parcoords(
            dimensions=dimensions,
            line={
                "color": table[coloured.key],
                "colorscale": "Cividis",
                "showscale": True,
                "colorbar": {"title": coloured.title, "tickformat": ".0%" if coloured.percent else ""},
            },
        )
    )
    figure.update_layout(template=TEMPLATE, height=430, margin={"l": 70, "r": 40, "t": 60, "b": 30})
    return figure


def front(table: pd.DataFrame, wanted: Sequence[Goal], radius: float) -> go.Figure | None:
    """Draws two goals against each other, with a third as colour; points of the Pareto front have a ring and intervals.

    Args:
        table: of the points that have all goals.
        wanted: the goals.
        radius: of the worst case.

    Returns:
        The figure; None with fewer than two goals.
    """
    if len(wanted) < 2 or not len(table):
        return None
    across, up = (ROBUST, ACCURACY) if {ROBUST, ACCURACY} <= set(wanted) else (wanted[1], wanted[0])
    third = next((goal for goal in wanted if goal not in (across, up)), None)
    figure = blank(_title(across, radius), _title(up, radius))
    best = table[table["pareto"]].sort_values(across.key)
    _intervals(figure, best, across, up)
    scatter = go.Scattergl if len(table) > MANY else go.Scatter
    colour = PALETTE[5] if third is None else table[third.key]
    logarithmic = third is EPSILON or third is COST
    figure.add_trace(
        scatter(
            x=table[across.key],
            y=table[up.key],
            mode="markers",
            showlegend=False,
            text=table["recipe"],
            marker={
                "size": 13 if len(table) <= MANY else 6,
                "color": np.log10(colour) if logarithmic else colour,
                "colorscale": "Cividis",
                "showscale": third is not None,
                "colorbar": {"title": "" if third is None else ("log10 " if logarithmic else "") + third.title},
                "line": {"width": np.where(table["pareto"], 3, 0).tolist(), "color": PALETTE[1]},
            },
            hovertemplate=f"%{{text}}<br>{across.title} %{{x}}<br>{up.title} %{{y}}<extra></extra>",
        )
    )
    for goal, update in ((across, figure.update_xaxes), (up, figure.update_yaxes)):
        update(tickformat=".0%") if goal.percent else None
    return figure


def _intervals(figure: go.Figure, best: pd.DataFrame, across: Goal, up: Goal) -> None:
    """Draws the points of the front joined by a line, with their intervals."""
    errors = {
        f"error_{axis}": {
            "type": "data",
            "symmetric": False,
            "array": best[f"{goal.key}_high"] - best[goal.key],
            "arrayminus": best[goal.key] - best[f"{goal.key}_low"],
            "color": QUIET,
            "thickness": 1,
        }
        for axis, goal in (("x", across), ("y", up))
        if goal.percent
    }
    figure.add_scatter(
        x=best[across.key],
        y=best[up.key],
        mode="lines",
        line={"color": QUIET, "dash": "dot"},
        showlegend=False,
        hoverinfo="skip",
        **errors,
    )


def _title(goal: Goal, radius: float) -> str:
    return f"accuracy in the worst case, ε = {radius_text(radius)}" if goal is ROBUST else goal.title


def matrix(sweep: Sweep, store: Store, units: str) -> go.Figure | None:
    """Draws worst-case accuracy by the ε of training × the ε of the attack, mean over the other settings.

    Args:
        sweep: with the varied settings.
        store: of the results.
        units: of both radii.

    Returns:
        The figure; None where the ε of training is not varied, or has more values than a matrix shows.
    """
    if _TRAINED not in sweep.keys:
        return None
    rows = measured(store.frame(), "worst_case_accuracy")
    trained = {about["recipe_name"]: about["recipe"]["objective"]["epsilon"] for about in store.asked().values()}
    if not len(rows) or len(set(trained.values())) > 30:
        return None
    table = rows.assign(
        trained=rows["recipe"].map(trained), tested=[float(c["epsilon"]) for c in rows["conditions"]]
    ).pivot_table(index="trained", columns="tested", values="value", aggfunc="mean")
    figure = blank(f"ε of the attack ({units})", f"ε of training ({units})")
    table.index = pd.Index([radius_text(float(epsilon)) for epsilon in table.index])
    figure.add_trace(heatmap(table))
    figure.update_xaxes(type="category")
    figure.update_yaxes(type="category")
    return figure


def _axis(values: pd.Series, label: str) -> dict[str, Any]:
    """Returns the axis of a setting: logarithmic over more than a decade, with names where it is not a number."""
    if values.dtype == object:
        codes, names = pd.factorize(values.map(str))
        return {
            "label": label,
            "values": codes,
            "tickvals": list(range(len(names))),
            "ticktext": [str(n) for n in names],
        }
    positive = bool((values > 0).all())
    if positive and values.max() / values.min() >= 10:
        ticks = np.unique(values.to_numpy()) if values.nunique() <= 6 else np.geomspace(values.min(), values.max(), 5)
        return {
            "label": label,
            "values": np.log10(values),
            "tickvals": np.log10(ticks),
            "ticktext": [f"{tick:.2g}" for tick in ticks],
        }
    distinct = {"tickvals": sorted(values.unique())} if values.nunique() <= 8 else {}
    return {"label": label, "values": values, **distinct}
