"""GradientSHAP (Lundberg & Lee 2017; Erion et al. 2021, arXiv:1906.10670): expected gradients by independent draws."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from assay.explain.base import Explained, Explainer, gradient_of
from assay.explain.methods.expected_gradients import lines_from
from assay.explain.references import Reference
from assay.explain.scalars import Scalar
from assay.registry import register

_TOGETHER = 2**15
"""Entries of the points that are computed together: more is slower on a processor, whose caches are small."""


@register("explainer")
class GradientShap(Explainer):
    """Mean, over draws of a background record and of a position on the line from it, of gradient times difference.

    It is the estimator of Captum's GradientShap without noise, and of shap's GradientExplainer. The same draws serve
    every record. Odd and even draws are two independent halves, so half their difference estimates the error of the
    mean: the variance that shap returns is not that of the mean. ``expected_gradients`` has the same expected value and
    goes through the whole background in equal steps, so it needs far fewer gradients for the same error. The values add
    up to the change in expectation alone.
    """

    name: Literal["gradient_shap"] = "gradient_shap"
    title: ClassVar[str] = "GradientSHAP"
    samples: int = Field(default=200, ge=2, multiple_of=2)
    """Draws of a background record with a position; 200 are the default of shap."""

    @property
    def from_background(self) -> bool:
        return True

    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        background = lines_from(reference, x, self.title)
        starts, positions = draw.integers(len(background), size=self.samples), draw.random(self.samples)
        points = [
            (int(start), float(place), number % 2)
            for number, (start, place) in enumerate(zip(starts, positions, strict=True))
        ]
        first, other = (
            each / (self.samples // 2) for each in sums_between(model, x, target, background, points, type(self).scalar)
        )
        return Explained(values=(first + other) / 2, second=first)


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
