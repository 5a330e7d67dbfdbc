"""Convolutional network for images and signals."""

from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field, PositiveInt, field_validator
from torch import nn

from assay.data.base import Form
from assay.errors import SpecError
from assay.models.base import Architecture
from assay.registry import register


@register("model")
class CNN(Architecture):
    """Convolutions with ReLU, the first at full size and each later one at half, then two linear layers.

    Two-dimensional on images (channels, height, width), one-dimensional on signals (channels, samples). It uses strides
    instead of maximum pooling and no normalisation that mixes records. So it can train privately, and interval bounds
    and DeepLIFT are exact for it.
    """

    name: Literal["cnn"] = "cnn"
    channels: tuple[PositiveInt, ...] = Field(default=(16, 32), min_length=1)
    """Channels of each convolution."""
    kernel: int | None = Field(default=None, ge=1)
    """Width of each convolution, odd; 3 on images and 5 on signals by default."""
    hidden: int = Field(default=64, ge=1)
    """Width of the layer before the logits."""
    pool: Literal["none", "average"] = "none"
    """``average`` passes the mean of each channel to the linear layers."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Fraction of the inputs of each linear layer that is dropped."""

    @field_validator("kernel")
    @classmethod
    def _has_a_centre(cls, kernel: int | None) -> int | None:
        if kernel is not None and kernel % 2 == 0:
            raise ValueError("a convolution must have a centre: give an odd number")
        return kernel

    def network(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        kernel = self._kernel(shape)
        of_image = len(shape) == 3
        convolution, pool = (nn.Conv2d, nn.AdaptiveAvgPool2d) if of_image else (nn.Conv1d, nn.AdaptiveAvgPool1d)
        layers: list[nn.Module] = []
        for place, (inputs, outputs) in enumerate(pairwise((shape[0], *self.channels))):
            stride = 1 if place == 0 else 2
            layers += [convolution(inputs, outputs, kernel, stride=stride, padding=kernel // 2), nn.ReLU()]
        layers += [pool(1), nn.Flatten()] if self.pool == "average" else [nn.Flatten()]
        with torch.no_grad():
            width = nn.Sequential(*layers)(torch.zeros(1, *shape)).shape[1]
        layers += [*self._drop(), nn.Linear(width, self.hidden), nn.ReLU()]
        return nn.Sequential(*layers, *self._drop(), nn.Linear(self.hidden, classes))

    def build_for(self, form: Form, *, seed: int) -> nn.Module:
        if form.modality == "text":
            raise SpecError(
                "cnn needs images or signals; these records are sentences: use text_cnn or lstm",
                setting="model",
                given=self.name,
                allowed=("text_cnn", "lstm"),
            )
        return super().build_for(form, seed=seed)

    def _kernel(self, shape: tuple[int, ...]) -> int:
        if len(shape) not in (2, 3):
            raise SpecError(
                "cnn needs images (channels, height, width) or signals (channels, samples); "
                f"these records have shape {shape}: use mlp",
                setting="model",
                given=self.name,
                allowed=("mlp",),
            )
        return self.kernel or (3 if len(shape) == 3 else 5)

    def _drop(self) -> list[nn.Module]:
        return [nn.Dropout(self.dropout)] if self.dropout else []
