"""F-Fidelity: removal judged by a network that has learnt to read records with gaps (Zheng et al., ICLR 2025).

A record with many features removed is unlike all that a network has seen, so its answer may change for that reason
alone (arXiv:2410.02970). A copy of the network is tuned on records with random gaps first. Then random parts of the
most and of the least important features are removed, always few, so that records stay like those it was tuned on.
"""

import copy
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from assay import seeds
from assay.explain.measures.base import ExplanationMeasure, MeasuredMap, MeasuredRecords
from assay.explain.measures.curves import ranked
from assay.explain.measures.replacements.base import Fill, imputing, prepared
from assay.explain.scalars import log_odds
from assay.models.batches import respond
from assay.models.layout import channels_last
from assay.registry import register

_SHARES = (0.1, 0.2, 0.3, 0.5)
"""Shares of the features that count as important."""
_BATCH = 64


@register("explanation_measure")
class FFidelity(ExplanationMeasure):
    """Loss of log-odds without random important features, minus that without random unimportant ones.

    The probability of the paper says nothing of a record whose answer is sure.
    """

    name: Literal["f_fidelity"] = "f_fidelity"
    title: ClassVar[str] = "F-Fidelity"
    meaning: ClassVar[str] = (
        "Log-odds that are lost without some of the most important features, minus that without as many of the least "
        "important ones, by a copy of the network that was tuned on records with gaps. 0 for a map that knows nothing."
    )
    catches: ClassVar[str] = "Features that matter and are ranked low, without mistaking gaps for evidence."
    misses: ClassVar[str] = "What the tuned copy reads differently from the network that is explained."
    better: ClassVar[Literal["higher"]] = "higher"
    decides: ClassVar[bool] = True
    trains: ClassVar[bool] = True
    epochs: int = Field(default=3, ge=1)
    """Passes over the training records when the copy is tuned."""
    learning_rate: float = Field(default=1e-3, gt=0)
    removed: float = Field(default=0.25, gt=0, le=0.5)
    """Greatest share of the features that is removed, in tuning and in measuring."""
    draws: int = Field(default=4, ge=1)
    """Random removals for each share of important features."""

    def score(self, records: MeasuredRecords, explained: MeasuredMap) -> Tensor:
        network = self._tuned(records)
        fill = prepared(records, imputing(records.reference.modality))
        rank = ranked(records, explained.values)
        count = records.count.view(-1, *[1] * (rank.dim() - 1))
        found = []
        for share in _SHARES:
            size = (share * count).round().clamp_min(1)
            groups = (rank < size, (rank >= count - size) & records.features)
            for number in range(self.draws):
                order = self._order(records, share, number)
                most, least = (self._left(records, network, fill, group, order) for group in groups)
                found.append(least - most)
        return torch.stack(found).mean(0)

    def _order(self, records: MeasuredRecords, share: float, number: int) -> Tensor:
        key = ("f-fidelity order", share, number)
        if key not in records.cache:
            drawn = records.drawn(str(key), lambda generator, shape: generator.random(shape, np.float32))
            records.cache[key] = drawn.flatten(1).argsort(dim=1, descending=True, stable=True)
        found: Tensor = records.cache[key]
        return found

    @torch.no_grad()
    def _left(self, records: MeasuredRecords, network: nn.Module, fill: Fill, group: Tensor, order: Tensor) -> Tensor:
        """Returns the log-odds of the target without a random half of a group, or what may be removed, (n,)."""
        most = torch.minimum((group.flatten(1).sum(1) + 1) // 2, (self.removed * records.count).clamp_min(1).floor())
        # The first ones of the group in the random order of all features.
        ordered = group.flatten(1).gather(1, order)
        first = ordered & (ordered.cumsum(1) <= most.view(-1, 1))
        gone = torch.zeros_like(ordered).scatter_(1, order, first).view_as(group)
        rows = torch.arange(len(records.x), device=records.x.device)
        return log_odds(respond(network, fill(rows, gone)), records.target)

    def _tuned(self, records: MeasuredRecords) -> nn.Module:
        key = ("tuned on gaps", self)
        if key not in records.cache:
            tuned = tuned_on_gaps(records, epochs=self.epochs, learning_rate=self.learning_rate, removed=self.removed)
            records.cache[key] = channels_last(tuned)
        found: nn.Module = records.cache[key]
        return found


def tuned_on_gaps(records: MeasuredRecords, *, epochs: int, learning_rate: float, removed: float) -> nn.Module:
    """Tunes a copy of the network on training records, random features of which are replaced.

    Args:
        records: with the network and its training records.
        epochs: passes over them.
        learning_rate: of Adam.
        removed: greatest share of features that is replaced; it is drawn for each record from 0 to this.

    Returns:
        The copy, in evaluation mode.

    Raises:
        ValueError: there are no training records.
    """
    held = records.of_training()
    fill = prepared(held, imputing(records.reference.modality))
    network = copy.deepcopy(records.model).eval().requires_grad_(True)
    optimiser = torch.optim.Adam([one for one in network.parameters() if one.requires_grad], lr=learning_rate)
    generator = seeds.stream(records.seed, "tuned on gaps")
    for _ in range(epochs):
        order = generator.permutation(len(held.x))
        for first in range(0, len(order), _BATCH):
            rows = torch.from_numpy(order[first : first + _BATCH]).to(held.x.device)
            drawn = torch.from_numpy(generator.random((len(rows), *held.features.shape[1:]), np.float32)).to(held.x)
            limit = torch.from_numpy(generator.random(len(rows)) * removed).to(held.x)
            gone = (drawn < limit.view(-1, *[1] * (drawn.dim() - 1))) & held.features[rows]
            optimiser.zero_grad()
            records.task.losses(network(fill(rows, gone)), held.target[rows]).mean().backward()
            optimiser.step()
    return network.requires_grad_(False).eval()
