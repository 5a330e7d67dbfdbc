"""Figures of distribution shift and of fail-safe behaviour; None where it was not measured."""

import math
from dataclasses import replace

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from assay.report.cells import runs_text
from assay.report.figures.curves import curve
from assay.report.figures.style import QUIET, STRONG, TEMPLATE, add_band, blank, colours, error_bar, looks, panels
from assay.report.rows import measured, of_recipe, runs_of, select, settings, shared
from assay.report.scorecard import Scorecard
from assay.report.view import View
from assay.statistics import Summary

_A_ROW = 3
_SYMBOLS = {"circle": "●", "diamond-open": "◇", "square": "■", "triangle-up-open": "△"}


def shift(view: View) -> go.Figure | None:
    """Draws accuracy against severity, one small plot for each corruption; severity 0 is the clean accuracy.

    Args:
        view: of the cohort.

    Returns:
        The figure; None where it was not measured.
    """
    card, frame = view.card, view.frame
    rows = measured(frame, "shifted_accuracy")
    names = settings(rows, "corruption")
    if not names:
        return None
    look = looks(card.recipes)
    drawn = panels([name.replace("_", " ") for name in names], columns=_A_ROW, x="severity")
    for place, name in enumerate(names):
        for recipe in card.recipes:
            clean = _unchanged(card, frame, rows, recipe)
            points = [(0.0, clean)] if clean is not None else []
            points += curve(card, rows, "shifted_accuracy", recipe, by="severity", corruption=name)
            add_band(
                drawn.figure,
                recipe,
                look[recipe],
                points,
                hover="severity %{x}<br>%{y:.1%}",
                showlegend=place == 0,
                **drawn.at(place),
            )
    drawn.figure.update_yaxes(tickformat=".0%", range=[0, 1.02])
    drawn.figure.update_xaxes(dtick=1)
    return drawn.figure


def _unchanged(card: Scorecard, frame: pd.DataFrame, rows: pd.DataFrame, recipe: str) -> Summary | None:
    """Returns the accuracy on the same records before the change; None where it was not measured.

    Args:
        rows: accuracies on the changed records.
    """
    changed = runs_of(of_recipe(rows, recipe))
    for name, where in (("accuracy", {}), ("sample_accuracy", {"evaluation": "shift"})):
        found = runs_of(of_recipe(measured(frame, name, **where), recipe))
        places = shared((changed, found), same_records=True)
        if places and len(places) == len(changed):
            return card.design.summarise(found.at(places))
    return None


def risk_coverage(view: View) -> go.Figure | None:
    """Draws the share of wrong answers among the most confident ones, against the share of records that is answered.

    Args:
        view: of the cohort.

    Returns:
        The figure; None where it was not measured.
    """
    card, frame = view.card, view.frame
    rows = measured(frame, "selective_risk")
    if not len(rows):
        return None
    figure = blank("coverage: share of records answered, the most confident first", "wrong answers among them")
    look = looks(card.recipes)
    for recipe in card.recipes:
        points = curve(card, rows, "selective_risk", recipe, by="coverage")
        add_band(figure, recipe, look[recipe], points, hover="coverage %{x:.0%}<br>risk %{y:.1%}")
    for risk in sorted(settings(select(frame, "abstention_rate"), "risk")):
        figure.add_hline(y=risk, line={"dash": "dot", "color": QUIET})
    figure.update_xaxes(tickformat=".0%", range=[0, 1.02])
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    return figure


def conformal(view: View) -> go.Figure | None:
    """Draws measured minus nominal coverage of conformal sets, and their mean size.

    Args:
        view: of the cohort.

    Returns:
        The figure; None where it was not measured.
    """
    card, frame = view.card, view.frame
    rows = measured(frame, "conformal_coverage")
    kinds = sorted({(str(c["method"]), float(c["alpha"])) for c in rows["conditions"]}, key=lambda k: (k[1], k[0]))
    if not kinds:
        return None
    rows = frame[frame["name"].isin(("conformal_coverage", "conformal_set_size")).to_numpy()]
    titles = ["measured coverage less the nominal one", "mean classes in a set"]
    figure = make_subplots(rows=1, cols=2, subplot_titles=titles, horizontal_spacing=0.09)
    labels = [f"{method}, {1 - alpha:.0%}" for method, alpha in kinds]
    for place, recipe in enumerate(card.recipes):
        for column, name in enumerate(("conformal_coverage", "conformal_set_size"), start=1):
            own = [(i, runs_of(_of(rows, name, recipe, method=m, alpha=a))) for i, (m, a) in enumerate(kinds)]
            most = 1.0 if column == 1 else math.inf
            found = [(i, _possible(card.design.summarise(runs.runs), most)) for i, runs in own if len(runs)]
            shifts = [1 - kinds[i][1] if column == 1 else 0.0 for i, _ in found]
            # Beside each other, so that the whiskers of recipes do not hide each other.
            offset = 0.6 * ((place + 0.5) / len(card.recipes) - 0.5)
            figure.add_scatter(
                x=[i + offset for i, _ in found],
                y=[s.mean - nominal for (_, s), nominal in zip(found, shifts, strict=True)],
                error_y=error_bar([s for _, s in found]),
                mode="markers",
                name=recipe,
                legendgroup=recipe,
                showlegend=column == 1,
                marker={"color": colours(card.recipes)[recipe], "size": 8},
                text=[runs_text(s, card.design) for _, s in found],
                hovertemplate=f"{recipe}<br>%{{y:.3f}}<br>%{{text}}<extra></extra>",
                row=1,
                col=column,
            )
    figure.add_hline(y=0, line={"color": STRONG, "width": 1.5}, col=1)
    figure.update_layout(template=TEMPLATE, height=400, legend={"y": 1.12}, margin={"t": 80})
    figure.update_xaxes(tickvals=list(range(len(kinds))), ticktext=labels, range=[-0.5, len(kinds) - 0.5])
    figure.update_yaxes(tickformat="+.0%", col=1)
    return figure


def out_of_distribution(view: View) -> go.Figure | None:
    """Draws the AUROC with which the model's scores separate test records from others, by kind of the others.

    Args:
        view: of the cohort.

    Returns:
        The figure; None where it was not measured.
    """
    card, frame = view.card, view.frame
    rows = measured(frame, "ood_auroc")
    against = settings(rows, "against")
    scores = settings(rows, "score")
    if not against:
        return None
    legend = ", ".join(f"{sign} {score}" for score, sign in zip(scores, _SYMBOLS.values(), strict=False))
    figure = blank(f"AUROC ({legend})", "")
    for recipe in card.recipes:
        for score, symbol in zip(scores, _SYMBOLS, strict=False):
            own = [(one, runs_of(_of(rows, "ood_auroc", recipe, against=one, score=score))) for one in against]
            found = [(one, card.design.summarise(runs.runs)) for one, runs in own if len(runs)]
            figure.add_scatter(
                y=[one for one, _ in found],
                x=[s.mean for _, s in found],
                mode="markers",
                name=recipe,
                legendgroup=recipe,
                showlegend=score == scores[0],
                marker={"color": colours(card.recipes)[recipe], "size": 9, "symbol": symbol, "line": {"width": 2}},
                text=[runs_text(s, card.design) for _, s in found],
                hovertemplate=f"{recipe}, {score}<br>%{{y}}: %{{x:.2f}}<br>%{{text}}<extra></extra>",
            )
    figure.add_vline(x=0.5, line={"dash": "dot", "color": QUIET})
    figure.update_layout(height=180 + 30 * len(against))
    figure.update_xaxes(range=[0, 1.02])
    return figure


def _possible(summary: Summary, most: float) -> Summary:
    """Returns a summary with its interval limited to possible values."""
    return replace(summary, low=max(summary.low, 0.0), high=min(summary.high, most))


def _of(frame: pd.DataFrame, name: str, recipe: str, **where: object) -> pd.DataFrame:
    return of_recipe(select(frame, name, **where), recipe)
