"""Success of poisoning attacks, with and without defences."""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd
import plotly.graph_objects as go

from assay.report.designs import grid
from assay.report.figures.style import add_band, blank, error_bar, looks, panels
from assay.report.rows import measured, of_recipe, runs_of
from assay.report.scorecard import Scorecard
from assay.report.view import View
from assay.statistics import Summary

SUCCESS = {"backdoor_success": "backdoor success", "collision_success": "collision success"}
_MARKS = {"accuracy": "circle", "backdoor_success": "x", "collision_success": "diamond-open"}


def by_recipe(view: View) -> go.Figure | None:
    """Draws clean accuracy and the attacker's success of each recipe that ``by_share`` does not show.

    Args:
        view: of the cohort.

    Returns:
        The figure; None without such recipes.
    """
    card, study, frame = view.card, view.study, view.frame
    drawn = {
        r for lines in grid(study.cohorts[card.cohort].recipes).values() for own in lines.values() for r in own.values()
    }
    tried = {r for name in SUCCESS for r in measured(frame, name)["recipe"]}
    shown = [recipe for recipe in card.recipes if recipe in tried - drawn]
    if not shown:
        return None
    figure = blank("share of test records", "")
    for name, words in {"accuracy": "accuracy", **SUCCESS}.items():
        found = {recipe: s for recipe in shown if (s := _summary(card, frame, name, recipe)) is not None}
        if found:
            figure.add_scatter(
                y=list(found),
                x=[s.mean for s in found.values()],
                error_x=error_bar([_possible(s) for s in found.values()]),
                mode="markers",
                name=words,
                marker={
                    "symbol": _MARKS[name],
                    "size": 10,
                    "color": "#0072B2" if name == "accuracy" else "#D55E00",
                    "line": {"width": 2},
                },
                hovertemplate="%{y}, " + words + "<br>%{x:.1%}<extra></extra>",
            )
    figure.update_xaxes(tickformat=".0%", range=[-0.02, 1.02])
    figure.update_yaxes(categoryorder="array", categoryarray=shown[::-1])
    figure.update_layout(height=140 + 30 * len(shown))
    return figure


def by_share(view: View) -> go.Figure | None:
    """Draws the attacker's success and clean accuracy against the poisoned share, a line for each defence.

    It shows each attack that was run at several shares. Share 0 is the recipe with the same defence and no attack.
    Attacks without a measure of success, such as flipped labels, come last.

    Args:
        view: of the cohort.

    Returns:
        The figure; None without such attacks.
    """
    card, study, frame = view.card, view.study, view.frame
    shares = grid(study.cohorts[card.cohort].recipes)
    frame = frame[frame["name"].isin((*SUCCESS, "accuracy")).to_numpy()]
    success = {attack: _success_of(frame, lines) for attack, lines in shares.items()}
    plots = [(attack, name) for attack in shares if success[attack] for name in (success[attack], "accuracy")]
    plots += [(attack, "accuracy") for attack in shares if not success[attack]]
    plots = [(a, name) for a, name in plots if any(_points(card, frame, name, own) for own in shares[a].values())]
    if not plots:
        return None
    titles = [f"{attack.replace('_', ' ')}: {SUCCESS.get(name, name)}" for attack, name in plots]
    drawn = panels(titles, columns=2, x="share of the training records that is poisoned", height=250, spacing=0.1)
    look = looks(list(dict.fromkeys(defence for lines in shares.values() for defence in lines)))
    in_legend = set[str]()
    for place, (attack, name) in enumerate(plots):
        for defence, own in shares[attack].items():
            points = _points(card, frame, name, own)
            hover = "%{x:.1%} poisoned<br>%{y:.1%}"
            shown = bool(points) and defence not in in_legend
            add_band(drawn.figure, defence, look[defence], points, hover=hover, showlegend=shown, **drawn.at(place))
            in_legend |= {defence} if points else set()
    most = max(share for lines in shares.values() for own in lines.values() for share in own)
    drawn.figure.update_xaxes(tickformat=".3~%", range=[-0.04 * most, 1.04 * most])
    drawn.figure.update_yaxes(tickformat=".0%", range=[-0.02, 1.02])
    return drawn.figure


def _success_of(frame: pd.DataFrame, lines: Mapping[str, Mapping[float, str]]) -> str:
    """Returns the name of the measurement of an attack's success; empty where there is none."""
    recipes = {recipe for own in lines.values() for share, recipe in own.items() if share}
    return next((name for name in SUCCESS if recipes & set(measured(frame, name)["recipe"])), "")


def _points(card: Scorecard, frame: pd.DataFrame, name: str, own: Mapping[float, str]) -> list[tuple[float, Summary]]:
    found = [(share, _summary(card, frame, name, own[share])) for share in sorted(own)]
    return [(share, summary) for share, summary in found if summary is not None]


def _summary(card: Scorecard, frame: pd.DataFrame, name: str, recipe: str) -> Summary | None:
    rows = of_recipe(measured(frame, name), recipe)
    return card.design.summarise(runs_of(rows).runs) if len(rows) else None


def _possible(summary: Summary) -> Summary:
    """Returns a summary with its interval limited to shares."""
    return replace(summary, low=max(summary.low, 0.0), high=min(summary.high, 1.0))
