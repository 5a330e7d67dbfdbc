"""Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365), with points added until several rules agree.

Points are midpoints of equal steps along the straight line from the baseline. The midpoints of n steps are among those
of 3n, so each tripling computes new gradients only. The change of every value by the tripling, its difference from the
rule of every other point, and the sum of all values tell the error. Each may be 0 by chance: the first two where a
network has one kink, the sum where two wrong values cancel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from assay.explain.base import Explained, Explainer, gradient_of
from assay.explain.references import Reference
from assay.explain.scalars import Scalar
from assay.registry import register

_TOGETHER = 2**15
"""Entries of the points that are computed together: more is slower on a processor, whose caches are small."""


@register("explainer")
class IntegratedGradients(Explainer):
    """Gradient along the line from the baseline to the record, times the difference of the two."""

    name: Literal["integrated_gradients"] = "integrated_gradients"
    title: ClassVar[str] = "Integrated gradients"
    points: int = Field(default=9, ge=1)
    """Points to begin with; they are tripled where two rules disagree."""
    most: int = Field(default=243, ge=1)
    """Greatest number of points, unless ``points`` is more. The error that is left is reported."""
    tolerance: float = Field(default=0.05, gt=0, lt=1)
    """Greatest difference of a value between two rules, relative to the record's greatest value, and of their sum from
    the change that is explained."""

    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        start = reference.baseline(x)
        line = Line(start=start, difference=x - start, target=target)
        count, scalar = self.points, type(self).scalar
        change = _change(model, x, start, target, scalar)
        sums = sums_along(model, line, [(point, place % 2) for place, point in enumerate(midpoints(count))], scalar)
        values, second = _rules(sums, count, line.difference)
        rows = torch.arange(len(x), device=x.device)
        while len(rows) and 3 * count <= self.most:
            # A single point has no second rule.
            left = _is_wrong(values[rows], second[rows], change[rows], self.tolerance) | (count == 1)
            rows, sums, count = rows[left], [each[left] for each in sums], 3 * count
            chosen = line.of(rows)
            # The points before are every third of these, and those at even places are now at odd ones.
            added = sums_along(model, chosen, new_midpoints(count), scalar)
            sums = [sums[1] + added[0], sums[0] + added[1]]
            before = values[rows]
            finer, halved = _rules(sums, count, chosen.difference)
            values[rows] = finer
            second[rows] = torch.where((before - finer).abs() > (halved - finer).abs(), before, halved)
        return Explained(values=values, second=None if self.points == 1 and self.most < 3 else second)


@dataclass(frozen=True, kw_only=True)
class Line:
    """The straight line of each record, on which gradients are taken."""

    start: Tensor
    """(n, ...) where the lines begin."""
    difference: Tensor
    """(n, ...) from there to the records."""
    target: Tensor
    """(n,) class that is explained."""

    def of(self, rows: Tensor) -> "Line":
        """Returns the lines of some records.

        Args:
            rows: (k,) their positions.

        Returns:
            The lines.
        """
        return Line(start=self.start[rows], difference=self.difference[rows], target=self.target[rows])


def midpoints(count: int) -> list[float]:
    """Returns the midpoints of equal steps from 0 to 1.

    Args:
        count: number of steps.

    Returns:
        The points, in rising order.
    """
    return [(number + 0.5) / count for number in range(count)]


def new_midpoints(count: int) -> list[tuple[float, int]]:
    """Returns the midpoints of ``count`` equal steps that are not midpoints of a third as many.

    Args:
        count: number of steps, a multiple of three.

    Returns:
        The points, in rising order, each with 0 if its place among all is even, and 1 if it is odd.
    """
    return [(point, place % 2) for place, point in enumerate(midpoints(count)) if place % 3 != 1]


def sums_along(model: nn.Module, line: Line, points: Sequence[tuple[float, int]], scalar: Scalar) -> list[Tensor]:
    """Returns two sums of each record's gradients at points on its line; memory does not depend on their number.

    Args:
        model: from records to logits.
        line: of each record.
        points: positions on the lines, from 0 to 1, each with the number of the sum that it belongs to, 0 or 1.
        scalar: that is explained.

    Returns:
        Two tensors (n, ...).
    """
    start, n = line.start, len(line.start)
    together = max(1, _TOGETHER // max(1, start.numel()))
    totals = [torch.zeros_like(start), torch.zeros_like(start)]
    for first in range(0, len(points), together):
        some = points[first : first + together]
        places = torch.tensor([place for place, _ in some], dtype=start.dtype, device=start.device)
        between = (start + places.view(-1, *[1] * start.dim()) * line.difference).flatten(0, 1)
        gradient = gradient_of(model, between, line.target.repeat(len(some)), scalar)
        by_point = gradient.view(len(some), n, *start.shape[1:])
        for number, total in enumerate(totals):
            own = [place for place, (_, which) in enumerate(some) if which == number]
            if own:
                total.add_(by_point[own].sum(0))
    return totals


def _rules(sums: Sequence[Tensor], count: int, difference: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the values by all points, and by those at even places.

    Args:
        sums: gradients summed over the points at even places, and over those at odd ones.
        count: number of all points.
        difference: (n, ...) of the records from their baselines.
    """
    even = (count + 1) // 2
    return (sums[0] + sums[1]) / count * difference, sums[0] / even * difference


@torch.no_grad()
def _change(model: nn.Module, x: Tensor, start: Tensor, target: Tensor, scalar: Scalar) -> Tensor:
    return scalar(model(x), target) - scalar(model(start), target)


def _is_wrong(values: Tensor, second: Tensor, change: Tensor, tolerance: float) -> Tensor:
    """Returns for which records a value differs between the rules, or the sum from the change, by more, (n,) bool."""
    most = values.flatten(1).abs().amax(1)
    apart = (values - second).flatten(1).abs().amax(1) > tolerance * most
    missed = (values.flatten(1).sum(1) - change).abs()
    return apart | (missed > tolerance * torch.maximum(most, change.abs()))
