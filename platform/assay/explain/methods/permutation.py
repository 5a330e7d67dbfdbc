"""Shapley values by random orders of the groups, each with its reverse (antithetic sampling, Mitchell et al. 2022)."""

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from assay.explain.base import Explained
from assay.explain.coalitions import GroupExplainer
from assay.explain.groups import group_count, spread
from assay.explain.named_groups import Groups
from assay.explain.references import Reference
from assay.registry import register


@register("explainer")
class PermutationShapley(GroupExplainer):
    """Mean change of the scalar when a group joins those before it, over random orders and their reverses."""

    name: Literal["permutation_shapley"] = "permutation_shapley"
    title: ClassVar[str] = "Shapley values by permutations"
    needs_gradient: ClassVar[bool] = False
    orders: int = Field(default=16, ge=2)
    """Random orders; each is taken forwards and backwards."""
    groups: Groups = Field(default=64)
    """Greatest number of groups; or ``correlated``, or groups with names."""

    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        groups = self.grouped(x, reference)
        count = group_count(groups)
        if not count:
            return Explained(values=torch.zeros_like(x))
        game = self.game(model, x, target, reference, groups)
        halves = [torch.zeros(len(x), count, dtype=torch.float64, device=x.device) for _ in range(2)]
        for number in range(self.orders):
            # One order for all records: a record's values must not depend on its neighbours.
            order = draw.permutation(self.groups if isinstance(self.groups, int) else count)
            order = order[order < count]
            for each in (order, order[::-1]):
                places = torch.from_numpy(each.copy())
                rank = torch.empty(count, dtype=torch.long).scatter(0, places, torch.arange(count))
                joined = game.answers(rank < torch.arange(count + 1)[:, None]).diff(dim=1)
                halves[number % 2][:, places.to(x.device)] += joined / 2
        sizes = [len(range(half, self.orders, 2)) for half in (0, 1)]
        values, second = (halves[0] + halves[1]) / self.orders, halves[0] / sizes[0]
        return Explained(values=spread(values.to(x), groups), second=spread(second.to(x), groups))
