"""What happens to tables on the way: values that were not taken, were typed in another unit, or have drifted."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from assay.data.base import Dataset, Modality
from assay.data.corruptions.base import Corruption, Factors, Sizes, StrengthShares
from assay.registry import register

_SAMPLE = 2000
"""Records, evenly spread over the data set, from which a typical value is taken."""


class _OfTables(Corruption):
    """Categories are left as they are: none of these mishaps makes one half of another."""

    modality: ClassVar[Modality] = "tabular"

    def apply(self, x: np.ndarray, strength: float, *, dataset: Dataset, generator: np.random.Generator) -> np.ndarray:
        changed = self.on_features(x.reshape(len(x), -1), strength, dataset, generator).reshape(x.shape)
        if not dataset.features:
            return changed
        return np.where([feature.kind == "number" for feature in dataset.features], changed, x)

    def on_features(
        self, x: np.ndarray, strength: float, dataset: Dataset, generator: np.random.Generator
    ) -> np.ndarray:
        """Records (n, features)."""
        raise NotImplementedError


@register("corruption")
class SensorDropOut(_OfTables):
    """Some features of each record are absent, and stand at the median of the data set as an imputing system puts it.

    The strength is the share of the features, rounded up.
    """

    name: Literal["sensor_drop_out"] = "sensor_drop_out"
    strengths: StrengthShares = (0.1, 0.2, 0.3, 0.4, 0.5)

    def on_features(
        self, x: np.ndarray, strength: float, dataset: Dataset, generator: np.random.Generator
    ) -> np.ndarray:
        return np.where(_some(x, strength, generator), np.median(_typical(dataset), axis=0), x)


@register("corruption")
class UnitError(_OfTables):
    """Some features of each record were read in a wrong unit: multiplied or divided by a factor, the strength.

    Multiplied is the distance to the least valid value, which of a measured quantity is its zero, whatever was
    standardised since: of ``wdbc`` this is exact.
    """

    name: Literal["unit_error"] = "unit_error"
    strengths: Factors = (1.5, 2.2, 4, 10, 100)
    share: float = Field(default=0.1, gt=0, le=1)
    """Share of the features, rounded up."""

    def on_features(
        self, x: np.ndarray, strength: float, dataset: Dataset, generator: np.random.Generator
    ) -> np.ndarray:
        zero = np.broadcast_to(dataset.low, dataset.shape).reshape(-1)
        wrong, multiplied = _some(x, self.share, generator), generator.random((len(x), 1)) < 0.5
        return np.where(wrong, zero + (x - zero) * np.where(multiplied, strength, 1 / strength), x)


@register("corruption")
class Drift(_OfTables):
    """A device out of calibration: all of a record reads too high, or too low; the strength is in standard deviations.

    The deviations are those of each feature over the data set; one that never varies does not drift.
    """

    name: Literal["drift"] = "drift"
    strengths: Sizes = (0.1, 0.25, 0.5, 0.75, 1.0)

    def on_features(
        self, x: np.ndarray, strength: float, dataset: Dataset, generator: np.random.Generator
    ) -> np.ndarray:
        direction = np.where(generator.random((len(x), 1)) < 0.5, -1, 1)
        return x + strength * direction * _typical(dataset).std(0)


def _some(x: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """(n, features) bool: so many features of each record; a larger share holds the smaller."""
    rank = generator.random(x.shape).argsort(1).argsort(1)
    # Rounded first: 0.3 · 10 is a hair above 3 in floating point.
    return rank < np.ceil(round(share * x.shape[1], 9))


def _typical(dataset: Dataset) -> np.ndarray:
    """(at most _SAMPLE, features) records of the data set, their median and deviation being as good as those of all."""
    rows = np.arange(0, len(dataset), -(-len(dataset) // _SAMPLE))
    return dataset.x[rows].reshape(len(rows), -1)
