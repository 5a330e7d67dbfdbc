"""Coarse copies of a record in place of its removed parts: of images and of signals."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from assay.explain.measures.base import MeasuredRecords, Modalities
from assay.explain.measures.replacements.base import Fill, Replacement
from assay.registry import register


@register("replacement")
class Blurred(Replacement):
    """Removed pixels or samples have the values of the record after a Gaussian blur: its details are gone."""

    name: Literal["blurred"] = "blurred"
    title: ClassVar[str] = "the blurred record"
    modalities: ClassVar[Modalities] = frozenset({"image", "signal"})
    width: float = Field(default=0.12, gt=0, le=1)
    """Standard deviation of the blur, as a share of each side of an image, or of the length of a signal."""

    def prepare(self, records: MeasuredRecords) -> Fill:
        coarse = blurred(records.x, self.width)
        return lambda rows, removed: torch.where(removed, coarse[rows], records.x[rows])


def blurred(values: Tensor, width: float, *, least: float = 0.5) -> Tensor:
    """Returns values after a Gaussian blur over their places; at a border, over those that exist.

    Args:
        values: (n, channels, places) or (n, channels, height, width).
        width: standard deviation, as a share of each side.
        least: standard deviation in places, at least.

    Returns:
        The same shape.
    """
    for axis in range(2, values.dim()):
        deviation = max(least, width * values.shape[axis])
        reach = max(1, min(round(3 * deviation), values.shape[axis] - 1))
        offsets = torch.arange(-reach, reach + 1, dtype=values.dtype, device=values.device)
        values = _along(values, (-(offsets**2) / (2 * deviation**2)).exp(), axis)
    return values


def _along(values: Tensor, kernel: Tensor, axis: int) -> Tensor:
    moved = values.movedim(axis, -1)
    lines = moved.reshape(-1, 1, moved.shape[-1])
    weight = kernel.view(1, 1, -1)
    reach = len(kernel) // 2
    summed = F.conv1d(lines, weight, padding=reach)
    known = F.conv1d(torch.ones_like(lines[:1]), weight, padding=reach)
    return (summed / known).view(moved.shape).movedim(-1, axis)
