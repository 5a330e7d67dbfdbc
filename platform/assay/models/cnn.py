"""Convolutional network for images."""

from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import nn

from assay.errors import SpecError
from assay.models.base import Architecture
from assay.registry import register


@register("model")
class CNN(Architecture):
    """3 × 3 convolutions with ReLU, the first at full size and each later one at half, then two linear layers.

    Strides instead of pooling, and no normalisation that mixes records: it trains privately, and interval bounds
    and DeepLIFT follow it exactly.
    """

    name: Literal["cnn"] = "cnn"
    channels: tuple[PositiveInt, ...] = Field(default=(16, 32), min_length=1)
    """Channels of each convolution."""
    hidden: int = Field(default=64, ge=1)
    """Width of the layer before the logits."""

    def network(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        if len(shape) != 3:
            raise SpecError(f"cnn needs images (channels, height, width); these records have shape {shape}: use mlp")
        layers: list[nn.Module] = []
        for place, (inputs, outputs) in enumerate(pairwise((shape[0], *self.channels))):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=1 if place == 0 else 2, padding=1), nn.ReLU()]
        layers.append(nn.Flatten())
        with torch.no_grad():
            width = nn.Sequential(*layers)(torch.zeros(1, *shape)).shape[1]
        return nn.Sequential(*layers, nn.Linear(width, self.hidden), nn.ReLU(), nn.Linear(self.hidden, classes))
