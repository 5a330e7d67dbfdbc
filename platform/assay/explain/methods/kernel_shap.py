"""Kernel SHAP: Shapley values of groups by regression on sampled coalitions (Lundberg & Lee 2017, arXiv:1705.07874)."""

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from assay import seeds
from assay.explain.base import Explained, ExplanationError
from assay.explain.coalitions import Game, GroupExplainer, by_count
from assay.explain.groups import group_count, spread
from assay.explain.methods.shapley import MOST_GROUPS, all_answers, shapley_values
from assay.explain.named_groups import Groups
from assay.explain.references import Reference
from assay.explain.sampling import Pairs, Sampling, sampled_pairs
from assay.explain.shapley_fits import Fit, determines, expected_error, value_weights
from assay.registry import register

_SAMPLES = 16
"""Samples of which the best is taken."""
_FEW = 8
"""Pairs a group below which samples differ much: with two answers a group, many hardly determine the values."""


@register("explainer")
class KernelShap(GroupExplainer):
    """Shapley values by regression on coalitions that are drawn in pairs with their complements.

    By default they are drawn by leverage (Musco & Witter, ICLR 2025, arXiv:2410.01917), without replacement: each size
    of coalition equally often, where Kernel SHAP prefers the smallest and the largest. Where there are few answers, the
    sample with the least expected error of several is taken, half of which have all single groups. Every group has a
    value: none is set to 0 by a selection of features. The values add up to the change exactly, by constraint. With a
    budget of 2ᴳ or more, all coalitions are asked and the values are exact.

    What absent groups become is ``absent``. By default it is the baseline, so the game is that of ``exact_shapley``.
    The error comes from the two halves of the sample: half the difference of their values, or, where a half has
    fewer pairs than groups, the difference from the values of the first half.
    """

    name: Literal["kernel_shap"] = "kernel_shap"
    title: ClassVar[str] = "Kernel SHAP"
    needs_gradient: ClassVar[bool] = False
    budget: int = Field(default=1024, ge=4, le=2**14)
    """Greatest number of coalitions that the model answers for a record, those of all groups and of none included; at
    least two a group."""
    groups: Groups = Field(default=64)
    """Greatest number of groups; or ``correlated``, or groups with names."""
    sampling: Sampling = "leverage"
    """How coalitions are drawn: each size equally often, or as the weights of the regression."""
    fit: Fit = "smooth"
    """The estimator: ``linear`` is the regression of Kernel SHAP, ``smooth`` has a smaller error; see
    ``assay.explain.shapley_fits``."""

    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        groups = self.grouped(x, reference)
        width, seed = group_count(groups), int(draw.integers(2**63))
        if not width:
            return Explained(values=torch.zeros_like(x))
        game = self.game(model, x, target, reference, groups)
        values = torch.zeros(len(x), width, dtype=torch.float64, device=x.device)
        second = torch.zeros_like(values)
        for rows, count in by_count(groups):
            some = game if len(rows) == len(x) else game.of(rows)
            values[rows, :count], second[rows, :count] = self._of_game(some, count, seed)
        return Explained(values=spread(values.to(x), groups), second=spread(second.to(x), groups))

    def _of_game(self, game: Game, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Returns the values of records with as many groups, (n, count), and those by the second rule."""
        if count <= MOST_GROUPS and self.budget >= 2**count:
            exact = shapley_values(all_answers(game))
            return exact, exact
        if self.budget < 2 * count:
            raise ExplanationError(
                f"a budget of {self.budget} answers does not determine {count} groups: give {2 * count} or more, "
                "or fewer groups"
            )
        pairs = self._pairs(count, seeds.stream(seed, count))
        k = len(pairs.shown)
        shown = torch.from_numpy(np.concatenate([pairs.shown, ~pairs.shown, [[True] * count, [False] * count]]))
        answers = game.answers(shown)
        change = answers[:, 2 * k] - answers[:, 2 * k + 1]
        odd = (answers[:, :k] - answers[:, k : 2 * k]) / 2
        beyond = odd - change[:, None] * torch.from_numpy(pairs.shown.mean(1) - 0.5).to(odd)
        values, one, other = (
            change[:, None] / count + beyond @ torch.from_numpy(value_weights(pairs, weights, self.fit)).to(odd)
            for weights in (pairs.weights, *pairs.halves)
        )
        if all(determines(pairs.shown[half > 0]) for half in pairs.halves):
            return values, values + (one - other) / 2
        # A sample that does not determine the values agrees with its half in what neither of them tells: they may be
        # wrong by as much as they are.
        return values, one if determines(pairs.shown) else torch.zeros_like(values)

    def _pairs(self, count: int, draw: np.random.Generator) -> Pairs:
        """Draws the sample: where there are few answers, the best of several, by what is known before any answer."""
        wanted = self.budget // 2 - 1
        if wanted >= _FEW * count:
            return sampled_pairs(count, wanted, self.sampling, draw)
        # By the linear regression, single groups alone would have a bias.
        mixed = [self.fit == "smooth" and number % 2 == 1 for number in range(_SAMPLES)]
        samples = [sampled_pairs(count, wanted, self.sampling, draw, singles=singles) for singles in mixed]
        return min(samples, key=lambda sample: (not determines(sample.shown), expected_error(sample)))
