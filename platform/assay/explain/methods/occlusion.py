"""Occlusion (Zeiler & Fergus 2014, arXiv:1311.2901): what the answer loses when a part of the record is taken away."""

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from assay.explain.base import Explained
from assay.explain.coalitions import WithGroups
from assay.explain.groups import group_count, spread
from assay.explain.named_groups import Groups
from assay.explain.references import Reference
from assay.registry import register


@register("explainer")
class Occlusion(WithGroups):
    """Scalar of the record minus the scalar with one group at its baseline, for each group in turn."""

    name: Literal["occlusion"] = "occlusion"
    title: ClassVar[str] = "Occlusion"
    adds_up: ClassVar[bool] = False
    needs_gradient: ClassVar[bool] = False
    groups: Groups = Field(default=49)
    """Greatest number of groups; or ``correlated``, or groups with names."""

    @torch.no_grad()
    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        groups, baseline, scalar = self.grouped(x, reference), reference.baseline(x), type(self).scalar
        if not group_count(groups):
            return Explained(values=torch.zeros_like(x))
        whole = scalar(model(x), target)
        lost = [
            whole - scalar(model(torch.where(groups == number, baseline, x)), target)
            for number in range(group_count(groups))
        ]
        return Explained(values=spread(torch.stack(lost, dim=1), groups))
