"""Measures that explain again: does a map change where the answer does not?"""

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from assay.explain.measures.base import ExplanationMeasure, MeasuredMap, MeasuredRecords
from assay.explain.measures.randomisation import rank_agreement
from assay.models.batches import respond
from assay.registry import register


class _NearRecords(ExplanationMeasure):
    needs_method: ClassVar[bool] = True
    radius: float = Field(default=0.02, gt=0)
    """Greatest change of an entry, as a share of its range over the population."""
    copies: int = Field(default=8, ge=1)
    """Changed copies of a record."""

    def score(self, records: MeasuredRecords, explained: MeasuredMap) -> Tensor:
        assert explained.again is not None
        found = torch.full((len(records.x), self.copies), torch.nan, dtype=torch.float64, device=records.x.device)
        for number in range(self.copies):
            near, same = self._near(records, number)
            # Both measures of this file ask for the same maps.
            key = ("near", self.radius, number)
            if key not in explained.cache:
                explained.cache[key] = explained.again(records.model, near)
            found[same, number] = self._of(records, explained.values, explained.cache[key])[same]
        return self._over(found)

    def _near(self, records: MeasuredRecords, number: int) -> tuple[Tensor, Tensor]:
        """Returns a changed copy of each record, and (n,) whether its decision is the same.

        Where the decision changes, the map should change too.
        """
        key = ("near", self.radius, number)
        if key not in records.cache:
            reach = self.radius * records.reference.range_of(records.x)
            present = records.reference.present(records.x)
            shape = tuple(records.x.shape[1:])
            drawn = np.stack([one.uniform(-1, 1, shape) for one in records.generators(f"near {number}")])
            noise = torch.from_numpy(drawn.astype(np.float32)).to(records.x)
            near = records.x + noise * reach * (1 if present is None else present)
            same = records.decide(respond(records.reader, near)) == records.decide(respond(records.reader, records.x))
            records.cache[key] = near, same
        found: tuple[Tensor, Tensor] = records.cache[key]
        return found

    def _of(self, records: MeasuredRecords, values: Tensor, others: Tensor) -> Tensor:
        raise NotImplementedError

    def _over(self, found: Tensor) -> Tensor:
        raise NotImplementedError


@register("explanation_measure")
class MaxSensitivity(_NearRecords):
    """Greatest relative change of a map over small random changes of the record (Yeh et al. 2019, arXiv:1901.09392)."""

    name: Literal["max_sensitivity"] = "max_sensitivity"
    title: ClassVar[str] = "Sensitivity"
    meaning: ClassVar[str] = (
        "Greatest change of a map, relative to its length, over random changes of the record that do not change the "
        "decision."
    )
    catches: ClassVar[str] = "Maps that small changes of a record overturn."
    misses: ClassVar[str] = "A constant map is not sensitive at all; worse changes exist than random ones."
    better: ClassVar[Literal["lower"]] = "lower"

    def _of(self, records: MeasuredRecords, values: Tensor, others: Tensor) -> Tensor:
        length = values.flatten(1).double().norm(dim=1)
        apart = (values - others).flatten(1).double().norm(dim=1)
        # The change of a map of zeros has no relative size.
        relative = apart / length.clamp_min(1e-300)
        return torch.where(length > 0, relative, torch.where(apart > 0, torch.nan, 0.0))

    def _over(self, found: Tensor) -> Tensor:
        most = found.nan_to_num(nan=-torch.inf).amax(1)
        return torch.where(most >= 0, most, torch.nan)


@register("explanation_measure")
class Stability(_NearRecords):
    """Mean rank correlation of the map with the maps of nearby records."""

    name: Literal["stability"] = "stability"
    title: ClassVar[str] = "Stability under noise"
    meaning: ClassVar[str] = "Rank correlation of a map with those of records that differ by a little noise."
    catches: ClassVar[str] = "Rankings that are noise; a network that was tuned to have another map nearby."
    misses: ClassVar[str] = "A ranking that is always the same and always wrong."
    better: ClassVar[Literal["higher"]] = "higher"

    def _of(self, records: MeasuredRecords, values: Tensor, others: Tensor) -> Tensor:
        return torch.from_numpy(rank_agreement(values, others, records.features)).to(values.device)

    def _over(self, found: Tensor) -> Tensor:
        return found.nanmean(1)
