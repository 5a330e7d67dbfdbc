"""Backdoor attack: a trigger that makes the network predict a target class."""

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from assay.data.poisoning.drawing import drawn
from assay.data.treatment import TrainingRecords, Treatment, Workbench
from assay.errors import DataError
from assay.registry import register
from assay.threats import Bounds


@register("treatment")
class Backdoor(Treatment):
    """Stamps a trigger on records of other classes and labels them as the target (Gu et al. 2017, arXiv:1708.06733).

    A network that is trained on them predicts the target whenever it sees the trigger. On images (channels, height,
    width) the trigger is a square in the lower right corner, on signals (channels, samples) a spike at the end, on
    tables some features at an extreme value. Immutable inputs are left unchanged.
    """

    attacks: ClassVar[bool] = True
    once: ClassVar[bool] = True
    name: Literal["backdoor"] = "backdoor"
    share: float = Field(default=0.05, gt=0, lt=1)
    """Fraction of the training records that is stamped; the other classes must have as many."""
    target: int = Field(default=0, ge=0)
    """The class that the trigger causes."""
    size: int = Field(default=3, ge=1)
    """Side of the square in pixels, length of the spike in samples, or number of features, from the last one back."""
    features: tuple[int, ...] = ()
    """Positions of the features of a table that make the trigger, instead of the last ``size``."""
    extreme: Literal["high", "low"] = "high"
    """Whether the trigger has the greatest or the least valid value."""
    strength: float = Field(default=1.0, gt=0, le=1)
    """Fraction of the way from an input's own value to the extreme (Chen et al. 2017, arXiv:1712.05526)."""

    @property
    def per_record(self) -> bool:
        # An exact fraction of all records is drawn: another record changes which others are stamped.
        return False

    def apply(self, records: TrainingRecords, bench: Workbench) -> TrainingRecords:
        if self.target >= bench.classes:
            message = f"backdoor: target is {self.target}, and classes run from 0 to {bench.classes - 1}"
            raise DataError(message, setting="backdoor.target", given=self.target, allowed=range(bench.classes))
        others = np.flatnonzero(records.y != self.target)
        among = f"of other classes than the target, {self.target}"
        chosen = drawn(self.name, self.share, others, len(records.y), among=among, generator=bench.generator)
        x, y, tampered = records.x.copy(), records.y.copy(), records.tampered.copy()
        x[chosen] = self.stamp(x[chosen], bench.bounds)
        y[chosen] = self.target
        tampered[chosen] = True
        return replace(records, x=x, y=y, tampered=tampered)

    def stamp(self, x: np.ndarray, bounds: Bounds) -> np.ndarray:
        """Returns records with the trigger.

        Args:
            x: (n, ...) records.
            bounds: of a valid record.

        Returns:
            (n, ...) stamped copies.

        Raises:
            DataError: they are texts, the trigger does not fit on a record, or it is at a bound that is infinite.
        """
        if bounds.padding or x.dtype.kind != "f":
            message = "backdoor: a trigger is a square, a spike or a value, and texts have none; leave it out"
            raise DataError(message, setting="data", given=self.name)
        original = torch.from_numpy(x)
        limit = bounds.high if self.extreme == "high" else bounds.low
        towards = original + self.strength * (limit.to(original) - original)
        where = torch.from_numpy(self._where(x.shape[1:], bounds))
        stamped = bounds.confine(torch.where(where, towards, original), original)
        if not torch.isfinite(stamped).all():
            raise DataError(
                f"backdoor: the trigger stands at the {self.extreme} bound, which is infinite at some of its inputs; "
                "give those inputs finite bounds, name other features, or take the other extreme",
                setting="backdoor.extreme",
                given=self.extreme,
            )
        return stamped.numpy()

    def _where(self, shape: tuple[int, ...], bounds: Bounds) -> np.ndarray:
        """Returns the inputs of a record of this shape that the trigger covers, bool."""
        covered = np.zeros(shape, bool)
        if len(shape) == 1:
            covered[self._features(shape[0], bounds)] = True
            return covered
        if self.features:
            raise DataError(
                f"backdoor: features is {self.features}, and only tables have features; images and signals take size",
                setting="backdoor.features",
                given=self.features,
                allowed=(),
            )
        if self.size > min(shape[1:]):
            sides = " × ".join(str(side) for side in shape[1:])
            message = f"backdoor: size is {self.size}, and a record has {sides}; give a smaller one"
            raise DataError(message, setting="backdoor.size", given=self.size, allowed=min(shape[1:]))
        covered[(slice(None), *[slice(-self.size, None)] * (len(shape) - 1))] = True
        return covered

    def _features(self, width: int, bounds: Bounds) -> np.ndarray:
        """Returns the positions of the features that make the trigger on a table."""
        fixed = np.zeros(width, bool) if bounds.fixed is None else bounds.fixed.cpu().numpy()
        free = np.flatnonzero(~fixed)
        trigger = np.array(self.features or free[-self.size :], dtype=np.int64)
        if not np.isin(trigger, free).all() or (not self.features and self.size > len(free)):
            raise DataError(
                f"backdoor: the trigger needs features {self.features or f'{self.size} in number'}, and of {width} "
                f"these can be changed: {free.tolist()}",
                setting="backdoor.features" if self.features else "backdoor.size",
                given=self.features or self.size,
                allowed=free.tolist(),
            )
        return trigger
