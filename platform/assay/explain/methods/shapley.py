"""Shapley values and pairwise interactions of a few groups of features, exactly, by all of their combinations."""

import math
from functools import cache
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from assay.devices import repeatable
from assay.explain.base import Explained
from assay.explain.coalitions import Game, GroupExplainer
from assay.explain.groups import group_count, spread
from assay.explain.named_groups import Groups
from assay.explain.references import Reference
from assay.explain.scalars import Scalar
from assay.explain.untouched import untouched
from assay.registry import register

MOST_GROUPS = 14


@register("explainer")
class ExactShapley(GroupExplainer):
    """Shapley values of up to 14 groups: the model answers each of their 2ᴳ combinations, so nothing is drawn.

    What absent groups become is ``absent``, by default the baseline. The value of a group is spread evenly over its
    entries.
    """

    name: Literal["exact_shapley"] = "exact_shapley"
    title: ClassVar[str] = "Exact Shapley values"
    needs_gradient: ClassVar[bool] = False
    most_groups: ClassVar[int | None] = MOST_GROUPS
    groups: Groups = Field(default=12)
    """Greatest number of groups, at most 14: patches of an image, windows of a signal, words, columns of a table; or
    ``correlated``, or groups with names."""

    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        groups = self.grouped(x, reference)
        if not group_count(groups):
            return Explained(values=torch.zeros_like(x))
        answers = all_answers(self.game(model, x, target, reference, groups))
        return Explained(values=spread(shapley_values(answers).to(x), groups))

    def interactions(self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference) -> Tensor:
        """Returns the Shapley interaction index of each pair of groups, for each record.

        Args:
            model: from records to logits.
            x: (n, ...) records.
            target: (n,) class that is explained.
            reference: what records are compared with.

        Returns:
            (n, G, G) float64, symmetric, with 0 on the diagonal; see ``interactions``.
        """
        with untouched(model), repeatable():
            return interactions(all_answers(self.game(model, x, target, reference, self.grouped(x, reference))))


def combinations(  # noqa: PLR0917
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor, groups: Tensor, scalar: Scalar
) -> Tensor:
    """Returns the scalar of each record for every combination of its groups, where absent ones are at the baseline.

    Args:
        model: from records to logits.
        x: (n, ...) records.
        target: (n,) class that is explained.
        baseline: (n, ...) values of absent groups.
        groups: (n, ...) group numbers from 0; −1 for entries that never change.
        scalar: that is explained.

    Returns:
        (n, 2ᴳ) float64; bit g of a column's number tells whether group g is present.
    """
    absent = baseline.expand_as(x).unsqueeze(1)
    return all_answers(Game(model=model, x=x, target=target, absent=absent, groups=groups, scalar=scalar))


def all_answers(game: Game) -> Tensor:
    """Returns the answers to all combinations of groups.

    Args:
        game: of the records.

    Returns:
        (n, 2ᴳ) float64; bit g of a column's number tells whether group g is present.
    """
    count = group_count(game.groups)
    numbers = torch.arange(2**count)
    return game.answers((numbers[:, None] >> torch.arange(count)) & 1 == 1)


def shapley_values(answers: Tensor) -> Tensor:
    """Returns the Shapley value of each group.

    Args:
        answers: (n, 2ᴳ) from ``combinations``.

    Returns:
        (n, G) values; they add up to the answer with all groups minus that with none.
    """
    # Differences from one answer: what all answers share then rounds to nothing.
    return (answers - answers[:, :1]) @ _shares(answers.shape[1].bit_length() - 1).to(answers)


def interactions(answers: Tensor) -> Tensor:
    """Returns the Shapley interaction index of each pair of groups (Grabisch & Roubens 1999).

    It is the mean, over the combinations of the other groups, of what the two do together beyond what each does alone.

    Args:
        answers: (n, 2ᴳ) from ``combinations``.

    Returns:
        (n, G, G) symmetric, with 0 on the diagonal.
    """
    count = answers.shape[1].bit_length() - 1
    sizes = _sizes(count)
    found = answers.new_zeros(len(answers), count, count)
    for one in range(count):
        for other in range(one):
            without = torch.tensor([s for s in _without(count, one).tolist() if not s >> other & 1])
            weights = _weights(count, 2).to(answers)[sizes[without]]
            first, second = 2**one, 2**other
            both = answers[:, without + first + second] - answers[:, without + first]
            beyond = both - answers[:, without + second] + answers[:, without]
            found[:, one, other] = found[:, other, one] = (beyond * weights).sum(1)
    return found


@cache
def _shares(count: int) -> Tensor:
    """Returns how much of the answer to each combination every group gets, (2ᴳ, G)."""
    sizes, weights = _sizes(count), torch.cat([_weights(count, 1), torch.zeros(1, dtype=torch.float64)])
    shares = torch.empty(2**count, count, dtype=torch.float64)
    for group in range(count):
        present = (torch.arange(2**count) >> group) & 1 == 1
        shares[:, group] = torch.where(present, weights[sizes - 1], -weights[sizes])
    return shares


def _sizes(count: int) -> Tensor:
    """Returns the number of groups in each combination, (2ᴳ,)."""
    numbers = torch.arange(2**count)
    return sum(((numbers >> group) & 1 for group in range(count)), torch.zeros_like(numbers))


def _without(count: int, group: int) -> Tensor:
    """Returns the combinations that lack a group."""
    numbers = torch.arange(2**count)
    return numbers[(numbers >> group) & 1 == 0]


def _weights(count: int, together: int) -> Tensor:
    """Returns the weight of a combination by its size: s! (G − s − k)! ÷ (G − k + 1)! for k groups that join it."""
    most = count - together
    return torch.tensor(
        [math.factorial(size) * math.factorial(most - size) / math.factorial(most + 1) for size in range(most + 1)],
        dtype=torch.float64,
    )
