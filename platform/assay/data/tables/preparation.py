"""Imputation, scaling and coding of a table, by scikit-learn's transformers, learnt from the training split alone."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from assay.data.base import Dataset
from assay.data.features import Feature
from assay.data.tables.kinds import MISSING_CATEGORY, Column
from assay.data.tables.values import canonical
from assay.errors import DataError
from assay.recipes import Federation

STATED = "quarters of each feature's stated range"
LEARNT = "standard deviations of the feature in the training split"
MIXED = "scales of the features: a quarter of the stated range, the stated scale, or a standard deviation"


class _Inputs(NamedTuple):
    """Inputs of one column."""

    x: np.ndarray
    """(n, inputs)"""
    features: list[Feature]
    low: list[float]
    high: list[float]


@dataclass(frozen=True, kw_only=True)
class TablePreparation:
    """A ``Preparation``: converts numbers and positions of categories to inputs without missing values.

    A number is imputed and scaled by stated figures, else by median, mean and standard deviation of the training
    records. An ordered column becomes its position between 0 and 1, a category of two 0 or 1, and others one input
    each.
    """

    columns: tuple[Column, ...]
    movable: frozenset[str] = frozenset()
    """Columns of categories that an attack may change."""

    def fit(self, dataset: Dataset, train: np.ndarray, *, seed: int) -> Dataset:
        assert isinstance(dataset.x, np.ndarray)
        inputs = [self._inputs(dataset, place, train) for place in range(len(self.columns))]
        x = np.concatenate([one.x for one in inputs], axis=1).astype(np.float32)
        low = np.array([low for one in inputs for low in one.low], np.float32)
        high = np.array([high for one in inputs for high in one.high], np.float32)
        features = tuple(feature for one in inputs for feature in one.features)
        fixed = np.repeat(self._fixed(dataset), [len(one.features) for one in inputs])
        learnt = self.learnt
        return replace(
            dataset,
            # Rounding to float32 must not push a record out of its bounds.
            x=np.clip(x, low, high),
            low=low,
            high=high,
            feature_names=tuple(feature.name for feature in features),
            features=features,
            immutable=fixed if fixed.any() else None,
            preparation=None,
            preprocessing=f"{dataset.preprocessing}; {self._told()}",
            unpaid_preprocessing=dataset.unpaid_preprocessing or bool(learnt),
            remedy=self.owes() or dataset.remedy,
        )

    def describe(self) -> str:
        return repr((self.columns, sorted(self.movable)))

    @property
    def learnt(self) -> list[str]:
        """Columns about which something is learnt from records."""
        return [column.name for column in self.columns if not column.public]

    def owes(self) -> str:
        learnt = self.learnt
        if not learnt:
            return ""
        named = ", ".join(learnt[:6]) + (f" and {len(learnt) - 6} more" if len(learnt) > 6 else "")
        return (
            f"scale, fill, bounds or categories of {named} are taken from the records; state them under kinds: range: "
            "[least, greatest] of a number, categories: [...] or order: [...] (and fill) of others"
        )

    def pools(self, federation: Federation) -> str:
        # A median, the range of a column and its categories are no sums over clients.
        return self.owes()

    @property
    def units(self) -> str:
        """Meaning of 1.0 of an input."""
        numbers = [column for column in self.columns if column.kind == "number"]
        has_scale = [column.settings.scale is not None for column in numbers]
        if not any(has_scale) and all(column.settings.range is not None for column in numbers):
            return STATED
        return LEARNT if not any(has_scale) and all(column.settings.range is None for column in numbers) else MIXED

    def _told(self) -> str:
        learnt, stated = self.learnt, "imputed, scaled and coded by stated figures"
        return f"{stated}, but {', '.join(learnt)} by the training records" if learnt else stated

    def _fixed(self, dataset: Dataset) -> np.ndarray:
        """Returns (columns,) bool: columns that an attack cannot change."""
        named = np.zeros(len(self.columns), bool) if dataset.immutable is None else dataset.immutable
        return (
            np.array([column.kind != "number" and column.name not in self.movable for column in self.columns]) | named
        )

    def _inputs(self, dataset: Dataset, place: int, train: np.ndarray) -> _Inputs:
        column, values = self.columns[place], np.asarray(dataset.x)[:, place : place + 1]
        if column.kind == "category":
            return _coded(column, values)
        present = values[train][np.isfinite(values[train])]
        if column.kind == "number":
            return _scaled(column, values, present, dataset.name)
        return _placed(column, values, present, dataset.name)


def _scaled(column: Column, values: np.ndarray, known: np.ndarray, where: str) -> _Inputs:
    """Converts a column of numbers: by stated figures, or by those of the training records where none are stated."""
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import StandardScaler

    settings = column.settings
    _refuse_unknown(column, known, where)
    middle = settings.center
    if middle is None and settings.range is not None:
        middle = (settings.range[0] + settings.range[1]) / 2
    width = settings.scale or (None if settings.range is None else (settings.range[1] - settings.range[0]) / 4)
    fill = middle if settings.fill is None else float(settings.fill)
    imputer = SimpleImputer(strategy="median") if fill is None else SimpleImputer(strategy="constant", fill_value=fill)
    learnt = known.reshape(-1, 1) if len(known) else np.array([[fill or 0.0]])
    imputer.fit(learnt)
    scaler = StandardScaler().fit(learnt)
    if middle is not None:
        scaler.mean_ = np.array([middle])
    if width is not None:
        scaler.scale_ = np.array([width])
    center, scale = float(scaler.mean_[0]), float(scaler.scale_[0])
    x = scaler.transform(imputer.transform(values))
    filled = float(imputer.statistics_[0])
    low, high = min(column.low, filled), max(column.high, filled)
    source = "stated" if middle is not None and width is not None else "mean and deviation of the training records"
    feature = Feature(
        name=column.name,
        column=column.name,
        kind="number",
        unit=settings.unit,
        center=center,
        scale=scale,
        source=source,
        fill=filled,
        missing=column.codes,
        valid=settings.range,
    )
    ends = [(low - center) / scale, (high - center) / scale]
    return _Inputs(x, [feature], [ends[0]], [ends[1] if ends[1] > ends[0] else ends[0] + 1])


def _placed(column: Column, values: np.ndarray, known: np.ndarray, where: str) -> _Inputs:
    """Converts an ordered column to positions from 0 to 1; a missing value gets the stated position or the median."""
    from sklearn.impute import SimpleImputer

    fill = column.settings.fill
    if fill is None and column.missing:
        _refuse_unknown(column, known, where)
        fill_at = float(np.floor(np.median(known)))
    else:
        fill_at = 0.0 if fill is None else _place_of(column, fill, where)
    imputer = SimpleImputer(strategy="constant", fill_value=fill_at).fit(np.zeros((1, 1)))
    steps = max(len(column.categories) - 1, 1)
    feature = Feature(
        name=column.name,
        column=column.name,
        kind="ordered",
        unit="steps",
        scale=float(steps),
        source="stated",
        categories=column.categories,
        fill=column.categories[int(fill_at)] if fill is not None or column.missing else None,
        missing=column.codes,
    )
    return _Inputs(imputer.transform(values) / steps, [feature], [0.0], [1.0])


def _place_of(column: Column, fill: float | str, where: str) -> float:
    if canonical(fill) not in column.categories:
        raise DataError(
            f"{where}, column {column.name!r}: fill {fill!r} is none of {', '.join(column.categories)}",
            setting="kinds",
            given=fill,
            allowed=column.categories,
        )
    return float(column.categories.index(canonical(fill)))


def _coded(column: Column, values: np.ndarray) -> _Inputs:
    """Converts a category: to one input if there are two, to one input each if there are more; exactly one is 1."""
    from sklearn.preprocessing import OneHotEncoder

    count = len(column.categories)
    encoder = OneHotEncoder(categories=[np.arange(float(count))], drop="if_binary", sparse_output=False)
    x = encoder.fit(np.zeros((1, 1))).transform(values)
    named = column.categories[1:] if count == 2 else column.categories
    features = [
        Feature(
            name=f"{column.name}={category}",
            column=column.name,
            kind="category",
            source="stated",
            categories=column.categories,
            fill=MISSING_CATEGORY if MISSING_CATEGORY in column.categories else None,
            missing=column.codes,
        )
        for category in named
    ]
    return _Inputs(x, features, [0.0] * len(named), [1.0] * len(named))


def _refuse_unknown(column: Column, known: np.ndarray, where: str) -> None:
    if not len(known) and not column.public:
        raise DataError(
            f"{where}: column {column.name!r} has no value in the training records, so nothing can be learnt of it; "
            f"state its range (or order and fill) under kinds, or drop: [{column.name}]",
            setting="kinds",
            given=column.name,
            allowed="range",
        )
