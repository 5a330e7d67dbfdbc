"""Accuracy against ε, and leakage of private recipes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from assay.report.designs import budgets
from assay.report.figures.style import QUIET, STRONG, TEMPLATE, Look, add_band, colours, error_bar, escaped
from assay.report.rows import measured, of_recipe, runs_of, settings
from assay.report.scorecard import Scorecard
from assay.report.tables.privacy import units
from assay.report.view import View
from assay.statistics import Summary
from assay.study.spec import Study

_CURVE = Look(colour=STRONG, dash="solid")


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """Horizontal positions of recipes: at their spent ε, or, if they are not private, at the right edge."""

    spent: Mapping[str, float]

    @property
    def edge(self) -> float:
        """Position of ∞: a decade or more to the right of all spent ε."""
        return 10 ** (math.ceil(math.log10(max(self.spent.values(), default=1.0)) + 1e-9) + 1)

    def at(self, recipe: str) -> float:
        return self.spent.get(recipe, self.edge)

    def said(self, recipe: str) -> str:
        return f"{self.spent[recipe]:.3g}" if recipe in self.spent else "∞"

    def marker(self, recipe: str, colour: str) -> dict[str, object]:
        symbol = "circle" if recipe in self.spent else "circle-open"
        return {"size": 13, "color": colour, "symbol": symbol, "line": {"width": 2.5}}


def privacy(view: View) -> go.Figure:
    """Draws accuracy against ε; recipes that are not private are at the right edge, at ∞.

    Recipes that differ only in their budget are joined by a line with the band of their intervals. Below are, where
    they were measured, the members that LiRA recognises in each of its modes, and the audited ε, on the same scale of
    ε. A line shows the most accurate training without privacy on these data, with any model, if it is not one of these
    recipes.

    Args:
        view: of the cohort.

    Returns:
        The figure.
    """
    card, study, frame = view.card, view.study, view.frame
    leaks, audits = measured(frame, "lira_tpr"), measured(frame, "epsilon_audited")
    modes = sorted(settings(leaks, "mode"), reverse=True)
    panels = 1 + len(modes) + bool(len(audits))
    figure = _panels(panels)
    scale = _Scale(spent={r: s.mean for r in card.recipes if (s := card.cells[r, "epsilon"].summary) is not None})
    _add_curves(figure, card, study, scale)
    _add_accuracies(figure, card, scale)
    if view.costs is not None and view.costs.elsewhere:
        _add_best(figure, view.costs.plain, view.costs.accuracy)
    for row, mode in enumerate(modes, start=2):
        _add_membership(figure, card, measured(leaks, "lira_tpr", mode=mode), scale, row)
    if len(audits):
        _add_audits(figure, card, audits, scale, panels)
    ticks = [10.0**k for k in range(-1, int(math.log10(scale.edge)))]
    figure.update_xaxes(
        type="log",
        tickvals=[*ticks, scale.edge],
        ticktext=[*(f"{t:g}" for t in ticks), "∞"],
        range=[math.log10(min([*scale.spent.values(), 1.0])) - 0.4, math.log10(scale.edge) + 0.3],
    )
    protects = sorted(set(units(frame, card.recipes).values())) or ["record"]
    figure.update_xaxes(
        title=f"ε claimed for one {' or one '.join(protects)} (smaller is more private)", row=panels, col=1
    )
    figure.update_yaxes(title="accuracy", tickformat=".0%", row=1, col=1)
    return figure


def _add_best(figure: go.Figure, name: str, best: Summary) -> None:
    """Adds the most accurate training without privacy; its label is at the left, where there is room."""
    line, said = {"color": QUIET, "dash": "dot"}, f"{escaped(name)}: {best.mean:.1%}"
    figure.add_hline(y=best.mean, line=line, annotation_text=said, annotation_position="top left", row=1, col=1)


def _panels(count: int) -> go.Figure:
    heights = [2, *[1] * (count - 1)]
    figure = make_subplots(rows=count, cols=1, shared_xaxes=True, vertical_spacing=0.06, row_heights=heights)
    figure.update_layout(template=TEMPLATE, height=400 + 190 * (count - 1))
    return figure


def _add_curves(figure: go.Figure, card: Scorecard, study: Study, scale: _Scale) -> None:
    for names in budgets(study.cohorts[card.cohort].recipes):
        found = [(scale.at(r), s) for r in names if (s := card.cells[r, "accuracy"].summary) is not None]
        add_band(figure, "budgets", _CURVE, found, hover="%{y:.1%}", showlegend=False, row=1, col=1)


def _add_accuracies(figure: go.Figure, card: Scorecard, scale: _Scale) -> None:
    for recipe in card.recipes:
        accuracy = card.cells[recipe, "accuracy"].summary
        if accuracy is not None:
            _add_point(figure, card, recipe, scale, accuracy, row=1, hover="%{y:.1%}")


def _add_membership(figure: go.Figure, card: Scorecard, rows: pd.DataFrame, scale: _Scale, row: int) -> None:
    """Adds what one mode of LiRA recognises at the lowest false-positive rate that was measured."""
    rate = min(settings(rows, "false_positive_rate"))
    rows = measured(rows, "lira_tpr", false_positive_rate=rate)
    for recipe in card.recipes:
        own = of_recipe(rows, recipe)
        if len(own):
            told = card.design.summarise(runs_of(own).runs)
            _add_point(figure, card, recipe, scale, told, row=row, hover="%{y:.1%} of the training records recognised")
    figure.add_hline(y=rate, line={"color": QUIET, "dash": "dot"}, annotation_text="by chance", row=row, col=1)
    (mode,) = settings(rows, "mode")
    figure.update_yaxes(
        title=f"LiRA {mode}<br>TPR at {100 * rate:g} % FPR", tickformat=".0%", rangemode="tozero", row=row, col=1
    )


def _add_audits(figure: go.Figure, card: Scorecard, rows: pd.DataFrame, scale: _Scale, row: int) -> None:
    """Adds the audited lower bounds and the claimed ε: a point above the line is a bug."""
    for recipe in card.recipes:
        own = of_recipe(rows, recipe)
        if len(own):
            # No mean of bounds: each holds by itself, and the highest is the one that would expose a bug.
            bound = float(own["value"].max())
            told = Summary(mean=bound, deviation=math.nan, low=math.nan, high=math.nan, count=len(own))
            _add_point(figure, card, recipe, scale, told, row=row, hover="ε audited ≥ %{y:.3g}", share=False)
    claimed = sorted(scale.spent.values())
    line = {"color": QUIET, "dash": "dot"}
    figure.add_scatter(
        x=claimed, y=claimed, mode="lines", line=line, name="ε claimed", hoverinfo="skip", row=row, col=1
    )
    figure.update_yaxes(title="ε audited,<br>at least", rangemode="tozero", row=row, col=1)


def _add_point(
    figure: go.Figure,
    card: Scorecard,
    recipe: str,
    scale: _Scale,
    told: Summary,
    *,
    row: int,
    hover: str,
    share: bool = True,
) -> None:
    """Adds one recipe to one of the plots; the interval of a ``share`` is limited to possible values."""
    possible: Sequence[Summary] = [replace(told, low=max(told.low, 0.0), high=min(told.high, 1.0)) if share else told]
    figure.add_scatter(
        x=[scale.at(recipe)],
        y=[told.mean],
        name=recipe,
        legendgroup=recipe,
        showlegend=row == 1,
        mode="markers",
        marker=scale.marker(recipe, colours(card.recipes)[recipe]),
        error_y=error_bar(possible),
        hovertemplate=f"{recipe}<br>ε = {scale.said(recipe)}<br>{hover}<extra></extra>",
        row=row,
        col=1,
    )
