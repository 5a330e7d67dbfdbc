"""The game of an explanation: what a model answers when only some groups of a record are present.

What an absent group becomes decides what is explained, and results name it:

- ``baseline``: the values of the baseline, the mean of the background. This is baseline Shapley, and what KernelShap of
  Captum computes.
- ``background``: the mean answer over background records, each of which gives its values in turn. This is the marginal
  game of KernelExplainer of shap.

For f = x₁·x₂ at (1, 1) and the background {(0, 0), (1, 1)}, the values are (0.375, 0.375) from 0.25 in the first game,
and (0.25, 0.25) from 0.5 in the second.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from assay.explain.base import Explainer, ExplanationError
from assay.explain.coalition_tables import CoalitionTables, coalition_tables
from assay.explain.groups import group_count, group_names, grouped
from assay.explain.named_groups import Groups, NamedGroups
from assay.explain.references import Reference
from assay.explain.scalars import Scalar
from assay.models.layout import for_many

Absent = Literal["baseline", "background"]

_ENTRIES = 2**16
"""Greatest number of entries of a batch, which has no gradient: more is slower on a processor with small caches."""
_FEWEST, _MOST = 32, 4096
"""Least and greatest number of records of a batch."""


@dataclass(frozen=True, kw_only=True)
class Game:
    """Answers of a model to coalitions of groups, for some records."""

    model: nn.Module
    """From records to logits."""
    x: Tensor
    """(n, ...) records."""
    target: Tensor
    """(n,) class that is explained."""
    absent: Tensor
    """(n, m, ...) values of absent groups; the answer is the mean over the m."""
    groups: Tensor
    """(n, ...) group numbers from 0; −1 for entries that never change."""
    scalar: Scalar
    """That is explained."""

    def of(self, rows: Tensor) -> "Game":
        """Returns the game of some records.

        Args:
            rows: (k,) their positions.

        Returns:
            The game.
        """
        some = {name: getattr(self, name)[rows] for name in ("x", "target", "absent", "groups")}
        return replace(self, **some)

    @torch.no_grad()
    def answers(self, shown: Tensor) -> Tensor:
        """Returns the scalar of each record when only some groups are present.

        Args:
            shown: (k, groups) bool, whether a group is present in a coalition.

        Returns:
            (n, k) float64.
        """
        n, versions = self.absent.shape[:2]
        if self._alike and (tables := coalition_tables(self.model, self.groups[0], len(shown))) is not None:
            return self._looked_up(tables, shown)
        found = torch.empty(n, len(shown), dtype=torch.float64, device=self.x.device)
        game = replace(self, model=for_many(self.model, self.x, n * len(shown) * versions))
        width = self.x[0].numel() * versions
        together = max(1, min(max(_ENTRIES // max(width, 1), _FEWEST // versions), _MOST // versions))
        # The last column is that of entries without a group: always present.
        always = torch.cat([shown, shown.new_ones(len(shown), 1)], dim=1).to(self.x)
        records = max(1, together // len(shown))
        for first in range(0, n, records):
            rows = slice(first, first + records)
            for start in range(0, len(shown), together):
                some = slice(start, start + together)
                found[rows, some] = game._mixed(rows, always[some])
        return found

    @property
    def _alike(self) -> bool:
        """Whether all records have the same groups."""
        return self.groups.stride(0) == 0 or len(self.groups) == 1

    def _looked_up(self, tables: CoalitionTables, shown: Tensor) -> Tensor:
        """Returns the answers to coalitions, (n, coalitions), by tables of the first layers."""
        places = tables.places(shown)
        found = torch.empty(len(self.x), len(shown), dtype=torch.float64)
        for row, (x, versions) in enumerate(zip(self.x, self.absent, strict=True)):
            target = self.target[row].expand(len(shown))
            answers = [self.scalar(tables.logits(x, absent, places), target).double() for absent in versions]
            found[row] = torch.stack(answers).mean(0)
        return found

    def _mixed(self, rows: slice, shown: Tensor) -> Tensor:
        """Returns the answers of a few records to a few coalitions, (records, coalitions), by one call of the model."""
        x, absent, groups = self.x[rows].flatten(1), self.absent[rows].flatten(2), self.groups[rows]
        numbers = (groups[:1] if self._alike or len(x) == 1 else groups).flatten(1)
        numbers = numbers.where(numbers >= 0, shown.shape[1] - 1)
        here = shown.index_select(1, numbers.flatten()).view(len(shown), *numbers.shape).transpose(0, 1).unsqueeze(2)
        # Products with 0 and 1 are exact, and several times as fast as a choice by a mask.
        mixed = torch.addcmul(here * x[:, None, None], 1 - here, absent[:, None]).contiguous()
        shape = mixed.shape[:3]
        target = self.target[rows].view(-1, 1, 1).expand(shape).reshape(-1)
        answers = self.scalar(self.model(mixed.view(-1, *self.x.shape[1:])), target)
        return answers.double().view(shape).mean(2)


class WithGroups(Explainer):
    """Base class of methods that take groups of features away, and of their one setting of groups."""

    most_groups: ClassVar[int | None] = None
    """Greatest number of groups that the method takes; None for no limit."""
    groups: Groups = Field(default=49)
    """Groups of features: the greatest number of them, ``correlated`` for columns that go together in the training
    records (|r| of at least 0.9), or groups with names; see ``assay.explain.named_groups``."""

    @field_validator("groups")
    @classmethod
    def _fit_the_method(cls, groups: Groups) -> Groups:
        count = len(groups.names) if isinstance(groups, NamedGroups) else groups
        if isinstance(count, int) and not 1 <= count <= (cls.most_groups or count):
            limit = "1 or more" if cls.most_groups is None else f"1 to {cls.most_groups}"
            raise ValueError(f"{count} groups: give {limit}")
        return groups

    def group_names(self, reference: Reference, shape: tuple[int, ...]) -> tuple[str, ...]:
        """Returns the names of groups by their number.

        Args:
            reference: what records are compared with.
            shape: of a record.

        Returns:
            The names; empty where groups are numbered.
        """
        return group_names(self.groups, reference, shape)

    def grouped(self, x: Tensor, reference: Reference) -> Tensor:
        """Returns the group of each entry of records.

        Args:
            x: (n, ...) records.
            reference: what records are compared with.

        Returns:
            (n, ...) group numbers from 0; −1 for padding.

        Raises:
            ExplanationError: named groups, with those in none, are more than the method takes.
        """
        found = grouped(x, reference, self.groups)
        count, most = group_count(found), self.most_groups
        if most is not None and count > most:
            raise ExplanationError(
                f"{self.name} takes {most} groups, and there are {count}: name fewer, or use permutation_shapley or "
                "kernel_shap"
            )
        return found


class GroupExplainer(WithGroups):
    """Base class of methods that ask the model for coalitions of groups, which are absent in one of two ways."""

    absent: Absent = Field(default="baseline")
    """What an absent group becomes: the baseline, or each background record in turn, at the cost of as many answers."""

    @property
    def from_background(self) -> bool:
        return self.absent == "background"

    def game(self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, groups: Tensor) -> Game:
        """Returns the game that the method plays.

        Args:
            model: from records to logits.
            x: (n, ...) records.
            target: (n,) class that is explained.
            reference: what records are compared with.
            groups: (n, ...) group numbers.

        Returns:
            The game.

        Raises:
            ExplanationError: background records of a text, which have no places in common with it.
        """
        if self.from_background:
            if reference.modality == "text":
                raise ExplanationError(
                    f"{self.name}: a background record has no words in the places of another text: use absent: baseline"
                )
            absent = reference.background.to(x).unsqueeze(0).expand(len(x), *reference.background.shape)
        else:
            absent = reference.baseline(x).unsqueeze(1)
        return Game(model=model, x=x, target=target, absent=absent, groups=groups, scalar=type(self).scalar)


def by_count(groups: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Yields the records with each number of groups: what is drawn for one must not depend on a longer one beside it.

    Args:
        groups: (n, ...) group numbers from 0; −1 for padding.

    Yields:
        (k,) positions of records, and their number of groups, at least 1.
    """
    counts = groups.flatten(1).amax(1) + 1
    for count in range(1, group_count(groups) + 1):
        rows = (counts == count).nonzero().squeeze(1)
        if len(rows):
            yield rows, count
