"""Certified accuracy and accuracy under attack of the same model, in the same norm."""

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go

from assay.report.cells import between
from assay.report.figures.curves import curve
from assay.report.figures.style import Look, Panels, add_band, add_legend, looks, panels
from assay.report.rows import measured, of_recipe, runs_of, settings, shared
from assay.report.scorecard import Scorecard
from assay.report.view import View
from assay.statistics import Summary

Points = list[tuple[float, Summary]]

INTERVAL, SMOOTHING = "interval bounds", "randomised smoothing"
_A_ROW = 4


def interval_bounds(view: View) -> go.Figure | None:
    """Draws what interval bounds certify (L∞) and the worst case over all attacks, a small plot for each recipe.

    Between the two lines neither an attack nor a proof is known.

    Args:
        view: of the cohort.

    Returns:
        The figure; None without certificates.
    """
    card, frame = view.card, view.frame
    proven = measured(frame, "certified_accuracy", method=INTERVAL)
    shown = [recipe for recipe in card.recipes if len(of_recipe(proven, recipe))]
    if not shown:
        return None

    withstood = measured(frame, "worst_case_accuracy", norm="linf")
    curves = []
    for recipe in shown:
        attacked = curve(card, withstood, "worst_case_accuracy", recipe, by="epsilon")
        certified = curve(card, proven, "certified_accuracy", recipe, by="epsilon")
        curves.append((_from_clean(_unattacked(card, frame, proven, recipe), certified), attacked))
    drawn = panels(shown, columns=_A_ROW, x=f"ε in L∞ ({view.units})", height=180)
    names = ("certified by interval bounds", "worst case over all attacks")
    counts = [sorted(set(rows["n"][rows["recipe"].isin(shown)])) for rows in (proven, withstood)]
    if counts[0] != counts[1]:
        # Curves of different records may cross: say so where they are named.
        names = tuple(  # type: ignore[assignment]
            f"{name} (n = {between(min(count), max(count))})" if count else name
            for name, count in zip(names, counts, strict=True)
        )
    return _beside(card, drawn, shown, curves, names)


def _unattacked(card: Scorecard, frame: pd.DataFrame, proven: pd.DataFrame, recipe: str) -> Points:
    """Returns the accuracy at ε = 0 on the certified records; nothing where it was not measured on these.

    Args:
        proven: certified accuracies.
    """
    certified = runs_of(of_recipe(proven, recipe))
    where: tuple[tuple[str, dict[str, object]], ...] = (
        ("accuracy", {}),
        ("sample_accuracy", {"evaluation": "certificates"}),
        ("worst_case_accuracy", {"epsilon": 0.0, "norm": "linf"}),
    )
    for name, conditions in where:
        found = runs_of(of_recipe(measured(frame, name, **conditions), recipe))
        places = shared((certified, found), same_records=True)
        if places and len(places) == len(certified):
            return [(0.0, card.design.summarise(found.at(places)))]
    return []


def smoothing(view: View) -> go.Figure | None:
    """Draws what smoothing certifies (L2), and the accuracy of the same smoothed model under PGD through the noise.

    There is a small plot for each recipe and noise level σ. The dotted line is the share of abstentions under the same
    attack.

    Args:
        view: of the cohort.

    Returns:
        The figure; None without certificates.
    """
    card, frame = view.card, view.frame
    proven = measured(frame, "certified_accuracy", method=SMOOTHING)
    pairs = [
        (recipe, sigma)
        for recipe in card.recipes
        if len(own := of_recipe(proven, recipe))
        for sigma in sorted(settings(own, "sigma")) or [None]
    ]
    if not pairs:
        return None
    curves = [_smoothed(card, frame, recipe, {} if sigma is None else {"sigma": sigma}) for recipe, sigma in pairs]
    titles = [recipe if sigma is None else f"{recipe}, σ = {sigma:g}" for recipe, sigma in pairs]
    drawn = panels(titles, columns=_A_ROW, x=f"ε in L2 ({view.units})", height=180)
    names = ("certified by smoothing", "PGD through the noise", "abstains under it")
    return _beside(card, drawn, [recipe for recipe, _ in pairs], curves, names)


def _beside(
    card: Scorecard,
    drawn: Panels,
    recipes: Sequence[str],
    curves: Sequence[Sequence[Points]],
    names: Sequence[str],
) -> go.Figure:
    """Draws several curves in each plot, in the colour of its recipe, with different dashes."""
    dashes = dict(zip(names, ("solid", "dash", "dot"), strict=False))
    look = looks(card.recipes)
    for place, (recipe, own) in enumerate(zip(recipes, curves, strict=True)):
        for (name, dash), points in zip(dashes.items(), own, strict=True):
            add_band(
                drawn.figure,
                f"{recipe}, {name}",
                Look(colour=look[recipe].colour, dash=dash),
                points,
                hover="ε = %{x}<br>%{y:.1%}",
                showlegend=False,
                **drawn.at(place),
            )
    add_legend(drawn.figure, dashes)
    drawn.figure.update_yaxes(tickformat=".0%", range=[0, 1.02])
    return drawn.figure


def _smoothed(card: Scorecard, frame: pd.DataFrame, recipe: str, at: Mapping[str, float]) -> list[Points]:
    """Returns certified accuracy, accuracy under attack and abstention of a smoothed model at one noise level."""

    def clean(name: str) -> Points:
        """A figure without an attack; nothing where it was not measured."""
        rows = of_recipe(measured(frame, name, **at), recipe)
        return [(0.0, card.design.summarise(runs_of(rows).runs))] if len(rows) else []

    def points(name: str) -> Points:
        return curve(card, frame, name, recipe, by="epsilon", norm="l2", method=SMOOTHING, **at)

    return [
        _from_clean(clean("smoothed_accuracy"), points("certified_accuracy")),
        _from_clean(clean("smoothed_accuracy"), points("smoothed_robust_accuracy")),
        _from_clean(clean("smoothed_abstention"), points("smoothed_abstention_under_attack")),
    ]


def _from_clean(clean: Points, points: Points) -> Points:
    """Adds the point at ε = 0 to a curve; a curve without points stays empty."""
    return clean + points if points and points[0][0] > 0 else points
