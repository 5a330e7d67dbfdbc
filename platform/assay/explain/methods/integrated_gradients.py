"""Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365), with points added until two rules agree.

Points are midpoints of equal steps along the straight line from the baseline, and slopes of kinks are averaged over a
step (``assay.explain.kinks``), which takes a fifth of the points that slopes at the points take. The change of every
value from n points to 2n + 1, and the sum of all values, tell the error. Each may be 0 by chance: the first where both
rules miss a narrow step, the sum where two wrong values cancel. Midpoints of n and of 2n steps meet a sudden step of
the gradient alike half of the time, those of n and 2n + 1 steps seldom.
"""

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from assay.explain.base import Explained, Explainer
from assay.explain.line import Line, LineGradients
from assay.explain.references import Reference
from assay.explain.two_rules import agreed
from assay.registry import register

_TEXTS = 16
"""Texts of similar length that are explained together: each takes as long as the longest of them."""


@register("explainer")
class IntegratedGradients(Explainer):
    """Gradient along the line from the baseline to the record, times the difference of the two."""

    name: Literal["integrated_gradients"] = "integrated_gradients"
    title: ClassVar[str] = "Integrated gradients"
    draws: ClassVar[bool] = False
    points: int = Field(default=3, ge=1)
    """Points to begin with, n; 2n + 1 follow, and so on, until two rules agree."""
    most: int = Field(default=255, ge=1)
    """Greatest number of points, unless ``points`` is more. The error that is left is reported; it is unknown where
    this leaves no room for a second rule."""
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
        gradients = LineGradients(model, line, self.points, type(self).scalar)
        if order is None:
            return self._agreed(gradients, line, change)
        parts = [self._agreed(gradients, line.of(rows), change[rows]) for rows in order.split(_TEXTS)]
        back, second = order.argsort(), [part.second for part in parts if part.second is not None]
        values = torch.cat([part.values for part in parts])[back]
        return Explained(values=values, second=torch.cat(second)[back] if second else None)

    def _agreed(self, gradients: LineGradients, line: Line, change: Tensor) -> Explained:
        """Returns the values by as many points as two rules need to agree, and those of the rule before."""

        def values_by(rows: Tensor | slice, count: int) -> Tensor:
            some = line.of(rows)
            return gradients.mean(some, count) * some.difference

        return agreed(values_by, change, points=self.points, most=self.most, tolerance=self.tolerance)


def _line(x: Tensor, target: Tensor, reference: Reference) -> Line:
    start = reference.baseline(x)
    return Line(start=start, difference=x - start, target=target)


def _by_length(x: Tensor, reference: Reference) -> Tensor | None:
    """Returns an order in which texts of similar length follow each other, (n,); None for other records."""
    present = reference.present(x)
    return None if present is None else present.flatten(1).sum(1).argsort(stable=True)
