"""Recipes compared with the baseline: training time and differences."""

import numpy as np
import plotly.graph_objects as go

from assay.report.figures.style import STRONG, blank, colours, error_bar
from assay.report.rows import select
from assay.report.scorecard import Scorecard
from assay.report.view import View


def cost(view: View) -> go.Figure:
    """Draws the training time of each recipe in multiples of the baseline's, run by run.

    Args:
        view: of the cohort.

    Returns:
        The figure.
    """
    card, frame, baseline = view.card, view.frame, view.study.baseline
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


def accuracy_differences(view: View) -> go.Figure:
    """Draws each recipe's difference in accuracy from the baseline with its 95 % interval.

    Args:
        view: of the cohort.

    Returns:
        The figure.
    """
    return _differences(view.card, "accuracy", view.study.baseline)


def robust_differences(view: View) -> go.Figure:
    """Draws the same differences in the worst case at the reference radius.

    Args:
        view: of the cohort.

    Returns:
        The figure.
    """
    return _differences(view.card, "robust", view.study.baseline)


def _differences(card: Scorecard, key: str, baseline: str) -> go.Figure:
    """Draws the differences in one column of the scorecard."""
    unit = next(column.unit for column in card.evidence if column.key == key)
    figure = blank(f"difference to {baseline}", "")
    figure.add_vline(x=0, line={"color": STRONG, "width": 1.5})
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
