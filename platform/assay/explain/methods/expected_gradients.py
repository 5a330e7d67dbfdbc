"""Expected gradients (Erion et al. 2021, arXiv:1906.10670): integrated gradients, averaged over background records."""

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from assay.explain.base import Explained, Explainer
from assay.explain.methods.integrated_gradients import Line, gradients_along
from assay.explain.references import Reference
from assay.registry import register


@register("explainer")
class ExpectedGradients(Explainer):
    """Mean over background records of the gradient along the line from each, times the difference of the two.

    Positions on a line are drawn one in each of equal steps. Random positions on the whole line, as elsewhere, need
    about ten times as many gradients for the same error.
    """

    name: Literal["expected_gradients"] = "expected_gradients"
    title: ClassVar[str] = "Expected gradients"
    from_background: ClassVar[bool] = True
    points: int = Field(default=4, ge=2)
    """Points on the line from each background record."""

    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        background = reference.background.to(x)
        halves = [torch.zeros_like(x), torch.zeros_like(x)]
        for record in background:
            start = record.expand_as(x)
            places = (np.arange(self.points) + draw.random(self.points)) / self.points
            line = Line(start=start, difference=x - start, target=target)
            for half in (0, 1):
                some = list(places[half::2])
                halves[half] += gradients_along(model, line, some, type(self).scalar) / len(some) * line.difference
        shares = [len(range(half, self.points, 2)) / self.points for half in (0, 1)]
        first, other = (half / len(background) for half in halves)
        return Explained(values=shares[0] * first + shares[1] * other, second=first)
