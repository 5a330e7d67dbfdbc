"""Overlays: explanations of images as pictures in the pixels of the image that was sent."""

import asyncio
import base64
import io
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from assay.data.base import Dataset
from assay.report.figures.explanation_scale import colours
from serve.inputs.placement import Placement
from serve.inputs.records import Records
from serve.model import ServedModel
from serve.refusals import RefusedError

MOST_OVERLAYS = 8
"""Greatest number of records in one call with overlays."""
MOST_SIDE = 2048
"""Greatest height and width of an overlay; one of a larger image has fewer pixels than the image."""
_SHOWN = 0.995
"""Share of the values of a call within the scale of colours: a single pixel does not make all others pale."""
_STEPS = 127
"""Colours on each side of 0."""


def require_overlays(model: ServedModel, records: int) -> None:
    """Refuses overlays of records that are no images, and of too many.

    Args:
        model: that is asked.
        records: their number.

    Raises:
        RefusedError: says what is allowed.
    """
    if model.dataset.modality != "image":
        raise RefusedError("overlays are of images, and this model takes other records; leave overlay out")
    if records > MOST_OVERLAYS:
        raise RefusedError(f"at most {MOST_OVERLAYS} records a call with overlays; {records} were sent")


async def add_overlays(model: ServedModel, explanations: Sequence[dict[str, Any]], records: Records) -> float:
    """Adds an overlay to each explanation of a call. All have one scale of colours.

    Args:
        model: that was explained.
        explanations: of the records of the call; those that are not given have no overlay.
        records: of the call. The overlay of one whose placement in an image is not known has the pixels of the record.

    Returns:
        The absolute value at which the colours end.
    """
    maps = {
        number: np.asarray(one["attributions"], np.float32).sum(0)
        for number, one in enumerate(explanations)
        if "attributions" in one
    }
    scale = scale_of(list(maps.values()))

    def add() -> None:
        x = records.x.cpu().numpy()
        for number, values in maps.items():
            placement = records.placements[number] if records.placements else None
            drawn = {**overlay(values, scale, placement), "record": picture(x[number], model.dataset)}
            explanations[number]["overlay"] = drawn

    await asyncio.to_thread(add)
    return scale


def scale_of(maps: Sequence[np.ndarray]) -> float:
    """Returns the absolute value at which the colours of maps end.

    Args:
        maps: (height, width) each.

    Returns:
        The value; 1 where all values are 0.
    """
    values = np.abs(np.concatenate([one.ravel() for one in maps]))
    return float(np.quantile(values, _SHOWN)) or float(values.max()) or 1.0


def overlay(values: np.ndarray, scale: float, placement: Placement | None) -> dict[str, Any]:
    """Draws one explanation.

    Args:
        values: (height, width) of the record.
        scale: absolute value at which the colours end.
        placement: of the record in its image; None where the record is the image.

    Returns:
        Picture, size and place, as in ``answer_messages.Overlay``.
    """
    source = values.shape
    box: tuple[float, ...] = (0, 0, values.shape[1], values.shape[0])
    if placement is not None:
        source, box = placement.source, placement.box
        values = _smaller(placement).overlay(values)
    steps = np.rint(_STEPS * (values / scale).clip(-1, 1)).astype(int) + _STEPS
    drawn = Image.fromarray(steps.astype(np.uint8), mode="P")
    palette, opacities = _palette()
    drawn.putpalette(palette)
    return {"png": _encoded(drawn, transparency=opacities), "source": list(source), "box": list(box)}


def picture(record: np.ndarray, dataset: Dataset) -> str:
    """Draws an image as the model takes it, from the least to the greatest valid value of each channel.

    Args:
        record: (channels, height, width); of other channels than 3 the first is drawn.
        dataset: whose bounds are those of valid values.

    Returns:
        PNG in base64.
    """
    low, high = (np.broadcast_to(end, record.shape) for end in (dataset.low, dataset.high))
    levels = np.rint(255 * ((record - low) / (high - low)).clip(0, 1)).astype(np.uint8)
    return _encoded(Image.fromarray(np.moveaxis(levels, 0, -1) if len(levels) == 3 else levels[0]))


def _encoded(drawn: Image.Image, **settings: Any) -> str:
    content = io.BytesIO()
    drawn.save(content, "PNG", **settings)
    return base64.b64encode(content.getvalue()).decode()


def _smaller(placement: Placement) -> Placement:
    """Returns the same place in the same image with at most ``MOST_SIDE`` pixels a side."""
    share = min(1.0, MOST_SIDE / max(placement.source))
    height, width = (max(1, round(share * side)) for side in placement.source)
    down, across = height / placement.source[0], width / placement.source[1]
    left, upper, right, lower = placement.box
    box = (left * across, upper * down, right * across, lower * down)
    return replace(placement, source=(height, width), box=box)


@cache
def _palette() -> tuple[bytes, bytes]:
    """Returns the colours of the steps, and their opacities."""
    table = np.rint(255 * colours(2 * _STEPS + 1)).astype(np.uint8)
    return table[:, :3].tobytes(), table[:, 3].tobytes()
