"""Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365), with points added until several rules agree.

Points are midpoints of equal steps along the straight line from the baseline. The midpoints of n steps are among those
of 3n, so each tripling computes new gradients only. The change of every value by the tripling, its difference from the
rule of every other point, and the sum of all values tell the error. Each may be 0 by chance: the first two where a
network has one kink, the sum where two wrong values cancel.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from assay.explain.base import Explained, Explainer
from assay.explain.line import Line, midpoints, new_midpoints, sums_along
from assay.explain.references import Reference
from assay.registry import register

_TEXTS = 16
"""Texts of similar length that are explained together: each takes as long as the longest of them."""


@register("explainer")
class IntegratedGradients(Explainer):
    """Gradient along the line from the baseline to the record, times the difference of the two."""

    name: Literal["integrated_gradients"] = "integrated_gradients"
    title: ClassVar[str] = "Integrated gradients"
    draws: ClassVar[bool] = False
    points: int = Field(default=9, ge=1)
    """Points to begin with; they are tripled where two rules disagree."""
    most: int = Field(default=243, ge=1)
    """Greatest number of points, unless ``points`` is more. The error that is left is reported."""
    tolerance: float = Field(default=0.05, gt=0, lt=1)
    """Greatest difference of a value between two rules, relative to the record's greatest value, and of their sum from
    the change that is explained."""

    def attribute_change(
        self,
        model: nn.Module,
        x: Tensor,
        target: Tensor,
        reference: Reference,
        draw: np.random.Generator,
        *,
        change: Tensor,
    ) -> Explained:
        line, order = _line(x, target, reference), _by_length(x, reference)
        if order is None:
            values, second = self._both(model, line, change)
        else:
            found = [self._both(model, line.of(rows), change[rows]) for rows in order.split(_TEXTS)]
            values, second = (torch.cat(each)[order.argsort()] for each in zip(*found, strict=True))
        return Explained(values=values, second=None if self.points == 1 and self.most < 3 else second)

    def _both(self, model: nn.Module, line: Line, change: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the values, and those of the rule that differs most, entry by entry."""
        count, scalar = self.points, type(self).scalar
        sums = sums_along(model, line, [(point, place % 2) for place, point in enumerate(midpoints(count))], scalar)
        values, second = _rules(sums, count, line.difference)
        rows = torch.arange(len(values), device=values.device)
        while 3 * count <= self.most:
            # A single point has no second rule.
            left = _is_wrong(values[rows], second[rows], change[rows], self.tolerance) | (count == 1)
            if not bool(left.any()):
                break
            rows, sums, count = rows[left], [each[left] for each in sums], 3 * count
            chosen = line.of(rows)
            # The points before are every third of these, and those at even places are now at odd ones.
            added = sums_along(model, chosen, new_midpoints(count), scalar)
            sums = [sums[1] + added[0], sums[0] + added[1]]
            before = values[rows]
            finer, halved = _rules(sums, count, chosen.difference)
            values[rows] = finer
            second[rows] = torch.where((before - finer).abs() > (halved - finer).abs(), before, halved)
        return values, second


def _line(x: Tensor, target: Tensor, reference: Reference) -> Line:
    start = reference.baseline(x)
    return Line(start=start, difference=x - start, target=target)


def _by_length(x: Tensor, reference: Reference) -> Tensor | None:
    """Returns an order in which texts of similar length follow each other, (n,); None for other records."""
    present = reference.present(x)
    return None if present is None else present.flatten(1).sum(1).argsort(stable=True)


def _rules(sums: Sequence[Tensor], count: int, difference: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the values by all points, and by those at even places.

    Args:
        sums: gradients summed over the points at even places, and over those at odd ones.
        count: number of all points.
        difference: (n, ...) of the records from their baselines.
    """
    even = (count + 1) // 2
    return (sums[0] + sums[1]) / count * difference, sums[0] / even * difference


def _is_wrong(values: Tensor, second: Tensor, change: Tensor, tolerance: float) -> Tensor:
    """Returns for which records a value differs between the rules, or the sum from the change, by more, (n,) bool."""
    most = values.flatten(1).abs().amax(1)
    apart = (values - second).flatten(1).abs().amax(1) > tolerance * most
    missed = (values.flatten(1).sum(1) - change).abs()
    return apart | (missed > tolerance * torch.maximum(most, change.abs()))
