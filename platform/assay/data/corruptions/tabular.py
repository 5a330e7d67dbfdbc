"""Corruptions of tables: missing values, wrong units and drift."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from assay.data.base import Dataset, Modality
from assay.data.corruptions.base import Corruption, Factors, Sizes, StrengthShares
from assay.registry import register

_SAMPLE = 2000
"""Number of records, evenly spread over the data set, from which typical values are estimated."""


class _OfTables(Corruption):
    """Base of corruptions of tables. Only numbers are changed: these corruptions have no meaning for categories."""

    modality: ClassVar[Modality] = "tabular"

    def apply(self, x: np.ndarray, strength: float, *, dataset: Dataset, generator: np.random.Generator) -> np.ndarray:
        changed = self.on_features(x.reshape(len(x), -1), strength, dataset, generator).reshape(x.shape)
        if not dataset.features:
            return changed
        return np.where([feature.kind == "number" for feature in dataset.features], changed, x)

    def on_features(
        self, x: np.ndarray, strength: float, dataset: Dataset, generator: np.random.Generator
    ) -> np.ndarray:
        """Returns corrupted records (n, features)."""
        raise NotImplementedError


@register("corruption")
class SensorDropOut(_OfTables):
    """Replaces some features of each record by the median of the data set, as an imputing system does.

    The strength is the fraction of the features, rounded up.
    """

    name: Literal["sensor_drop_out"] = "sensor_drop_out"
    strengths: StrengthShares = (0.1, 0.2, 0.3, 0.4, 0.5)

    def on_features(
        self, x: np.ndarray, strength: float, dataset: Dataset, generator: np.random.Generator
    ) -> np.ndarray:
        return np.where(_some(x, strength, generator), np.median(_typical(dataset), axis=0), x)


@register("corruption")
class UnitError(_OfTables):
    """Multiplies or divides some features of each record by a factor, the strength, as if read in a wrong unit.

    The factor applies to the distance from the least valid value. For a measured quantity this is its zero, even after
    standardisation; for ``wdbc`` this is exact.
    """

    name: Literal["unit_error"] = "unit_error"
    strengths: Factors = (1.5, 2.2, 4, 10, 100)
    share: float = Field(default=0.1, gt=0, le=1)
    """Fraction of the features, rounded up."""

    def on_features(
        self, x: np.ndarray, strength: float, dataset: Dataset, generator: np.random.Generator
    ) -> np.ndarray:
        zero = np.broadcast_to(dataset.low, dataset.shape).reshape(-1)
        wrong, multiplied = _some(x, self.share, generator), generator.random((len(x), 1)) < 0.5
        return np.where(wrong, zero + (x - zero) * np.where(multiplied, strength, 1 / strength), x)


@register("corruption")
class Drift(_OfTables):
    """Shifts all features of a record up or down, like a device out of calibration.

    The strength is the shift, in standard deviations. The standard deviations are those of each feature over the data
    set; a constant feature does not drift.
    """

    name: Literal["drift"] = "drift"
    strengths: Sizes = (0.1, 0.25, 0.5, 0.75, 1.0)

    def on_features(
        self, x: np.ndarray, strength: float, dataset: Dataset, generator: np.random.Generator
    ) -> np.ndarray:
        direction = np.where(generator.random((len(x), 1)) < 0.5, -1, 1)
        return x + strength * direction * _typical(dataset).std(0)


def _some(x: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Returns (n, features) bool: a fraction of the features of each record; a larger fraction contains the smaller."""
    rank = generator.random(x.shape).argsort(1).argsort(1)
    # Rounded first: 0.3 · 10 is slightly above 3 in floating point.
    return rank < np.ceil(round(share * x.shape[1], 9))


def _typical(dataset: Dataset) -> np.ndarray:
    """Returns (at most _SAMPLE, features) records of the data set, for estimates of median and standard deviation."""
    rows = np.arange(0, len(dataset), -(-len(dataset) // _SAMPLE))
    return dataset.x[rows].reshape(len(rows), -1)
