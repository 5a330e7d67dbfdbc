"""Interpolation from what is left in place of removed parts of images and signals (after ROAD, Rong et al. 2022).

A removed pixel must not show by its value that it was removed (arXiv:2202.00449): interpolated values and a little
noise look like those around. ROAD solves a linear system for each image and state. Here the weights come from
averages at coarser and coarser resolutions: a few poolings, and linear in the remaining pixels as well.
"""

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from assay.explain.measures.base import MeasuredRecords, Modalities
from assay.explain.measures.replacements.base import Fill, Replacement
from assay.registry import register


@register("replacement")
class Neighbours(Replacement):
    """Removed pixels or samples are interpolated from the remaining ones, with a little noise."""

    name: Literal["neighbours"] = "neighbours"
    title: ClassVar[str] = "interpolation with noise"
    modalities: ClassVar[Modalities] = frozenset({"image", "signal"})
    imputes: ClassVar[bool] = True
    noise: float = Field(default=0.1, ge=0)
    """Standard deviation of the noise, as a share of that of all values of a channel in the pool."""

    def prepare(self, records: MeasuredRecords) -> Fill:
        pool = records.pool.to(records.x)
        # By channel: leads of an ECG may differ a thousandfold.
        axes = (0, *range(2, pool.dim()))
        mean, deviation = pool.mean(axes, keepdim=True), pool.std(axes, keepdim=True)
        drawn = records.drawn("neighbours", lambda generator, shape: generator.standard_normal(shape, np.float32))
        noise = drawn * self.noise * deviation
        between = _interpolated_images if records.x.dim() == 4 else _interpolated_signals

        def fill(rows: Tensor, removed: Tensor) -> Tensor:
            x = records.x[rows]
            known = (~removed).to(x).expand_as(x)
            return torch.where(removed, between(x, known, mean) + noise[rows], x)

        return fill


def _interpolated_images(x: Tensor, known: Tensor, mean: Tensor) -> Tensor:
    """Returns a value for each pixel from the known ones, at the finest resolution that has some nearby."""
    levels = [(x * known, known)]
    while max(levels[-1][0].shape[2:]) > 1:
        sums, weights = (F.avg_pool2d(_even(part), 2) for part in levels[-1])
        # One known pixel of four is worth as much as four, so that detail comes from near pixels.
        full = weights.clamp_max(0.25) * 4
        levels.append((sums / weights.clamp_min(1e-6) * full, full))
    sums, weights = levels.pop()
    found = torch.where(weights > 0, sums / weights.clamp_min(1e-6), mean)
    for sums, weights in reversed(levels):
        coarse = F.interpolate(found, scale_factor=2, mode="bilinear", align_corners=False)
        coarse = coarse[..., : sums.shape[2], : sums.shape[3]]
        found = sums + (1 - weights) * coarse
    return found


def _even(part: Tensor) -> Tensor:
    """Adds a row or a column of unknown pixels where their number is odd."""
    return F.pad(part, (0, part.shape[3] % 2, 0, part.shape[2] % 2))


def _interpolated_signals(x: Tensor, known: Tensor, mean: Tensor) -> Tensor:
    """Returns the straight line between the known samples before and after each; the nearest one at an end."""
    length = x.shape[-1]
    place = torch.arange(length, device=x.device).expand(x.shape)
    before = torch.where(known > 0, place, -1).cummax(-1).values
    after = torch.where(known > 0, place, length).flip(-1).cummin(-1).values.flip(-1)
    first, last = before.clamp_min(0), after.clamp_max(length - 1)
    left, right = x.gather(-1, first), x.gather(-1, last)
    share = (place - first).to(x) / (last - first).clamp_min(1)
    line = left + (right - left) * share
    found = torch.where(before < 0, right, torch.where(after >= length, left, line))
    return torch.where((before < 0) & (after >= length), mean, found)
