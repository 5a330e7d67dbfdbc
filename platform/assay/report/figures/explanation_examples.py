"""Example records with their maps: pictures and signals. Features of tables are drawn by ``explanation_features``."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from PIL import Image
from plotly.subplots import make_subplots

from assay.evaluations.explanation_examples import LOG_ODDS, may_stand_in_a_report, restored
from assay.evaluations.inversion_pictures import decoded
from assay.report.explained import map_methods, recipe_to_show
from assay.report.figures.explanation_features import bars
from assay.report.figures.explanation_scale import ShownMaps, scale
from assay.report.figures.style import TEMPLATE, escaped
from assay.report.rows import measured, of_recipe
from assay.report.view import View

_DARKEST = 0.45
"""Grey that black becomes below an overlay, so that colours can be seen on it."""
_SIDE, _MARGINS, _BESIDE = 118, 80, 190
"""Pixels: a picture on the page, what is above and below all pictures, and left and right of them."""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Examples that share a unit, and the value at which colours end."""

    shown: tuple[ShownMaps, ...]
    limit: float
    unit: str


def in_log_odds(view: View) -> go.Figure | None:
    """Draws example records with the maps of the methods whose values are parts of the log-odds.

    Args:
        view: of the cohort.

    Returns:
        The figure; None where there is none, or where not everybody may publish these records.
    """
    return _drawn(view, by_method(view, log_odds=True))


def in_other_units(view: View) -> go.Figure | None:
    """Draws example records with the maps of the other methods, as shares of a great value of each method.

    Args:
        view: of the cohort.

    Returns:
        The figure; None where there is none.
    """
    return _drawn(view, by_method(view, log_odds=False))


def by_recipes(view: View) -> go.Figure | None:
    """Draws integrated gradients of the examples of each recipe, of pictures and signals.

    Args:
        view: of the cohort.

    Returns:
        The figure; None for other records, and for fewer than two recipes.
    """
    if view.dataset.modality not in {"image", "signal"}:
        return None
    found = {
        recipe: kept["integrated_gradients"]
        for recipe in view.card.recipes
        if "integrated_gradients" in (kept := _kept(view, recipe))
    }
    first = recipe_to_show(view)
    if len(found) < 2 or first not in found:
        return None
    shown = tuple(_shown(recipe, kept) for recipe, kept in found.items())
    return _drawn(view, Gallery(shown=shown, limit=float(found[first]["great"]), unit=_unit(view)))


def by_method(view: View, *, log_odds: bool) -> Gallery | None:
    """Returns the examples of one recipe by method.

    Args:
        view: of the cohort.
        log_odds: whether those whose values are parts of the log-odds are wanted, or all others.

    Returns:
        The examples; None where there are none, or where not everybody may publish these records.
    """
    recipe = recipe_to_show(view)
    kept = {} if recipe is None else _kept(view, recipe)
    titles = {one.name: one.title for one in map_methods(view.frame)}
    own = {name: one for name, one in kept.items() if (one["unit"] == LOG_ODDS) == log_odds}
    if not own:
        return None
    if log_odds:
        limit = float(next(iter(own.values()))["great"])
        return Gallery(shown=tuple(_shown(titles[n], one) for n, one in own.items()), limit=limit, unit=_unit(view))
    shown = tuple(_shown(titles[name], one, share=True) for name, one in own.items())
    return Gallery(shown=shown, limit=1.0, unit="share of a great value of the method")


def _kept(view: View, recipe: str) -> dict[str, Mapping[str, Any]]:
    """Returns the examples of the first run of a recipe, by method; none where records may not be shown."""
    rows = of_recipe(measured(view.frame, "explanation_examples"), recipe)
    if not len(rows) or not may_stand_in_a_report(view.dataset):
        return {}
    first = rows.sort_values(["repeat", "fold"], kind="stable")
    place = first[["repeat", "fold"]].iloc[0]
    own = first[((first["repeat"] == place["repeat"]) & (first["fold"] == place["fold"])).to_numpy()]
    found: dict[str, Mapping[str, Any]] = {}
    for conditions in own["conditions"]:
        found.setdefault(str(conditions["method"]), conditions["examples"])
    return found


def _shown(label: str, kept: Mapping[str, Any], *, share: bool = False) -> ShownMaps:
    great = float(kept["great"]) if share else 1.0
    return ShownMaps(label=label, kept=kept, maps=restored(kept["maps"]) / (great or 1.0))


def _unit(view: View) -> str:
    each = {"image": "a pixel", "signal": "a sample", "text": "a word"}.get(view.dataset.modality, "a feature")
    return f"log-odds {each}"


def _drawn(view: View, gallery: Gallery | None) -> go.Figure | None:
    if gallery is None:
        return None
    if view.dataset.modality == "tabular":
        return bars(view, gallery.shown, gallery.unit)
    draw = {"image": _picture, "signal": _trace}.get(view.dataset.modality)
    return None if draw is None else _grid(gallery, draw, image=view.dataset.modality == "image")


def _grid(gallery: Gallery, draw: Any, *, image: bool) -> go.Figure:
    """Draws a row for each method or recipe, and a column for each record."""
    most = max(len(one.maps) for one in gallery.shown)
    alike = all(one.kept["rows"] == gallery.shown[0].kept["rows"] for one in gallery.shown)
    alike = alike and all(one.answers == gallery.shown[0].answers for one in gallery.shown)
    titles: list[str] = []
    for place, one in enumerate(gallery.shown):
        titles += (
            [escaped(text).replace(" / ", "<br>") for text in one.answers]
            if place == 0 or not alike
            else [""] * len(one.maps)
        )
        titles += [""] * (most - len(one.maps))
    lines, side = len(gallery.shown), _SIDE + (0 if alike else 34)
    whole = _MARGINS + side * lines
    figure = make_subplots(
        rows=lines,
        cols=most,
        subplot_titles=titles,
        horizontal_spacing=0.015 if image else 0.03,
        vertical_spacing=(6 if alike else 38) / (whole - _MARGINS),
    )
    figure.update_annotations(font_size=11)
    for row, one in enumerate(gallery.shown, 1):
        for column, values in enumerate(one.maps, 1):
            draw(figure, one, column - 1, values, {"row": row, "col": column})
        figure.update_yaxes(title={"text": _wrapped(one.label), "font": {"size": 11}}, row=row, col=1)
    figure.update_layout(
        template=TEMPLATE,
        height=whole,
        width=_BESIDE + most * (_SIDE + 26) if image else None,
        margin={"t": _MARGINS - 20, "b": 20, "l": 70},
        showlegend=False,
        coloraxis=_colours(gallery, whole),
    )
    return figure


def _colours(gallery: Gallery, height: int) -> dict[str, Any]:
    """Returns the common axis of colours, whose ends say that greater values have the same colour."""
    limit = gallery.limit or 1.0
    ticks = [-limit, -limit / 2, 0.0, limit / 2, limit]
    texts = [f"{tick:+.2g}".replace("-", "−") if tick else "0" for tick in ticks]
    return {
        "colorscale": scale(),
        "cmin": -limit,
        "cmax": limit,
        "colorbar": {
            "title": {"text": _wrapped(gallery.unit) + "<br> ", "side": "top", "font": {"size": 12}},
            "thickness": 14,
            "len": min(1, 320 / height),
            "tickvals": ticks,
            "ticktext": [f"≤ {texts[0]}", *texts[1:-1], f"≥ {texts[-1]}"],
        },
    }


def _picture(figure: go.Figure, one: ShownMaps, place: int, values: np.ndarray, at: Mapping[str, int]) -> None:
    """Draws the grey picture, and the map over it."""
    picture = decoded(dict(one.kept["records"]))[place].astype(np.float64).mean(0) / 255
    height, width = values.shape
    figure.add_layout_image(
        source=_as_uri(_DARKEST + (1 - _DARKEST) * picture),
        x=-0.5,
        y=-0.5,
        sizex=width,
        sizey=height,
        sizing="stretch",
        layer="below",
        xanchor="left",
        yanchor="top",
        **at,
    )
    hover = "row %{y}, column %{x}: %{z:+.3g}<extra></extra>"
    figure.add_heatmap(z=values.astype(np.float32), coloraxis="coloraxis", hovertemplate=hover, **at)
    plain: dict[str, Any] = {"showticklabels": False, "ticks": "", "showgrid": False, "showline": False}
    figure.update_xaxes(**plain, range=[-0.5, width - 0.5], constrain="domain", **at)
    (axis,) = figure.select_xaxes(**at)
    anchor = axis.plotly_name.replace("axis", "")
    figure.update_yaxes(**plain, range=[height - 0.5, -0.5], scaleanchor=anchor, constrain="domain", **at)


def _trace(figure: go.Figure, one: ShownMaps, place: int, values: np.ndarray, at: Mapping[str, int]) -> None:
    """Draws the channels of a signal one below the other, with the map as shading behind each."""
    signal = restored(one.kept["records"])[place]
    height = float(np.ptp(signal)) * 1.1 or 1.0
    middle = (signal.max() + signal.min()) / 2
    for channel, (line, of_channel) in enumerate(zip(signal, values, strict=True)):
        shift = -channel * height
        figure.add_heatmap(
            z=of_channel[None].astype(np.float32),
            y=[middle + shift - height / 2, middle + shift + height / 2],
            coloraxis="coloraxis",
            hoverinfo="skip",
            **at,
        )
        figure.add_scatter(
            x=np.arange(len(line)),
            y=(line + shift).astype(np.float32),
            customdata=np.stack([line, of_channel], 1).astype(np.float32),
            mode="lines",
            line={"color": "black", "width": 1.3},
            hovertemplate="sample %{x}: %{customdata[0]:.3g}, map %{customdata[1]:+.3g}<extra></extra>",
            **at,
        )
    ends = [middle + height * (0.5 - len(signal)), middle + height / 2]
    figure.update_yaxes(showticklabels=False, ticks="", showgrid=False, range=ends, **at)
    figure.update_xaxes(showticklabels=False, ticks="", showgrid=False, range=[-0.5, signal.shape[1] - 0.5], **at)


def _wrapped(label: str) -> str:
    """Returns a label in lines of a few words, for the side of a small picture."""
    lines: list[str] = []
    for word in label.split():
        if lines and len(lines[-1]) + len(word) < 16:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "<br>".join(escaped(line) for line in lines)


def _as_uri(grey: np.ndarray) -> str:
    buffer = io.BytesIO()
    whole = np.kron(np.rint(255 * grey).astype(np.uint8), np.ones((6, 6), np.uint8))
    Image.fromarray(whole).save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
