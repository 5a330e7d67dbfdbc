"""GradientSHAP (Lundberg & Lee 2017; Erion et al. 2021, arXiv:1906.10670): expected gradients by independent draws."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from assay.explain.base import Explained, Explainer
from assay.explain.methods.expected_gradients import lines_from, sums_between
from assay.explain.references import Reference
from assay.registry import register


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
