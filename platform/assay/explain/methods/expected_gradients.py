"""Expected gradients (Erion et al. 2021, arXiv:1906.10670): integrated gradients, averaged over background records.

Positions on the lines are midpoints of equal steps, with the slopes of kinks averaged over a step
(``assay.explain.kinks``). Random positions, as elsewhere, need many times as many gradients for the same error.
"""

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from assay.explain.base import Explained, Explainer, ExplanationError
from assay.explain.line import Line, LineGradients
from assay.explain.references import Reference
from assay.explain.two_rules import agreed
from assay.registry import register

_LINES = 256
"""Lines, from background records to records, that are gone along together."""


@register("explainer")
class ExpectedGradients(Explainer):
    """Mean over background records of the gradient along the line from each, times the difference of the two."""

    name: Literal["expected_gradients"] = "expected_gradients"
    title: ClassVar[str] = "Expected gradients"
    draws: ClassVar[bool] = False
    points: int = Field(default=2, ge=1)
    """Points on the line from each background record to begin with, n; 2n + 1 follow, and so on, until two rules agree
    on the values of a record."""
    most: int = Field(default=47, ge=1)
    """Greatest number of points on a line, unless ``points`` is more. The error that is left is reported; it is unknown
    where this leaves no room for a second rule."""
    tolerance: float = Field(default=0.05, gt=0, lt=1)
    """Greatest difference of a value between two rules, relative to the record's greatest value, and of their sum from
    the change that is explained."""

    @property
    def from_background(self) -> bool:
        return True

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
        background = lines_from(reference, x, self.title)
        some = _lines(x[:1], target[:1], background[:_LINES])
        gradients = LineGradients(model, some, len(x) * self.points, type(self).scalar)

        def values_by(rows: Tensor | slice, count: int) -> Tensor:
            records, classes = x[rows], target[rows]
            total = torch.zeros_like(records)
            for starts in background.split(max(1, _LINES // len(records))):
                lines = _lines(records, classes, starts)
                parts = gradients.mean(lines, count) * lines.difference
                total += parts.unflatten(0, (len(starts), -1)).sum(0)
            return total / len(background)

        return agreed(values_by, change, points=self.points, most=self.most, tolerance=self.tolerance)


def _lines(x: Tensor, target: Tensor, background: Tensor) -> Line:
    """Returns the lines from each background record to all records, those of one background record after each other."""
    start = background.repeat_interleave(len(x), 0)
    difference = x.repeat(len(background), *[1] * (x.dim() - 1)) - start
    return Line(start=start, difference=difference, target=target.repeat(len(background)))


def lines_from(reference: Reference, x: Tensor, title: str) -> Tensor:
    """Returns the background records, from which there are lines to the records.

    Args:
        reference: what records are compared with.
        x: (n, ...) records.
        title: of the method, for the message.

    Returns:
        (m, ...) background records.

    Raises:
        ExplanationError: the records are texts.
    """
    if reference.modality == "text":
        raise ExplanationError(f"{title} needs lines between records, and texts of two lengths have none")
    return reference.background.to(x)
