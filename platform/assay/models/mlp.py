"""Multi-layer perceptron."""

import math
from itertools import pairwise
from typing import Literal

from pydantic import Field, PositiveInt
from torch import nn

from assay.models.base import Architecture
from assay.registry import register


@register("model")
class MLP(Architecture):
    """Fully connected layers with ReLU between them; no hidden layer makes it logistic regression."""

    name: Literal["mlp"] = "mlp"
    hidden: tuple[PositiveInt, ...] = Field(default=(64, 32))
    """Width of each hidden layer."""

    def network(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        widths = [math.prod(shape), *self.hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(widths[-1], classes))
