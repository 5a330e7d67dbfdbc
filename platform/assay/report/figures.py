"""The figures of the page. Each takes the results and returns a plotly figure; colours follow recipes everywhere."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio

from assay.report.scorecard import Scorecard, as_runs, select
from assay.statistics import Comparison, Summary
from assay.threats import radius_text

# Okabe and Ito's palette, which colour-blind readers can tell apart.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B8A800")
_DASHES = ("solid", "dash", "dot", "dashdot")

TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#1c2733"},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "xaxis": {
            "gridcolor": "#e8ecf0",
            "linecolor": "#9aa7b4",
            "ticks": "outside",
            "zeroline": False,
            "automargin": True,
        },
        "yaxis": {
            "gridcolor": "#e8ecf0",
            "linecolor": "#9aa7b4",
            "ticks": "outside",
            "zeroline": False,
            "automargin": True,
        },
        "margin": {"l": 60, "r": 20, "t": 20, "b": 50},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        "hoverlabel": {"font": {"family": "system-ui, sans-serif"}},
    }
)


def colours(recipes: tuple[str, ...]) -> dict[str, str]:
    """One colour a recipe."""
    return {recipe: PALETTE[i % len(PALETTE)] for i, recipe in enumerate(recipes)}


def robustness(card: Scorecard, frame: pd.DataFrame, units: str) -> go.Figure:
    """Worst-case accuracy against ε, mean and 95 % interval."""
    norms = {"linf": "L∞", "l2": "L2"}
    asked = {norms.get(c.get("norm", "linf"), "") for c in select(frame, "worst_case_accuracy")["conditions"]}
    figure = blank(
        f"ε, size of the change in {' or '.join(sorted(asked)) or 'L∞'} ({units})", "accuracy in the worst case"
    )
    for recipe in card.recipes:
        points = curve(card, frame, "worst_case_accuracy", recipe, by="epsilon")
        add_band(figure, card, recipe, points, hover="ε = %{x}<br>%{y:.1%}")
    if not math.isnan(card.reference_epsilon):
        figure.add_vline(x=card.reference_epsilon, line={"dash": "dot", "color": "#9aa7b4"})
    figure.update_yaxes(tickformat=".0%", range=[0, 1.02])
    return figure


def attacks(card: Scorecard, frame: pd.DataFrame) -> go.Figure:
    """Accuracy of each recipe under each attack at the reference radius: how much a weak attack flatters."""
    figure = blank("", f"accuracy at ε = {radius_text(card.reference_epsilon)}")
    rows = select(frame, "robust_accuracy", epsilon=card.reference_epsilon)
    names = list(dict.fromkeys(c["attack"] for c in rows["conditions"]))
    series = {"no attack": [_mean(frame, "accuracy", recipe) for recipe in card.recipes]}
    for name in names:
        series[name.replace("_", " ")] = [
            _mean(frame, "robust_accuracy", recipe, attack=name, epsilon=card.reference_epsilon)
            for recipe in card.recipes
        ]
    series["worst case"] = [
        _mean(frame, "worst_case_accuracy", recipe, epsilon=card.reference_epsilon) for recipe in card.recipes
    ]
    shades = ("#cfd8e0", "#b4c2ce", "#96a8b9", "#7d92a6", "#52708c", "#1f4a6e", "#0b2a44")
    for shade, (name, values) in zip(shades, series.items(), strict=False):
        figure.add_bar(
            x=list(card.recipes),
            y=values,
            name=name,
            marker_color=shade,
            hovertemplate="%{y:.1%}<extra>" + name + "</extra>",
        )
    figure.update_layout(barmode="group", bargap=0.25)
    figure.update_yaxes(tickformat=".0%", range=[0, 1.02])
    return figure


def privacy(card: Scorecard) -> go.Figure:
    """Accuracy against ε; what is not private stands at the right edge, at ∞."""
    figure = blank("ε claimed (smaller is more private)", "accuracy")
    spent = {r: card.cells[r, "epsilon"].summary for r in card.recipes}
    known = [s.mean for s in spent.values() if s is not None]
    edge = 10 ** (math.ceil(math.log10(max(known, default=1.0)) + 1e-9) + 1)
    for recipe in card.recipes:
        accuracy, epsilon = card.cells[recipe, "accuracy"].summary, spent[recipe]
        if accuracy is None:
            continue
        shown = "∞" if epsilon is None else f"{epsilon.mean:.3g}"
        figure.add_scatter(
            x=[edge if epsilon is None else epsilon.mean],
            y=[accuracy.mean],
            name=recipe,
            mode="markers",
            marker={
                "size": 13,
                "color": colours(card.recipes)[recipe],
                "symbol": "circle-open" if epsilon is None else "circle",
                "line": {"width": 2.5},
            },
            error_y=error_bar([replace(accuracy, low=max(accuracy.low, 0.0), high=min(accuracy.high, 1.0))]),
            hovertemplate=f"{recipe}<br>ε = {shown}<br>%{{y:.1%}}<extra></extra>",
        )
    ticks = [10.0**k for k in range(-1, int(math.log10(edge)))]
    figure.update_xaxes(
        type="log",
        tickvals=[*ticks, edge],
        ticktext=[*(f"{t:g}" for t in ticks), "∞"],
        range=[math.log10(min([*known, 1.0])) - 0.4, math.log10(edge) + 0.3],
    )
    figure.update_yaxes(tickformat=".0%")
    return figure


def clients(card: Scorecard, frame: pd.DataFrame) -> go.Figure | None:
    """Accuracy at each client beside the two ends: every client alone, and all data in one place."""
    federated = [r for r in card.recipes if len(_measured(select(frame, "client_accuracy"), r))]
    if not federated:
        return None
    figure = blank("", "accuracy")
    for recipe in federated:
        colour = colours(card.recipes)[recipe]
        shown = {
            "each client alone<br>(all test records)": ("local_only_accuracy", "client"),
            "federated<br>(each client's records)": ("client_accuracy", "client"),
            "federated<br>(all test records)": ("accuracy", ""),
            "all data in one place<br>(all test records)": ("centralised_accuracy", ""),
        }
        for place, (name, by) in shown.items():
            rows = _measured(select(frame, name), recipe)
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
                line={"color": "#9aa7b4", "width": 1},
                fillcolor="rgba(0,0,0,0)",
                text=[f"{label} {key if by else key + 1}" for key in means.index],
                hovertemplate="%{text}<br>%{y:.1%}<extra></extra>",
            )
    figure.update_yaxes(tickformat=".0%")
    return figure


def faithfulness(card: Scorecard, frame: pd.DataFrame) -> go.Figure:
    """What each kind of explanation gains over a random order, and 0 where it tells nothing."""
    figure = blank("", "insertion area above a random order")
    for method, name, shade in (
        ("integrated_gradients", "integrated gradients", "#1f4a6e"),
        ("shap", "SHAP", "#7d92a6"),
        ("attention", "attention", "#b4c2ce"),
    ):
        values = [_mean(frame, "insertion_gain", recipe, method=method) for recipe in card.recipes]
        if any(value is not None for value in values):
            figure.add_bar(
                x=list(card.recipes),
                y=values,
                name=name,
                marker_color=shade,
                hovertemplate="%{y:.3f}<extra>" + name + "</extra>",
            )
    figure.update_layout(barmode="group", bargap=0.35)
    return figure


def cost(card: Scorecard, frame: pd.DataFrame, baseline: str) -> go.Figure:
    """Training time of each recipe in multiples of the baseline's, run by run."""
    figure = blank(f"training time, multiples of {baseline}", "")
    times = select(frame, "training_seconds").pivot_table(index=["repeat", "fold"], columns="recipe", values="value")
    if baseline in times:
        for recipe in reversed(card.recipes):
            if recipe in times:
                ratios = (times[recipe] / times[baseline]).dropna()
                figure.add_bar(
                    y=[recipe],
                    x=[float(np.exp(np.log(ratios).mean()))],
                    orientation="h",
                    showlegend=False,
                    marker_color=colours(card.recipes)[recipe],
                    text=[f"{float(np.exp(np.log(ratios).mean())):.1f}×"],
                    textposition="outside",
                    hovertemplate=f"{recipe}<br>%{{x:.2f}}×, {times[recipe].median():.2f} s each<extra></extra>",
                )
    figure.update_layout(margin={"l": 120, "r": 60, "t": 20, "b": 50})
    return figure


def differences(card: Scorecard, key: str, baseline: str) -> go.Figure:
    """Each recipe's difference to the baseline with its 95 % interval."""
    unit = next(column.unit for column in card.evidence if column.key == key)
    figure = blank(f"difference to {baseline}", "")
    figure.add_vline(x=0, line={"color": "#52606d", "width": 1.5})
    for recipe in reversed(card.recipes):
        comparison = card.comparisons.get((recipe, key))
        if comparison is None:
            continue
        figure.add_scatter(
            y=[recipe],
            x=[comparison.difference],
            mode="markers",
            showlegend=False,
            marker={
                "color": colours(card.recipes)[recipe],
                "size": 11,
                "symbol": "diamond-open" if comparison.verdict == "inconclusive" else "diamond",
                "line": {"width": 2},
            },
            error_x=error_bar([comparison]),
            hovertemplate=f"{recipe}<br>%{{x:.3f}}, p = {comparison.p_holm:.3g} (Holm)<extra></extra>",
        )
    if unit == "percent":
        figure.update_xaxes(tickformat="+.0%")
    figure.update_layout(height=90 + 34 * len(card.recipes), margin={"l": 120, "r": 20, "t": 10, "b": 50})
    return figure


def html(figure: go.Figure, *, described: str) -> str:
    """A figure as a fragment of a page that already holds plotly; ``described`` is read to those who cannot see it."""
    fragment = pio.to_html(
        figure, include_plotlyjs=False, full_html=False, config={"displaylogo": False, "responsive": True}
    )
    return f'<div role="img" aria-label="{described}">{fragment}</div>'


def blank(x: str, y: str) -> go.Figure:
    """An empty figure in the style of the page, with the titles of its axes."""
    figure = go.Figure(layout={"template": TEMPLATE, "height": 400})
    figure.update_xaxes(title=x)
    figure.update_yaxes(title=y)
    return figure


def curve(
    card: Scorecard, frame: pd.DataFrame, name: str, recipe: str, *, by: str, **where: object
) -> list[tuple[float, Summary]]:
    """Mean and interval of a measurement at each value of the condition ``by``, in order."""
    rows = _measured(select(frame, name, **where), recipe)
    places, known = np.array([float(c[by]) for c in rows["conditions"]]), rows[["value", "low", "high"]]
    return [(float(p), card.design.summarise(as_runs(known[places == p]))) for p in np.unique(places)]


def add_band(
    figure: go.Figure,
    card: Scorecard,
    recipe: str,
    points: list[tuple[float, Summary]],
    *,
    hover: str,
    **about: Any,
) -> None:
    """A curve of fractions in the colour of its recipe, on the band of its 95 % intervals; ``about`` goes to both."""
    if not points:
        return
    place, colour = card.recipes.index(recipe), colours(card.recipes)[recipe]
    x = [at for at, _ in points]
    low = [_or_mean(s.low, s.mean) for _, s in points]
    high = [_or_mean(s.high, s.mean) for _, s in points]
    figure.add_scatter(
        x=[*x, *x[::-1]],
        y=[*high, *low[::-1]],
        fill="toself",
        mode="lines",
        fillcolor=_faint(colour),
        line={"width": 0},
        hoverinfo="skip",
        legendgroup=recipe,
        **{**about, "showlegend": False},
    )
    figure.add_scatter(
        x=x,
        y=[s.mean for _, s in points],
        name=recipe,
        legendgroup=recipe,
        mode="lines+markers",
        line={"color": colour, "dash": _DASHES[place // len(PALETTE) % len(_DASHES)], "width": 2.5},
        hovertemplate=f"{recipe}<br>{hover}<extra></extra>",
        **about,
    )


def _measured(rows: pd.DataFrame, recipe: str) -> pd.DataFrame:
    return rows[(rows["recipe"] == recipe) & (rows["status"] == "measured")]


def _mean(frame: pd.DataFrame, name: str, recipe: str, **where: object) -> float | None:
    values = _measured(select(frame, name, **where), recipe)["value"]
    return float(values.mean()) if len(values) else None


def error_bar(summaries: Sequence[Summary | Comparison]) -> dict[str, object]:
    """Whiskers of 95 % intervals, none where a value has no interval."""
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


def _or_mean(end: float, mean: float) -> float:
    return mean if math.isnan(end) else min(1.0, max(0.0, end))


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.10)"
