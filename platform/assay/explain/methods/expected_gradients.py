"""Expected gradients (Erion et al. 2021, arXiv:1906.10670): integrated gradients, averaged over background records."""

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from assay.explain.base import Explained, Explainer, ExplanationError
from assay.explain.line import Line, sums_along
from assay.explain.references import Reference
from assay.registry import register


@register("explainer")
class ExpectedGradients(Explainer):
    """Mean over background records of the gradient along the line from each, times the difference of the two.

    Positions on a line are drawn one in each of equal steps, twice: the two sets are independent, so half their
    difference estimates the error of the mean. Random positions on the whole line, as elsewhere, need many times
    as many gradients.
    """

    name: Literal["expected_gradients"] = "expected_gradients"
    title: ClassVar[str] = "Expected gradients"
    from_background: ClassVar[bool] = True
    points: int = Field(default=6, ge=2, multiple_of=2)
    """Points on the line from each background record, half of them in each set."""

    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        if reference.modality == "text":
            raise ExplanationError("expected gradients need lines between records, and texts of two lengths have none")
        background, steps = reference.background.to(x), self.points // 2
        sets = [torch.zeros_like(x), torch.zeros_like(x)]
        for record in background:
            start = record.expand_as(x)
            line = Line(start=start, difference=x - start, target=target)
            drawn = [(np.arange(steps) + draw.random(steps)) / steps for _ in sets]
            points = [(float(place), number) for number, places in enumerate(drawn) for place in places]
            for total, added in zip(sets, sums_along(model, line, points, type(self).scalar), strict=True):
                total.add_(added / steps * line.difference)
        first, other = (each / len(background) for each in sets)
        return Explained(values=(first + other) / 2, second=first)
