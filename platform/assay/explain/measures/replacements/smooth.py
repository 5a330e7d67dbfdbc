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
    """Standard deviation of the blur, as a share of the shortest side of an image, or of the length of a signal."""

    def prepare(self, records: MeasuredRecords) -> Fill:
        coarse = blurred(records.x, self.width * min(records.x.shape[2:]))
        return lambda rows, removed: torch.where(removed, coarse[rows], records.x[rows])


def blurred(values: Tensor, deviation: float) -> Tensor:
    """Returns values after a Gaussian blur over their places; at a border, over those that exist.

    Args:
        values: (n, channels, places) or (n, channels, height, width).
        deviation: of the blur, in places.

    Returns:
        The same shape.
    """
    reach = max(1, min(round(3 * deviation), max(values.shape[2:]) - 1))
    offsets = torch.arange(-reach, reach + 1, dtype=values.dtype, device=values.device)
    kernel = (-(offsets**2) / (2 * deviation**2)).exp()
    for axis in range(2, values.dim()):
        values = _along(values, kernel, axis)
    return values


def _along(values: Tensor, kernel: Tensor, axis: int) -> Tensor:
    moved = values.movedim(axis, -1)
    lines = moved.reshape(-1, 1, moved.shape[-1])
    weight = kernel.view(1, 1, -1)
    reach = len(kernel) // 2
    summed = F.conv1d(lines, weight, padding=reach)
    known = F.conv1d(torch.ones_like(lines[:1]), weight, padding=reach)
    return (summed / known).view(moved.shape).movedim(-1, axis)
