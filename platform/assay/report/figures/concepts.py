"""Scores of concepts beside those of random concepts."""

from collections.abc import Sequence

import plotly.graph_objects as go

from assay.report.figures.style import colours, error_bar, escaped, panels
from assay.report.tables.concepts import ConceptRow, concept_rows
from assay.report.view import View

_BAND = "rgba(82,96,109,0.14)"


def concept_scores(view: View) -> go.Figure | None:
    """Draws the score of each concept with its interval over a band of random concepts, a plot for each class.

    Args:
        view: of the cohort.

    Returns:
        The figure; None where no concept was measured.
    """
    rows = concept_rows(view)
    if not rows:
        return None
    classes = list(dict.fromkeys(one.target for one in rows))
    concepts = list(dict.fromkeys(one.concept for one in rows))
    recipes = [recipe for recipe in view.card.recipes if any(one.recipe == recipe for one in rows)]
    drawn = panels(
        [f"towards “{name}”" for name in classes],
        columns=min(2, len(classes)),
        x="share of test records whose answer moves towards the class",
        height=90 + len(concepts) * (14 + 18 * len(recipes)),
        spacing=0.12,
    )
    for place, target in enumerate(classes):
        own = [one for one in rows if one.target == target]
        for number, recipe in enumerate(recipes):
            some = [one for one in own if one.recipe == recipe]
            heights = [concepts.index(one.concept) + _offset(number, len(recipes)) for one in some]
            _band(drawn.figure, some, heights, len(recipes), drawn.at(place))
            drawn.figure.add_scatter(
                x=[one.score.mean for one in some],
                y=heights,
                error_x=error_bar([one.score for one in some]),
                mode="markers",
                name=escaped(recipe),
                legendgroup=recipe,
                showlegend=place == 0,
                marker={
                    "color": colours(view.card.recipes)[recipe],
                    "size": 11,
                    "symbol": ["circle" if one.counts else "circle-open" for one in some],
                    "line": {"width": 2},
                },
                text=[_hover(one) for one in some],
                hovertemplate="%{text}<extra></extra>",
                **drawn.at(place),
            )
        drawn.figure.add_vline(x=0.5, line={"color": "#52606d", "dash": "dot", "width": 1}, **drawn.at(place))
    drawn.figure.update_yaxes(
        tickvals=list(range(len(concepts))),
        ticktext=[escaped(name) for name in concepts],
        range=[len(concepts) - 0.5, -0.5],
        showticklabels=True,
    )
    drawn.figure.update_xaxes(range=[-0.04, 1.04])
    return drawn.figure


def _offset(number: int, count: int) -> float:
    """Returns how far below the middle of its line a recipe is drawn."""
    return 0.7 * ((number + 0.5) / count - 0.5)


def _band(
    figure: go.Figure, rows: Sequence[ConceptRow], heights: Sequence[float], recipes: int, at: dict[str, int]
) -> None:
    """Draws between which scores 95 % of the random concepts lie, behind each concept."""
    for one, height in zip(rows, heights, strict=True):
        half = 0.28 / recipes
        figure.add_shape(
            type="rect",
            x0=one.random[0],
            x1=one.random[1],
            y0=height - half,
            y1=height + half,
            fillcolor=_BAND,
            line={"width": 0},
            layer="below",
            **at,
        )


def _hover(one: ConceptRow) -> str:
    runs = f", significant in {one.runs} of {one.of} runs" if one.of > 1 else ""
    return (
        f"{escaped(one.recipe)}, {escaped(one.concept)}: {one.score.mean:.2f}<br>{escaped(one.means)}<br>"
        f"random concepts: {one.random[0]:.2f} to {one.random[1]:.2f}<br>p {one.p_holm:.2g} after Holm{runs}"
    )
