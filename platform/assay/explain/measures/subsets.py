"""Measures by random subsets of features: does the answer change by as much as the map says it will?

Infidelity (Yeh et al. 2019, arXiv:1901.09392) and the correlation of sums (sensitivity-n, Ancona et al. 2018,
arXiv:1711.06104). What a map says of a subset depends on what its values are: slopes are multiplied by the change of
each entry; contributions from a single baseline are taken in the proportion in which the entry moves towards its
replacement; contributions from many background records are summed.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from assay.explain.measures.base import ExplanationMeasure, MeasuredMap, MeasuredRecords
from assay.explain.measures.replacements.base import Replacement, panel, prepared
from assay.explain.scalars import log_odds
from assay.models.batches import respond
from assay.registry import register

_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Shares of the features that subsets remove; equally many subsets have each."""
_SMALLEST = 1e-300
_MOST_KEPT = 2**18
"""Greatest number of entries of all records of which weights are kept: there are hundreds of them."""


@dataclass(frozen=True, kw_only=True)
class _Subsets:
    """What a map says of subsets of features, and what the answer does."""

    said: Tensor
    """(n, subsets) change of the log-odds by the map."""
    happened: Tensor
    """(n, subsets) change of the log-odds of the model."""


class _BySubsets(ExplanationMeasure):
    subsets: int = Field(default=50, ge=5, multiple_of=5)
    """Random subsets of a record, the same for all maps."""

    def score(self, records: MeasuredRecords, explained: MeasuredMap) -> Tensor:
        found = []
        for replacement in panel(records.reference.modality):
            found.append(self._of(_subsets(records, explained, replacement, self.subsets)))
        return torch.stack(found).mean(0).to(records.x)

    def _of(self, subsets: _Subsets) -> Tensor:
        raise NotImplementedError


@register("explanation_measure")
class Infidelity(_BySubsets):
    """Squared error of what the map says, at its best scale, as a share of the squared changes of the answer."""

    name: Literal["infidelity"] = "infidelity"
    title: ClassVar[str] = "Infidelity"
    meaning: ClassVar[str] = (
        "Squared error of the change that a map says, multiplied by the best factor, as a share of the squared changes "
        "of the answer: 0 is best, 1 is what a map of zeros has."
    )
    catches: ClassVar[str] = "Values whose sizes do not fit each other, and wrong signs."
    misses: ClassVar[str] = "A wrong scale of all values; sums over many features, in which errors cancel."
    better: ClassVar[Literal["lower"]] = "lower"
    decides: ClassVar[bool] = True

    def _of(self, subsets: _Subsets) -> Tensor:
        said, happened = subsets.said, subsets.happened
        factor = (said * happened).sum(1) / said.square().sum(1).clamp_min(_SMALLEST)
        # A negative factor would turn a map round.
        wrong = (happened - factor.clamp_min(0)[:, None] * said).square().sum(1)
        whole = happened.square().sum(1)
        # Where nothing changes the answer, every map is right, and none is better.
        return torch.where(whole > 0, wrong / whole.clamp_min(_SMALLEST), torch.nan)


@register("explanation_measure")
class CorrelationOfSums(_BySubsets):
    """Correlation of what the map says with what happens, over subsets of one size."""

    name: Literal["correlation_of_sums"] = "correlation_of_sums"
    title: ClassVar[str] = "Correlation of sums"
    meaning: ClassVar[str] = "Correlation of the summed values of removed features with the change of the answer."
    catches: ClassVar[str] = "Values whose sizes do not fit each other, and wrong signs, at every size of a subset."
    misses: ClassVar[str] = "A wrong scale; a constant added to all values."
    better: ClassVar[Literal["higher"]] = "higher"
    decides: ClassVar[bool] = True

    def _of(self, subsets: _Subsets) -> Tensor:
        # Within a size: larger subsets change more, whatever the map says.
        said, happened = (_within_sizes(each) for each in (subsets.said, subsets.happened))
        both = (said.square().sum(1) * happened.square().sum(1)).sqrt()
        known = happened.square().sum(1) > 0
        return torch.where(known, (said * happened).sum(1) / both.clamp_min(_SMALLEST), torch.nan)


def _within_sizes(values: Tensor) -> Tensor:
    by_size = values.view(len(values), len(_SHARES), -1)
    return (by_size - by_size.mean(2, keepdim=True)).flatten(1)


@torch.no_grad()
def _subsets(records: MeasuredRecords, explained: MeasuredMap, replacement: Replacement, count: int) -> _Subsets:
    """Returns what the map says and what the answer does; subsets of one size stand beside each other."""
    key = ("subsets", replacement, count)
    if key in explained.cache:
        known: _Subsets = explained.cache[key]
        return known
    said, happened = [], []
    values = explained.values if _whole_features(explained) else explained.entries
    assert values is not None
    for share in _SHARES:
        for number in range(count // len(_SHARES)):
            happened.append(_happened(records, replacement, share, number))
            weights = _weights(records, explained, replacement, share, number)
            said.append((values * weights).flatten(1).sum(1).double())
    explained.cache[key] = _Subsets(said=torch.stack(said, dim=1), happened=torch.stack(happened, dim=1))
    found: _Subsets = explained.cache[key]
    return found


def _happened(records: MeasuredRecords, replacement: Replacement, share: float, number: int) -> Tensor:
    """Returns by how much the log-odds fall without a subset, (n,)."""
    key = ("subset", replacement, share, number)
    if key not in records.cache:
        answers = log_odds(respond(records.reader, _mixed(records, replacement, share, number)), records.target)
        records.cache[key] = (records.whole - answers).double()
    found: Tensor = records.cache[key]
    return found


def _mixed(records: MeasuredRecords, replacement: Replacement, share: float, number: int) -> Tensor:
    rows = torch.arange(len(records.x), device=records.x.device)
    return prepared(records, replacement)(rows, _removed(records, share, number))


def _removed(records: MeasuredRecords, share: float, number: int) -> Tensor:
    """Returns random features of each record, at least one, and not all where there are several."""
    key = ("removed", share, number)

    def draw(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        most = max(shape[0] - 1, 1)
        chosen = np.zeros(shape, np.float32)
        chosen[generator.permutation(shape[0])[: min(max(1, round(share * shape[0])), most)]] = 1
        return chosen

    if key not in records.cache:
        records.cache[key] = records.drawn(f"subset {share} {number}", draw) > 0
    found: Tensor = records.cache[key]
    return found


def _whole_features(explained: MeasuredMap) -> bool:
    """Returns whether a map says the same of a feature, whatever replaces it."""
    return explained.entries is None or (explained.kind == "contributions" and explained.baseline is None)


def _weights(
    records: MeasuredRecords, explained: MeasuredMap, replacement: Replacement, share: float, number: int
) -> Tensor:
    """Returns by what the values of a map are multiplied, so that they say what the loss of a subset changes.

    They are the same for all maps of a kind, and kept where records are small.
    """
    removed = _removed(records, share, number)
    if _whole_features(explained):
        return removed
    baseline = explained.baseline if explained.kind == "contributions" else None
    key = ("weights", replacement, share, number, None if baseline is None else id(baseline))
    if key in records.cache:
        known: Tensor = records.cache[key][0]
        return known
    found = (records.x - _mixed(records, replacement, share, number)) * removed
    if baseline is not None:
        whole = records.x - baseline
        found = torch.where(whole != 0, found / whole, 0.0)
    if records.x.numel() <= _MOST_KEPT:
        records.cache[key] = found, baseline  # while it is kept, no other baseline can have its id
    return found
