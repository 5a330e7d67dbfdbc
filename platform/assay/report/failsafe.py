"""The figures of shift and of failing safe; None where nothing of the kind was measured."""

import math
from dataclasses import replace

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from assay.report.figures import TEMPLATE, add_band, blank, colours, curve, error_bar
from assay.report.scorecard import Scorecard, as_runs, runs_of, select
from assay.statistics import Summary

_A_ROW = 3
_SYMBOLS = {"circle": "●", "diamond-open": "◇", "square": "■", "triangle-up-open": "△"}


def shift(card: Scorecard, frame: pd.DataFrame) -> go.Figure | None:
    """Accuracy against severity, one small plot a corruption; at severity 0 stands the clean accuracy."""
    rows = _measured(frame, "shifted_accuracy")
    names = list(dict.fromkeys(c["corruption"] for c in rows["conditions"]))
    if not names:
        return None
    lines = math.ceil(len(names) / _A_ROW)
    figure = make_subplots(
        rows=lines,
        cols=min(_A_ROW, len(names)),
        subplot_titles=[name.replace("_", " ") for name in names],
        shared_yaxes=True,
        horizontal_spacing=0.04,
        vertical_spacing=min(0.14, 0.36 / lines),
    )
    for place, name in enumerate(names):
        for recipe in card.recipes:
            clean = card.cells[recipe, "accuracy"].summary
            points = [(0.0, clean)] if clean is not None else []
            points += curve(card, rows, "shifted_accuracy", recipe, by="severity", corruption=name)
            add_band(
                figure,
                card,
                recipe,
                points,
                hover="severity %{x}<br>%{y:.1%}",
                row=place // _A_ROW + 1,
                col=place % _A_ROW + 1,
                showlegend=place == 0,
            )
    figure.update_layout(template=TEMPLATE, height=110 + 210 * lines)
    figure.update_layout(legend={"y": 1 + 70 / (110 + 210 * lines)}, margin={"t": 90})
    figure.update_yaxes(tickformat=".0%", range=[0, 1.02])
    figure.update_xaxes(dtick=1)
    for column in range(1, min(_A_ROW, len(names)) + 1):
        figure.update_xaxes(title="severity", row=(len(names) - column) // _A_ROW + 1, col=column)
    return figure


def risk_coverage(card: Scorecard, frame: pd.DataFrame) -> go.Figure | None:
    """Share of wrong answers among the most confident ones, against the share of records that is answered."""
    rows = _measured(frame, "selective_risk")
    if not len(rows):
        return None
    figure = blank("coverage: share of records answered, the most confident first", "wrong answers among them")
    for recipe in card.recipes:
        points = curve(card, rows, "selective_risk", recipe, by="coverage")
        add_band(figure, card, recipe, points, hover="coverage %{x:.0%}<br>risk %{y:.1%}")
    risks = {float(c["risk"]) for c in frame[frame["name"] == "abstention_rate"]["conditions"] if "risk" in c}
    for risk in sorted(risks):
        figure.add_hline(y=risk, line={"dash": "dot", "color": "#9aa7b4"})
    figure.update_xaxes(tickformat=".0%", range=[0, 1.02])
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    return figure


def conformal(card: Scorecard, frame: pd.DataFrame) -> go.Figure | None:
    """Measured coverage of conformal sets less the nominal one, and their mean size."""
    rows = _measured(frame, "conformal_coverage")
    kinds = sorted({(str(c["method"]), float(c["alpha"])) for c in rows["conditions"]}, key=lambda k: (k[1], k[0]))
    if not kinds:
        return None
    titles = ["measured coverage less the nominal one", "mean classes in a set"]
    figure = make_subplots(rows=1, cols=2, subplot_titles=titles, horizontal_spacing=0.09)
    labels = [f"{method}, {1 - alpha:.0%}" for method, alpha in kinds]
    for place, recipe in enumerate(card.recipes):
        for column, name in enumerate(("conformal_coverage", "conformal_set_size"), start=1):
            own = [(i, runs_of(_of(frame, name, recipe, method=m, alpha=a))) for i, (m, a) in enumerate(kinds)]
            most = 1.0 if column == 1 else math.inf
            found = [(i, _possible(card.design.summarise(as_runs(runs)), most)) for i, runs in own if len(runs)]
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
                hovertemplate=f"{recipe}<br>%{{y:.3f}}<extra></extra>",
                row=1,
                col=column,
            )
    figure.add_hline(y=0, line={"color": "#52606d", "width": 1.5}, col=1)
    figure.update_layout(template=TEMPLATE, height=400, legend={"y": 1.12}, margin={"t": 80})
    figure.update_xaxes(tickvals=list(range(len(kinds))), ticktext=labels, range=[-0.5, len(kinds) - 0.5])
    figure.update_yaxes(tickformat="+.0%", col=1)
    return figure


def out_of_distribution(card: Scorecard, frame: pd.DataFrame) -> go.Figure | None:
    """AUROC telling test records from others, by what the others are."""
    rows = _measured(frame, "ood_auroc")
    against = list(dict.fromkeys(str(c["against"]) for c in rows["conditions"]))
    scores = list(dict.fromkeys(str(c["score"]) for c in rows["conditions"]))
    if not against:
        return None
    told = ", ".join(f"{sign} {score}" for score, sign in zip(scores, _SYMBOLS.values(), strict=False))
    figure = blank(f"AUROC ({told})", "")
    for recipe in card.recipes:
        for score, symbol in zip(scores, _SYMBOLS, strict=False):
            own = [(one, runs_of(_of(frame, "ood_auroc", recipe, against=one, score=score))) for one in against]
            found = [(one, card.design.summarise(as_runs(runs))) for one, runs in own if len(runs)]
            figure.add_scatter(
                y=[one for one, _ in found],
                x=[s.mean for _, s in found],
                mode="markers",
                name=recipe,
                legendgroup=recipe,
                showlegend=score == scores[0],
                marker={"color": colours(card.recipes)[recipe], "size": 9, "symbol": symbol, "line": {"width": 2}},
                hovertemplate=f"{recipe}, {score}<br>%{{y}}: %{{x:.2f}}<extra></extra>",
            )
    figure.add_vline(x=0.5, line={"dash": "dot", "color": "#9aa7b4"})
    figure.update_layout(height=180 + 30 * len(against))
    figure.update_xaxes(range=[0, 1.02])
    return figure


def _possible(summary: Summary, most: float) -> Summary:
    """With its interval cut at 0 and at the greatest value there can be."""
    return replace(summary, low=max(summary.low, 0.0), high=min(summary.high, most))


def _measured(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    return frame[(frame["name"] == name) & (frame["status"] == "measured")]


def _of(frame: pd.DataFrame, name: str, recipe: str, **where: object) -> pd.DataFrame:
    rows = select(frame, name, **where)
    return rows[rows["recipe"] == recipe]
