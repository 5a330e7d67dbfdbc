"""Curves of the answer while features are removed or restored in the order of a map (Petsiuk et al. 2018).

The curves (arXiv:1806.07421) are those of the scalar that explanations explain, the log-odds of the target. A feature
is a pixel with all its channels, or a word. Curves begin with the whole record or with nothing, end with the other, and
are integrated over the shares that were really removed. Features that share a score are taken in a random order: a
constant map is worth exactly what a random one is.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from assay.explain.base import NotFiniteError
from assay.explain.measures.base import ExplanationMeasure, MeasuredMap, MeasuredRecords
from assay.explain.measures.replacements.base import Fill, panel, prepared
from assay.explain.scalars import log_odds
from assay.models.batches import respond
from assay.registry import register

STEPS = 50
"""Usual greatest number of steps of a curve."""
_ENTRIES = 2**16
"""Entries of the records that are changed at once: more is slower on a processor, whose caches are small."""


@dataclass(frozen=True, kw_only=True)
class Areas:
    """Areas under both curves of a map, in log-odds, and their common ends."""

    deletion: Tensor
    """(n,) mean log-odds while features are removed, highest score first. Low is faithful."""
    insertion: Tensor
    """(n,) mean log-odds while features are restored, highest score first. High is faithful."""
    whole: Tensor
    """(n,) log-odds of the whole records."""
    without: Tensor
    """(n,) log-odds with all features removed."""

    @property
    def between(self) -> Tensor:
        """(n,) insertion minus deletion: 0 on average for a map that knows nothing."""
        return self.insertion - self.deletion

    @property
    def change(self) -> Tensor:
        """(n,) greatest change that the curves can show: that of the answer by all features."""
        return (self.whole - self.without).abs()


@torch.no_grad()
def areas(records: MeasuredRecords, scores: Tensor, fill: Fill, *, steps: int = STEPS) -> Areas:
    """Returns the areas under the curves of deletion and insertion.

    Args:
        records: with the model.
        scores: (n, ...) by feature.
        fill: how features are removed.
        steps: greatest number of steps of a curve; a record with fewer features has one for each.

    Returns:
        The areas, by record.
    """
    rank = ranked(records, scores)
    count = records.count.view(-1, *[1] * (rank.dim() - 1))
    removed = curve(records, rank, fill, steps, removes_first=True)
    restored = curve(records, rank, fill, steps, removes_first=False)
    shares = _removed(count, steps).flatten(1).to(removed) / records.count.clamp_min(1)
    return Areas(
        deletion=torch.trapezoid(removed, shares, dim=0),
        insertion=torch.trapezoid(restored, shares, dim=0),
        whole=removed[0],
        without=removed[-1],
    )


def ranked(records: MeasuredRecords, scores: Tensor) -> Tensor:
    """Returns the place of each feature as ``ranks`` does, among equal scores in the random order of the records.

    Args:
        records: whose features are ranked.
        scores: (n, ...) of each feature.

    Returns:
        (n, ...) places, int64.
    """
    return _ranks(scores.masked_fill(~records.features, -torch.inf), records.shuffled)


def ranks(scores: Tensor, ties: Tensor, features: Tensor | None = None) -> Tensor:
    """Returns the place of each feature in its record, highest score first, from 0.

    Args:
        scores: (n, ...) of each feature.
        ties: (n, ...) random numbers, highest first among features with equal scores.
        features: (n, ...) which of them are real; the others come last. All by default.

    Returns:
        (n, ...) places, int64.
    """
    known = scores if features is None else scores.masked_fill(~features, -torch.inf)
    return _ranks(known, ties.expand_as(known).flatten(1).argsort(dim=1, descending=True, stable=True))


def _ranks(known: Tensor, shuffled: Tensor) -> Tensor:
    """Returns the place of each score, among equal ones in the order of ``shuffled``."""
    flat = known.detach().flatten(1)
    # NumPy's quick order is several times as fast, and arbitrary where scores are equal: these records go another way.
    order = torch.from_numpy(np.argsort(-flat.cpu().numpy(), axis=1)).to(flat.device)
    ordered = flat.gather(1, order)
    tied = (~(ordered[:, 1:] < ordered[:, :-1])).any(1)
    if bool(tied.any()):
        some = shuffled[tied]
        again = flat[tied].gather(1, some).argsort(dim=1, descending=True, stable=True)
        order[tied] = some.gather(1, again)
    return inverse(order).view_as(known)


def inverse(order: Tensor) -> Tensor:
    """Returns the place of each number in permutations.

    Args:
        order: (n, k) of the numbers from 0 to k − 1, int64.

    Returns:
        (n, k) places, int64.
    """
    return torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )


def _removed(count: Tensor, steps: int) -> Tensor:
    """Returns the number of features that are removed after each step, (steps + 1, n, ...), rising to all."""
    most = max(1, min(int(count.max()), steps))
    shares = torch.linspace(0, 1, most + 1, dtype=torch.float64, device=count.device)
    return (shares.view(-1, *[1] * count.dim()) * count).round()


@torch.no_grad()
def curve(records: MeasuredRecords, rank: Tensor, fill: Fill, steps: int, *, removes_first: bool) -> Tensor:
    """Returns the log-odds after each step of a curve.

    Args:
        records: with the model.
        rank: (n, ...) place of each feature, from ``ranks``.
        fill: how features are removed.
        steps: greatest number of steps.
        removes_first: whether features are removed, first rank first; else all are removed and then restored.

    Returns:
        (steps + 1, n) log-odds; fewer steps where all records have fewer features.
    """
    count = records.count.view(-1, *[1] * (rank.dim() - 1))
    small = torch.int16 if rank[0].numel() < 2**15 else torch.int32  # less to read
    removed, rank = _removed(count, steps).to(small), rank.to(small)
    flat = removed.flatten(1)
    # Records with few features repeat some states: a text of 19 words has 20 states, not 51. Both ends are the same for
    # all maps.
    new = torch.cat([torch.ones_like(flat[:1], dtype=torch.bool), flat[1:] != flat[:-1]])
    none, every = flat == 0, flat == records.count
    new &= ~(none | every)
    state, row = new.nonzero(as_tuple=True)
    values = torch.empty(len(row), dtype=records.x.dtype, device=records.x.device)
    everywhere = bool(records.features.all())
    together = max(1, _ENTRIES // max(1, records.x[0].numel()))
    for first in range(0, len(row), together):
        here = slice(first, first + together)
        own = rank[row[here]]
        border = removed[state[here], row[here]]
        gone = (own < border) if removes_first else (own >= border)
        mixed = fill(row[here], gone if everywhere else gone & records.features[row[here]])
        values[here] = log_odds(respond(records.reader, mixed), records.target[row[here]]).to(values)
    whole, without = records.whole.to(values), _without(records, fill).to(values)
    if not all(bool(one.isfinite().all()) for one in (values, whole, without)):
        raise NotFiniteError("the model answers NaN or infinity for records with some features replaced")
    found = torch.where(none, whole, without) if removes_first else torch.where(none, without, whole)
    if len(row):
        # A state that is not new has the value of the last new one of its record.
        place = torch.zeros(new.shape, dtype=torch.long, device=new.device)
        place[state, row] = torch.arange(len(row), device=new.device)
        found = torch.where(none | every, found, values[place.cummax(0).values])
    return found


def _without(records: MeasuredRecords, fill: Fill) -> Tensor:
    """Returns the log-odds of the records without their features, (n,)."""
    key = ("without features", fill)
    if key not in records.cache:
        rows = torch.arange(len(records.x), device=records.x.device)
        parts = rows.split(max(1, _ENTRIES // max(1, records.x[0].numel())))
        answers = [respond(records.reader, fill(part, records.features[part])) for part in parts]
        records.cache[key] = log_odds(torch.cat(answers), records.target)
    found: Tensor = records.cache[key]
    return found


class _Curves(ExplanationMeasure):
    """Mean of a curve over the panel of replacements.

    Args:
        steps: of a curve.
    """

    steps: int = Field(default=STEPS, ge=1)
    """Greatest number of steps of a curve."""

    def score(self, records: MeasuredRecords, explained: MeasuredMap) -> Tensor:
        found = [
            self._of(areas(records, explained.values, prepared(records, replacement), steps=self.steps))
            for replacement in panel(records.reference.modality)
        ]
        return torch.stack(found).mean(0)

    def _of(self, found: Areas) -> Tensor:
        raise NotImplementedError


@register("explanation_measure")
class Deletion(_Curves):
    """Mean log-odds of the class while features are removed, highest value first, over the panel of replacements."""

    name: Literal["deletion"] = "deletion"
    title: ClassVar[str] = "Deletion"
    meaning: ClassVar[str] = "Mean log-odds of the class while features are removed, highest value first."
    catches: ClassVar[str] = "Features that matter and are ranked low; high values where nothing depends on them."
    misses: ClassVar[str] = "The size of the values; how features that are ranked low are ordered."
    better: ClassVar[Literal["lower"]] = "lower"
    decides: ClassVar[bool] = True

    def _of(self, found: Areas) -> Tensor:
        return found.deletion


@register("explanation_measure")
class Insertion(_Curves):
    """Mean log-odds of the class while features are restored, highest value first, over the panel of replacements."""

    name: Literal["insertion"] = "insertion"
    title: ClassVar[str] = "Insertion"
    meaning: ClassVar[str] = "Mean log-odds of the class while features are restored, highest value first."
    catches: ClassVar[str] = "Features that suffice for the answer and are ranked low; wrong signs."
    misses: ClassVar[str] = "The size of the values; a record with few features left is far from all data."
    better: ClassVar[Literal["higher"]] = "higher"
    decides: ClassVar[bool] = True

    def _of(self, found: Areas) -> Tensor:
        return found.insertion


@register("explanation_measure")
class AreaBetween(_Curves):
    """Insertion minus deletion, over the panel of replacements: both ends of the ranking count."""

    name: Literal["area_between"] = "area_between"
    title: ClassVar[str] = "Area between the curves"
    meaning: ClassVar[str] = "Insertion minus deletion, in log-odds; 0 on average for a map that knows nothing."
    catches: ClassVar[str] = "Wrong ranks at either end, and wrong signs."
    misses: ClassVar[str] = "The size of the values."
    better: ClassVar[Literal["higher"]] = "higher"
    decides: ClassVar[bool] = True

    def _of(self, found: Areas) -> Tensor:
        return found.between
