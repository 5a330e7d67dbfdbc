"""ROC curves of membership attacks."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import plotly.graph_objects as go

from assay.report.figures.curves import curve
from assay.report.figures.style import QUIET, Look, Panels, add_band, looks, panels
from assay.report.rows import measured, settings
from assay.report.view import View
from assay.statistics import Summary

_LIRA = "lira_tpr"
_EVERYBODY = (1.0, Summary(mean=1.0, deviation=math.nan, low=math.nan, high=math.nan, count=1))
"""The point at which all records are called members."""


@dataclass(frozen=True, kw_only=True)
class _Attack:
    """One plot: the rows of an attack, of all recipes."""

    title: str
    name: str
    where: Mapping[str, str]


def roc(view: View) -> go.Figure | None:
    """Draws true-positive against false-positive rate, both logarithmic, a plot for each attack.

    Values below an axis, such as a rate of 0, are drawn on it.

    Args:
        view: of the cohort.

    Returns:
        The figure; None without LiRA.
    """
    card, frame = view.card, view.frame
    asked = list(_asked(frame))
    if not any(attack.name == _LIRA for attack in asked):
        return None
    rates = [rate for attack in asked for rate in settings(measured(frame, attack.name), "false_positive_rate")]
    least = 10.0 ** math.floor(math.log10(min(rates)) + 1e-9)
    drawn = panels([one.title for one in asked], columns=2, x="false-positive rate", height=320)
    for place, attack in enumerate(asked):
        for recipe, look in looks(card.recipes).items():
            points = curve(card, frame, attack.name, recipe, by="false_positive_rate", **attack.where)
            if points:
                _add_line(drawn, place, recipe, look, [*points, _EVERYBODY], least)
        _add_chance(drawn, place, least)
    decades = [10.0**k for k in range(round(math.log10(least)), 1)]
    axis = {"type": "log", "range": [math.log10(least), 0.02], "tickvals": decades}
    axis["ticktext"] = [f"{100 * decade:g}%" for decade in decades]
    drawn.figure.update_xaxes(**axis)
    drawn.figure.update_yaxes(**axis)
    drawn.figure.update_yaxes(title="true-positive rate", col=1)
    return drawn.figure


def _asked(frame: pd.DataFrame) -> Iterator[_Attack]:
    """Returns the attacks with measurements, those with shadow models first."""
    for name in (_LIRA, "membership_tpr"):
        for attack in settings(measured(frame, name), "attack"):
            yield _Attack(title=str(attack), name=name, where={"attack": str(attack)})


def _add_line(  # noqa: PLR0917
    drawn: Panels, place: int, recipe: str, look: Look, points: Sequence[tuple[float, Summary]], least: float
) -> None:
    """Adds one recipe under one attack; the hover text has rates that an axis cannot show."""
    add_band(
        drawn.figure,
        recipe,
        look,
        [(rate, _not_below(summary, least)) for rate, summary in points],
        hover="%{x:.2~%} of the others accused<br>%{customdata:.2%} of the members found",
        customdata=[summary.mean for _, summary in points],
        showlegend=place == 0,
        **drawn.at(place),
    )


def _add_chance(drawn: Panels, place: int, least: float) -> None:
    """Adds the line of a model that reveals nothing."""
    drawn.figure.add_scatter(
        x=[least, 1.0],
        y=[least, 1.0],
        mode="lines",
        name="tells nothing",
        line={"color": QUIET, "dash": "dot", "width": 1.5},
        legendgroup="tells nothing",
        showlegend=place == 0,
        hoverinfo="skip",
        **drawn.at(place),
    )


def _not_below(summary: Summary, least: float) -> Summary:
    """Returns a summary whose values a logarithmic axis can show; an unknown end stays unknown."""
    ends = {key: value if math.isnan(value := getattr(summary, key)) else max(value, least) for key in ("low", "high")}
    return replace(summary, mean=max(summary.mean, least), **ends)
