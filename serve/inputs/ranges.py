"""Ranges of the training records: a value beyond them is answered with a warning, an impossible one is refused."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from assay.data.base import Dataset
from serve.refusals import RefusedError

_ROUNDING = 1e-6
"""Part of a range by which a value may leave it through rounding to float32, or through another unit."""
_NAMED = 8
"""Greatest number of features that the warnings of a record name; further ones are counted."""


class AbstentionRule(BaseModel):
    """Rule by which an answer gives no decision on a record outside the range of the training records."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    most_features: int = Field(default=2, ge=0)
    """Greatest number of features of a table that may lie outside."""
    most_share: float = Field(default=0.05, ge=0, le=1)
    """Greatest share of the samples of a signal that may lie outside."""
    most_widths: float = Field(default=1.0, ge=0)
    """Greatest distance of a value from the range of its feature, in widths of that range."""


class Judged(NamedTuple):
    """Judgement on the values of some records. Each field is empty if no record lies outside."""

    warnings: tuple[tuple[str, ...], ...] = ()
    outside: tuple[bool, ...] = ()
    abstain: tuple[str, ...] = ()
    """Reason why no decision should be given on a record; an empty text where one may be given."""


class Ranges:
    """Ranges of all inputs of a model.

    A value must be possible: within what the data set states for its feature (``Feature.valid``), else within ten
    widths of the training range. Pixels, categories and ordered columns must be valid inputs.

    Args:
        dataset: as the model takes it.
        train: positions of the training records, whose extremes are the training range. None for a private model, of
            whose records nothing may be told: then the range is that of valid inputs.
        rule: when to abstain.
    """

    absurd = 10.0
    """Distance from the training range, in its widths, beyond which a value is refused where nothing is stated."""

    def __init__(self, dataset: Dataset, *, train: np.ndarray | None, rule: AbstentionRule | None = None) -> None:
        self._dataset, self._rule = dataset, rule or AbstentionRule()
        shape = dataset.shape
        valid = tuple(np.broadcast_to(end, shape).astype(np.float64) for end in (dataset.low, dataset.high))
        self.low, self.high = valid
        # Whether the range is that of the training records.
        self.known = train is not None and dataset.modality == "tabular" and isinstance(dataset.x, np.ndarray)
        if self.known:
            records = np.asarray(dataset.x)[train].astype(np.float64)
            self.low, self.high = records.min(0), records.max(0)
        # A feature that never varies in training keeps the width of its valid range, or any change would be far.
        self.width = np.where(self.high > self.low, self.high - self.low, valid[1] - valid[0])
        self._least, self._most = self._possible(*valid)
        self._warnings: dict[tuple[tuple[int, ...], bool], str] = {}
        slack = _ROUNDING * self.width
        self._from, self._to = self.low - slack, self.high + slack
        self._refused_from = self._least - _ROUNDING * np.abs(self._least).clip(min=1e-30, max=1e30)
        self._refused_to = self._most + _ROUNDING * np.abs(self._most).clip(min=1e-30, max=1e30)

    def judge(self, x: np.ndarray) -> Judged:
        """Judges records.

        Args:
            x: (n, ...) inputs of the model.

        Returns:
            Warnings, whether each record lies outside, and reasons to abstain.

        Raises:
            RefusedError: a value is not finite, or is impossible.
        """
        # Written as "not within", so that NaN counts as outside.
        outside = ~((x >= self._from) & (x <= self._to))
        if not outside.any():
            return Judged()
        impossible = ~((x >= self._refused_from) & (x <= self._refused_to)) | ~np.isfinite(x)
        if impossible.any():
            record, *place = (int(i) for i in np.argwhere(impossible)[0])
            raise RefusedError(f"record {record}: {self._named(place)} is not {self._stated(place)}", reason="range")
        # All records at once: one at a time, numpy costs more than the network's answer.
        places = np.argwhere(outside)
        inputs = tuple(places[:, 1:].T)
        values, low, high = x[outside], self.low[inputs], self.high[inputs]
        below = values < low
        far = np.where(below, low - values, values - high) / self.width[inputs] > self._rule.most_widths
        ends = np.searchsorted(places[:, 0], np.arange(len(x) + 1)).tolist()
        rows = [
            self._judge_record(places[start:end, 1:], below[start:end], far[start:end]) if end > start else ((), "")
            for start, end in pairwise(ends)
        ]
        return Judged(
            warnings=tuple(warnings for warnings, _ in rows),
            outside=tuple(end > start for start, end in pairwise(ends)),
            abstain=tuple(reason for _, reason in rows) if any(reason for _, reason in rows) else (),
        )

    def _possible(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the least and the greatest possible value of each input."""
        if self._dataset.modality == "image":
            return low, high
        least = np.minimum(low, self.low) - self.absurd * self.width
        most = np.maximum(high, self.high) + self.absurd * self.width
        for place, feature in enumerate(self._dataset.features):
            if feature.kind != "number":
                least[place], most[place] = low[place], high[place]
            elif feature.valid is not None:
                ends = ((end - feature.center) / feature.scale for end in feature.valid)
                stated = sorted(ends)
                least[place] = stated[0] if np.isfinite(stated[0]) else least[place]
                most[place] = stated[1] if np.isfinite(stated[1]) else most[place]
        return least, most

    def _judge_record(self, places: np.ndarray, below: np.ndarray, far: np.ndarray) -> tuple[tuple[str, ...], str]:
        """Returns the warnings of one record, and the reason why no decision should be given on it.

        Args:
            places: (m, ...) of the values that lie outside.
            below: (m,) whether each lies below its range.
            far: (m,) whether each lies too far outside.
        """
        if self._dataset.modality != "tabular":
            size = self.low.size
            warning = f"{len(places)} of {size} values lie outside {self._ends(places[0].tolist())}"
            reason = f"more than {self._rule.most_share:.0%} of the values lie outside the range"
            return (warning,), reason if len(places) / size > self._rule.most_share else self._too_far(places[far])
        named = zip(places[:_NAMED].tolist(), below[:_NAMED].tolist(), strict=True)
        warnings = [self._warning(tuple(place), is_below) for place, is_below in named]
        if len(places) > _NAMED:
            warnings.append(f"{len(places) - _NAMED} more features lie outside {self._what}")
        many = f"more than {self._rule.most_features} features lie outside {self._what}"
        return tuple(warnings), many if len(places) > self._rule.most_features else self._too_far(places[far])

    def _too_far(self, far: np.ndarray) -> str:
        if not len(far):
            return ""
        where = self._named(far[0].tolist()) if self._dataset.modality == "tabular" else "a value"
        return f"{where} lies more than {self._rule.most_widths:g} widths of the range outside {self._what}"

    @property
    def _what(self) -> str:
        return "the range of the training records" if self.known else "the range of valid inputs"

    def _warning(self, place: tuple[int, ...], below: bool) -> str:
        if (place, below) not in self._warnings:
            side = "below" if below else "above"
            text = f"{self._named(place)} lies {side} {self._what}, {self._ends(place)}"
            self._warnings[place, below] = text
        return self._warnings[place, below]

    def _named(self, place: Sequence[int]) -> str:
        names = self._dataset.feature_names
        if not names:
            return f"input {list(place)}"
        return repr(names[int(np.ravel_multi_index(tuple(place), self._dataset.shape))])

    def _ends(self, place: Sequence[int]) -> str:
        return self._written(place, self.low, self.high)

    def _stated(self, place: Sequence[int]) -> str:
        return f"a number from {self._written(place, self._least, self._most)}"

    def _written(self, place: Sequence[int], low: np.ndarray, high: np.ndarray) -> str:
        """Returns two ends as text: in the unit of the column where the data set states how inputs follow from it."""
        ends = [float(end[tuple(place)]) for end in (low, high)]
        features = self._dataset.features
        if not features:
            return f"{ends[0]:g} to {ends[1]:g} ({self._dataset.units})"
        feature = features[place[0]]
        values = sorted(feature.center + feature.scale * end for end in ends)
        # What rounding leaves of 0 is 0.
        written = [0.0 if abs(value) < 1e-6 * abs(feature.scale) else value for value in values]
        unit = f" {feature.unit}" if feature.unit and feature.kind == "number" else ""
        return f"{written[0]:.4g} to {written[1]:.4g}{unit}"
