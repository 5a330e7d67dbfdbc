"""What models do over all test records: features by predicted class, and interactions of pairs."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from assay.report.figures.style import PALETTE, error_bar, escaped, panels
from assay.report.rows import measured, of_recipe, runs_of
from assay.report.view import View
from assay.statistics import Summary

_FEATURES = 12
"""Features that are drawn, those with the greatest mean over classes."""
_BARS = 3
"""Greatest number of classes that are drawn as bars; more are a heat map."""


def attributions(view: View) -> go.Figure | None:
    """Draws the mean |attribution| of each feature by predicted class, a plot for each recipe.

    Args:
        view: of the cohort.

    Returns:
        The figure; None where it was not measured.
    """
    tables = _tables(view, "attribution_strength")
    if not tables:
        return None
    most = max(len(table) for table in tables.values())
    classes = list(dict.fromkeys(name for table in tables.values() for name in table.columns))
    bars = len(classes) <= _BARS
    unit = "mean |attribution| (log-odds)"
    longest = max(len(str(name)) for table in tables.values() for name in table.index)
    drawn = panels(
        list(tables),
        columns=2,
        x=unit if bars else "predicted class",
        height=70 + (16 + 8 * min(len(classes), _BARS)) * most,
        spacing=min(0.35, 0.06 + 0.008 * longest),
    )
    directions = _tables(view, "attribution_direction")
    summaries = {recipe: by_feature_and_class(view, recipe) for recipe in tables}
    for place, (recipe, table) in enumerate(tables.items()):
        if not bars:
            drawn.figure.add_trace(_heatmap(table, unit, showscale=place == 0), **drawn.at(place))
            continue
        for number, name in enumerate(classes):
            if name not in table:
                continue
            signed = directions.get(recipe, table).reindex(table.index).get(name)
            each = [
                summaries[recipe][str(feature), str(name)]
                for feature in table.index
                if (str(feature), str(name)) in summaries[recipe]
            ]
            drawn.figure.add_bar(
                x=table[name],
                error_x=error_bar(each) if len(each) == len(table) else None,
                y=[escaped(str(one)) for one in table.index],
                customdata=[np.nan] * len(table) if signed is None else signed,
                orientation="h",
                name=f"predicted {escaped(str(name))}",
                legendgroup=str(name),
                showlegend=place == 0,
                marker_color=PALETTE[number],
                hovertemplate="%{y}: %{x:.3f}, signed %{customdata:.3f}<extra>" + escaped(str(name)) + "</extra>",
                **drawn.at(place),
            )
    drawn.figure.update_yaxes(autorange="reversed", type="category", showticklabels=True)
    drawn.figure.update_layout(barmode="group", bargap=0.25)
    return drawn.figure


def by_feature_and_class(view: View, recipe: str) -> dict[tuple[str, str], Summary]:
    """Returns the mean |attribution| of each feature and predicted class of a recipe, with its interval over the runs.

    Args:
        view: of the cohort.
        recipe: its name.

    Returns:
        Summaries by feature and class; of a single run, with the interval over its records.
    """
    rows = of_recipe(measured(view.frame, "attribution_strength"), recipe)
    places: dict[tuple[str, str], list[int]] = {}
    for place, about in enumerate(rows["conditions"]):
        places.setdefault((str(about["feature"]), str(about["class"])), []).append(place)
    return {key: view.card.design.summarise(runs_of(rows.iloc[own]).runs) for key, own in places.items()}


def interactions(view: View) -> go.Figure | None:
    """Draws the mean |interaction| of each pair of features, a matrix for each recipe.

    Args:
        view: of the cohort.

    Returns:
        The figure; None where it was not measured.
    """
    matrices = {}
    rows = measured(view.frame, "interaction_strength")
    for recipe in view.card.recipes:
        own = of_recipe(rows, recipe)
        if len(own):
            matrices[recipe] = _matrix(own)
    if not matrices:
        return None
    most = max(len(matrix) for matrix in matrices.values())
    longest = max(len(str(name)) for matrix in matrices.values() for name in matrix.index)
    drawn = panels(list(matrices), columns=2, x="", height=110 + 26 * most, spacing=min(0.35, 0.06 + 0.008 * longest))
    for place, matrix in enumerate(matrices.values()):
        trace = _heatmap(matrix, "mean |interaction| (log-odds)", showscale=False)
        drawn.figure.add_trace(trace, **drawn.at(place))
    drawn.figure.update_xaxes(type="category", tickangle=-45)
    drawn.figure.update_yaxes(type="category", autorange="reversed", showticklabels=True)
    drawn.figure.update_layout(margin={"t": 40}, height=drawn.figure.layout.height - 50)  # there is no legend
    return drawn.figure


def _tables(view: View, name: str) -> dict[str, pd.DataFrame]:
    """Returns feature × class for each recipe, means over runs, the strongest features first."""
    found = {}
    rows = measured(view.frame, name)
    for recipe in view.card.recipes:
        own = of_recipe(rows, recipe)
        if not len(own):
            continue
        told = pd.DataFrame(
            {
                "feature": [about["feature"] for about in own["conditions"]],
                "class": [about["class"] for about in own["conditions"]],
                "value": own["value"].to_numpy(),
            }
        )
        table = told.pivot_table(index="feature", columns="class", values="value", aggfunc="mean", sort=False)
        order = table.abs().mean(axis=1).sort_values(ascending=False, kind="stable").index
        found[recipe] = table.loc[order[:_FEATURES] if name == "attribution_strength" else order]
    return found


def _matrix(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the mean over runs of each pair, of the features that are in most pairs; NaN where there is none."""
    sums: dict[tuple[str, str], list[float]] = {}
    for about, value in zip(rows["conditions"], rows["value"], strict=True):
        for pair in ((about["first"], about["second"]), (about["second"], about["first"])):
            sums.setdefault(pair, []).append(float(value))
    counts: dict[str, int] = {}
    for (first, _), values in sums.items():
        counts[first] = counts.get(first, 0) + len(values)
    names = sorted(counts, key=lambda one: -counts[one])[:_FEATURES]
    grid = [[float(np.mean(sums[first, second])) if (first, second) in sums else np.nan for second in names]
            for first in names]  # fmt: skip
    return pd.DataFrame(grid, index=names, columns=names)


def _heatmap(table: pd.DataFrame, unit: str, *, showscale: bool) -> go.Heatmap:
    return go.Heatmap(
        z=table.to_numpy(),
        x=[escaped(str(one)) for one in table.columns],
        y=[escaped(str(one)) for one in table.index],
        colorscale="Blues",
        zmin=0,
        texttemplate="%{z:.2g}",
        showscale=showscale,
        colorbar={"title": unit},
        hoverongaps=False,
        hovertemplate="%{y}, %{x}: %{z:.3f}<extra></extra>",
    )
