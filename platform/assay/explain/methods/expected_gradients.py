"""Expected gradients (Erion et al. 2021, arXiv:1906.10670): integrated gradients, averaged over background records."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from assay.explain.base import Explained, Explainer, ExplanationError, gradient_of
from assay.explain.references import Reference
from assay.explain.scalars import Scalar
from assay.registry import register

_TOGETHER = 2**15
"""Entries of the points that are computed together: more is slower on a processor, whose caches are small."""


@register("explainer")
class ExpectedGradients(Explainer):
    """Mean over background records of the gradient along the line from each, times the difference of the two.

    Positions on a line are drawn one in each of equal steps, twice: the two sets are independent, so half their
    difference estimates the error of the mean. Random positions on the whole line, as elsewhere, need many times
    as many gradients.
    """

    name: Literal["expected_gradients"] = "expected_gradients"
    title: ClassVar[str] = "Expected gradients"
    points: int = Field(default=6, ge=2, multiple_of=2)
    """Points on the line from each background record, half of them in each set."""

    @property
    def from_background(self) -> bool:
        return True

    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        background, steps = lines_from(reference, x, self.title), self.points // 2
        starts = np.repeat(np.arange(len(background)), self.points)
        positions = (np.arange(steps) + draw.random((len(background), 2, steps))) / steps
        halves = np.tile(np.repeat([0, 1], steps), len(background))
        points = list(zip(starts.tolist(), positions.ravel().tolist(), halves.tolist(), strict=True))
        first, other = (
            each / (len(background) * steps)
            for each in sums_between(model, x, target, background, points, type(self).scalar)
        )
        return Explained(values=(first + other) / 2, second=first)


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


def sums_between(  # noqa: PLR0917
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    background: Tensor,
    points: Sequence[tuple[int, float, int]],
    scalar: Scalar,
) -> list[Tensor]:
    """Returns two sums of gradients at points between background records and records, times their difference.

    Args:
        model: from records to logits.
        x: (n, ...) records.
        target: (n,) class that is explained.
        background: (m, ...) where the lines begin.
        points: the background record of each, the position on the line, from 0 to 1, and the number of the sum, 0 or 1.
        scalar: that is explained.

    Returns:
        Two tensors (n, ...).
    """
    together = max(1, _TOGETHER // max(1, x.numel()))
    totals = [torch.zeros_like(x), torch.zeros_like(x)]
    for first in range(0, len(points), together):
        starts, positions, halves = zip(*points[first : first + together], strict=True)
        start = background[list(starts)].unsqueeze(1)
        place = torch.tensor(positions, dtype=x.dtype, device=x.device).view(-1, *[1] * x.dim())
        difference = x - start
        between = (start + place * difference).flatten(0, 1)
        gradient = gradient_of(model, between, target.repeat(len(starts)), scalar).view_as(difference)
        parts = gradient.mul_(difference)
        for number, total in enumerate(totals):
            own = [index for index, half in enumerate(halves) if half == number]
            if own:
                total.add_(parts[own].sum(0))
    return totals
