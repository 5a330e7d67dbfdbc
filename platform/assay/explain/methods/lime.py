"""LIME (Ribeiro et al. 2016, arXiv:1602.04938): a weighted linear model of the answers near a record."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from assay import seeds
from assay.explain.base import Explained
from assay.explain.coalitions import Game, WithGroups, by_count
from assay.explain.groups import group_count, spread
from assay.explain.named_groups import Groups
from assay.explain.references import Reference
from assay.registry import register


@dataclass(frozen=True, kw_only=True)
class Surrogate:
    """The linear model of each record."""

    coefficients: Tensor
    """(n, groups) what the presence of a group adds to the scalar."""
    standard_error: Tensor
    """(n, groups) of the coefficients over random coalitions (Huber & White's): it knows nothing of how well a linear
    model describes the network."""
    intercept: Tensor
    """(n,) scalar of the linear model without any group."""


@register("explainer")
class Lime(WithGroups):
    """Coefficients of ridge regression on which groups are present, weighted by how near to the record a coalition is.

    Absent groups are at the baseline, and half of the groups are present on average. The weight of a coalition is
    exp(−D² ÷ width²), where D = 1 − √(share of groups present) is the cosine distance from the record.

    It is our own: lime 0.2.0.1 takes a seed for an explainer, whose second explanation of the same record has other
    values; it gives no standard error, explains a probability, and brings scikit-image and matplotlib. Here the same
    seed gives the same bits. ``second`` comes from the two halves of the coalitions.
    """

    name: Literal["lime"] = "lime"
    title: ClassVar[str] = "LIME"
    adds_up: ClassVar[bool] = False
    needs_gradient: ClassVar[bool] = False
    samples: int = Field(default=1000, ge=10)
    """Coalitions, the record itself included. 1,000 are the default of lime for images."""
    groups: Groups = Field(default=49)
    """Greatest number of groups; or ``correlated``, or groups with names."""
    width: float = Field(default=0.25, gt=0)
    """Width of the kernel, as a cosine distance. 0.25 is the default of lime for images."""
    ridge: float = Field(default=1.0, ge=0)
    """Penalty of squared coefficients; 1 is the default of lime."""

    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        groups = self.grouped(x, reference)
        values = torch.zeros(len(x), group_count(groups), dtype=torch.float64, device=x.device)
        if not values.shape[1]:
            return Explained(values=torch.zeros_like(x))
        second = torch.zeros_like(values)
        for rows, shown, answers in self._answers(model, x, target, reference, groups, draw):
            count = shown.shape[1]
            weights = self._weights(shown)
            values[rows, :count] = fit(shown, weights, answers, self.ridge).coefficients
            one, other = (
                fit(shown[half], weights[half], answers[:, half], self.ridge / 2).coefficients
                for half in (slice(0, None, 2), slice(1, None, 2))
            )
            second[rows, :count] = values[rows, :count] + (one - other) / 2
        return Explained(values=spread(values.to(x), groups), second=spread(second.to(x), groups))

    def surrogate(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Surrogate:
        """Fits the linear model of each record, with the standard error of its coefficients.

        Args:
            model: from records to logits, in evaluation mode.
            x: (n, ...) records.
            target: (n,) class that is explained.
            reference: what records are compared with.
            draw: random numbers; ``attribute`` with an equal generator has the same coefficients.

        Returns:
            The linear models; coefficients of groups that a record lacks are 0.
        """
        groups = self.grouped(x, reference)
        found = torch.zeros(2, len(x), group_count(groups), dtype=torch.float64, device=x.device)
        intercept = found.new_zeros(len(x))
        for rows, shown, answers in self._answers(model, x, target, reference, groups, draw):
            part, count = fit(shown, self._weights(shown), answers, self.ridge), shown.shape[1]
            found[0, rows, :count], found[1, rows, :count] = part.coefficients, part.standard_error
            intercept[rows] = part.intercept
        return Surrogate(coefficients=found[0], standard_error=found[1], intercept=intercept)

    def _answers(  # noqa: PLR0917
        self,
        model: nn.Module,
        x: Tensor,
        target: Tensor,
        reference: Reference,
        groups: Tensor,
        draw: np.random.Generator,
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yields records with equally many groups, their coalitions (samples, groups), and answers (k, samples)."""
        seed = int(draw.integers(2**63))
        absent, scalar = reference.baseline(x).unsqueeze(1), type(self).scalar
        game = Game(model=model, x=x, target=target, absent=absent, groups=groups, scalar=scalar)
        for rows, count in by_count(groups):
            shown = torch.from_numpy(seeds.stream(seed, count).random((self.samples, count)) < 0.5)
            shown[0] = True
            some = game if len(rows) == len(x) else game.of(rows)
            yield rows, shown.to(x.device), some.answers(shown)

    def _weights(self, shown: Tensor) -> Tensor:
        distance = 1 - shown.double().mean(1).sqrt()
        return (-((distance / self.width) ** 2)).exp()


def fit(shown: Tensor, weights: Tensor, answers: Tensor, ridge: float) -> Surrogate:
    """Fits ridge regression with weights, and an intercept that is not penalised.

    Args:
        shown: (samples, groups) bool.
        weights: (samples,) of the coalitions.
        answers: (n, samples) float64.
        ridge: penalty of squared coefficients.

    Returns:
        The linear model of each record.
    """
    presence, weights = shown.to(answers), weights.to(answers)
    share = weights / weights.sum()
    # Differences from one answer: what all answers share then rounds to nothing.
    centre, beyond = share @ presence, answers - answers[:, :1]
    level = beyond @ share
    centred = presence - centre
    normal = centred.T @ (centred * weights[:, None]) + ridge * torch.eye(presence.shape[1]).to(answers)
    # Without a penalty, groups that are always present together have no solution but this smallest one.
    inverse = torch.linalg.pinv(normal, hermitian=True)
    solve = inverse @ (centred * weights[:, None]).T
    coefficients = (beyond - level[:, None]) @ solve.T
    residual = beyond - level[:, None] - coefficients @ centred.T
    free = len(shown) / max(len(shown) - presence.shape[1] - 1, 1)
    error = ((residual**2) @ (solve.T**2) * free).sqrt()
    return Surrogate(
        coefficients=coefficients, standard_error=error, intercept=answers[:, 0] + level - coefficients @ centre
    )
