"""The blurred map: blurring adds no knowledge of the model, so a measure that prefers it measures smoothness."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from assay.explain.measures.base import MeasuredRecords, Modalities
from assay.explain.measures.controls.base import Control
from assay.explain.measures.replacements.smooth import blurred
from assay.registry import register


@register("explanation_control")
class BlurredMap(Control):
    """The map after a Gaussian blur; of a text, along its words (arXiv:2304.13836)."""

    name: Literal["blurred_map"] = "blurred_map"
    title: ClassVar[str] = "the same map, blurred"
    modalities: ClassVar[Modalities] = frozenset({"image", "signal", "text"})
    random: ClassVar[bool] = False
    decides: ClassVar[bool] = False
    width: float = Field(default=0.05, gt=0, le=1)
    """Standard deviation, as a share of each side of an image or of the length of a signal; of a text, one word."""

    def draw(self, records: MeasuredRecords, values: Tensor, number: int) -> Tensor:
        if records.reference.modality != "text":
            return blurred(values, self.width)
        here = records.features.to(values)
        line, weight = (part.transpose(1, 2) for part in (values * here, here))
        # Over the words that are there: padding has no part in it.
        near = [blurred(torch.nn.functional.pad(part, (4, 4)), 0.0, least=1.0)[..., 4:-4] for part in (line, weight)]
        return (near[0] / near[1].clamp_min(1e-6)).transpose(1, 2) * here
