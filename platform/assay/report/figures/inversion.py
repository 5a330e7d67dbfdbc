"""Records that a server identifies from the updates of clients, and their pictures."""

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from PIL import Image

from assay.evaluations.inversion_pictures import decoded, may_be_shown
from assay.report.figures.style import QUIET, blank, colours, error_bar
from assay.report.rows import holding, measured, of_recipe, runs_of, settings
from assay.report.view import View
from assay.statistics import Summary

_DISTINCT = ("weights", "update", "records", "privacy", "privacy_epsilon", "labels", "compression")
_ATTACKERS = {
    "inversion_identified": ("reconstruction", "circle"),
    "inversion_by_candidates": ("gradient of each candidate", "diamond-open"),
    "inversion_mean_record": ("mean record", "x-thin-open"),
}
_GAP, _ZOOM, _WIDEST = 2, 96, 6
"""Pixels between pictures, least height of one on the page, and greatest number beside each other."""


@dataclass(frozen=True, kw_only=True)
class _Point:
    """A share of one recipe under one set of conditions."""

    recipe: str
    words: str
    summary: Summary


def identified(view: View) -> go.Figure | None:
    """Draws the share of records that the server identifies, by the conditions of the update.

    Args:
        view: of the cohort.

    Returns:
        The figure; None where it was not measured.
    """
    card = view.card
    points = {name: list(_points(view, name)) for name in _ATTACKERS}
    if not points["inversion_identified"]:
        return None
    figure, colour = blank("share of records that are identified", ""), colours(card.recipes)
    for name, (title, symbol) in _ATTACKERS.items():
        own = points[name]
        figure.add_scatter(
            x=[point.summary.mean for point in own],
            y=[f"{point.recipe}: {point.words}" for point in own],
            error_x=error_bar([point.summary for point in own]) if name == "inversion_identified" else None,
            mode="markers",
            name=title,
            marker={
                "symbol": symbol,
                "size": 9,
                "color": [colour[point.recipe] for point in own],
                "line": {"width": 2},
            },
            hovertemplate="%{y}<br>" + title + ": %{x:.1%}<extra></extra>",
        )
    chances = settings(measured(view.frame, "inversion_identified"), "chance")
    figure.add_vline(x=float(np.mean(chances)), line={"color": QUIET, "dash": "dot"})
    lines = list(dict.fromkeys(y for trace in figure.data for y in trace.y))
    figure.update_xaxes(tickformat=".0%", range=[-0.02, 1.02])
    figure.update_yaxes(categoryorder="array", categoryarray=lines[::-1])
    figure.update_layout(height=160 + 24 * len(lines))
    return figure


def pictures(view: View) -> go.Figure | None:
    """Draws records beside their reconstructions, a row for each set of conditions.

    Pictures come from the first run of each recipe.

    Args:
        view: of the cohort.

    Returns:
        The figure; None where there are none, or where the licence of the data set does not let everybody publish them.
    """
    rows = measured(view.frame, "inversion_pictures")
    if not len(rows) or not may_be_shown(view.dataset):
        return None
    lines = [line for recipe in view.card.recipes for line in _lines(of_recipe(rows, recipe), recipe)]
    if not lines:
        return None
    height = max(part.shape[2] for _, part in lines)
    mosaic = np.concatenate([_strip(part, height) for _, part in lines], axis=1)[0]
    zoom = -(-_ZOOM // height)
    image = Image.fromarray(np.kron(mosaic, np.ones((zoom, zoom, 1), np.uint8)).astype(np.uint8))
    figure = go.Figure(go.Image(source=_as_uri(image), hoverinfo="skip"))
    step = zoom * (height + _GAP)
    figure.update_yaxes(
        tickvals=[step * (place + 0.5) for place in range(len(lines))], ticktext=[words for words, _ in lines]
    )
    figure.update_xaxes(visible=False)
    figure.update_layout(height=60 + step * len(lines), margin={"t": 20, "b": 20})
    return figure


def in_words(conditions: Mapping[str, Any]) -> str:
    """Describes the conditions of an update.

    Args:
        conditions: of a measurement of inversion.

    Returns:
        Text such as ``fresh weights, gradient of 1 record, hypothetical ε = 1``.
    """
    records = conditions.get("records")
    many = f"{records} record" + ("" if records == 1 else "s")
    update = f"gradient of {many}" if conditions["update"] == "step" else f"round of {many}"
    epsilon = conditions.get("privacy_epsilon")
    privacy = {"none": "no privacy", "recipe": f"ε = {epsilon:g}" if epsilon else ""}.get(
        conditions["privacy"], f"hypothetical ε = {epsilon:g}" if epsilon else ""
    )
    labels = f"labels {conditions['labels']}" if conditions.get("labels") == "known" else ""
    compression = "" if conditions.get("compression", "none") == "none" else str(conditions["compression"])
    return ", ".join(
        part for part in (f"{conditions['weights']} weights", update, privacy, labels, compression) if part
    )


def _points(view: View, name: str) -> Iterator[_Point]:
    rows = measured(view.frame, name)
    for recipe in view.card.recipes:
        own = of_recipe(rows, recipe)
        # A round has as many records as its client, which differ from fold to fold.
        kinds = dict.fromkeys(_kind(conditions) for conditions in own["conditions"])
        for kind in kinds:
            alike = holding(own, lambda conditions, kind=kind: _kind(conditions) == kind)  # type: ignore[misc]
            yield _Point(
                recipe=recipe,
                words=in_words(alike["conditions"].iloc[0]),
                summary=view.card.design.summarise(runs_of(alike).runs),
            )


def _kind(conditions: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(conditions.get(key) for key in _DISTINCT if key != "records" or conditions.get("update") == "step")


def _lines(rows: pd.DataFrame, recipe: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yields title and (n, channels, height, width) pictures of each row of the mosaic."""
    if not len(rows):
        return
    first = rows.sort_values(["repeat", "fold"], kind="stable")
    place = first[["repeat", "fold"]].iloc[0]
    own = first[((first["repeat"] == place["repeat"]) & (first["fold"] == place["fold"])).to_numpy()]
    yield f"{recipe}: records", decoded(own["conditions"].iloc[0]["originals"])[:_WIDEST]
    for conditions in own["conditions"]:
        yield in_words(conditions), decoded(conditions["reconstructions"])[:_WIDEST]


def _strip(pictures: np.ndarray, height: int) -> np.ndarray:
    """Returns pictures beside each other, (1, height + gap, width, 3), padded to the widest row with white."""
    n, channels, _, width = pictures.shape
    colour = np.moveaxis(np.broadcast_to(pictures, (n, 3, *pictures.shape[2:])) if channels == 1 else pictures, 1, -1)
    strip = np.full((1, height + _GAP, _WIDEST * (width + _GAP), 3), 255, np.uint8)
    for place, picture in enumerate(colour):
        left = place * (width + _GAP)
        strip[0, : picture.shape[0], left : left + width] = picture
    return strip


def _as_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
