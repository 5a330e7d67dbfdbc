"""Which changes of a table's record a counterfactual may make, and how its values are rounded and reported."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from assay.data.base import Dataset
from assay.errors import UserError
from assay.registry import unknown

USUALLY_IMMUTABLE = ("age", "sex", "gender", "race", "ethnicity")
"""Columns that are held where a setting names none: nobody can change them."""
MOST_ALTERNATIVES = 40
"""Greatest number of categories and places of ordered columns that are tried."""

_LAST_PLACES = 16
"""Units in the last place of float32 by which a whole number may be off."""
_FRACTION = 0.1
"""Rounding error above which whole numbers cannot be told from others."""


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """A category, or a place of an ordered column, that a record may be given."""

    inputs: np.ndarray
    """(k,) positions of the column's inputs."""
    values: np.ndarray
    """(k,) float32 of these."""


@dataclass(frozen=True, kw_only=True)
class ChangeRules:
    """What a counterfactual must respect. The value of a column is ``center + scale · input``, in its own unit."""

    names: tuple[str, ...]
    """Of the inputs."""
    units: tuple[str, ...]
    center: np.ndarray
    """(inputs,) float64."""
    scale: np.ndarray
    """(inputs,) float64."""
    low: np.ndarray
    """(inputs,) float32: least value that a changed input may have."""
    high: np.ndarray
    step: np.ndarray
    """(inputs,) float64, in the column's own unit: reported values are multiples of it."""
    fixed: np.ndarray
    """(inputs,) bool: inputs that stay as they are, bit for bit."""
    spread: np.ndarray
    """(inputs,) float64, positive: the change of an input that counts as 1 in a distance."""
    columns: tuple[np.ndarray, ...] = ()
    """Positions of the inputs of each column of categories or of an ordered kind: its values are not continuous."""
    steps_of: tuple[int, ...] = ()
    """Of each of these: the steps of an ordered column; 0 for categories."""
    ranges: str = ""
    """Where ``low`` and ``high`` come from, for readers."""
    unit: str = ""
    """What a distance of 1 means, for readers."""

    @cached_property
    def continuous(self) -> np.ndarray:
        """(inputs,) bool: numbers that may change."""
        free = ~self.fixed
        for inputs in self.columns:
            free[inputs] = False
        return free

    @cached_property
    def alternatives(self) -> tuple[Alternative, ...]:
        """What may be put into columns of categories and ordered ones that are not fixed; the first 40."""
        found: list[Alternative] = []
        for inputs, steps in zip(self.columns, self.steps_of, strict=True):
            if self.fixed[inputs].any():
                continue
            if steps:
                choices = np.arange(steps + 1, dtype=np.float32)[:, None] / np.float32(steps)
            else:
                choices = np.eye(len(inputs), dtype=np.float32) if len(inputs) > 1 else np.array([[0], [1]], np.float32)
            inside = (choices >= self.low[inputs]) & (choices <= self.high[inputs])
            found += [Alternative(inputs=inputs, values=choice) for choice in choices[inside.all(1)]]
        return tuple(found[:MOST_ALTERNATIVES])

    def reported(self, x: np.ndarray) -> np.ndarray:
        """Returns records in the columns' own units, rounded to the precision of the report.

        Args:
            x: (n, inputs) records.

        Returns:
            (n, inputs) float64 multiples of ``step``.
        """
        return np.round((self.center + self.scale * x.astype(np.float64)) / self.step) * self.step

    def inputs_of(self, reported: np.ndarray) -> np.ndarray:
        """Returns the inputs of reported values, moved to the nearest multiple of the step that lies in the range.

        Args:
            reported: (n, inputs) values in the columns' own units.

        Returns:
            (n, inputs) float32.
        """
        ends = np.stack([self.center + self.scale * end.astype(np.float64) for end in (self.low, self.high)])
        # One part in a million: a bound that is itself a multiple must not be lost to rounding.
        least = np.ceil(ends.min(0) / self.step - 1e-6) * self.step
        most = np.floor(ends.max(0) / self.step + 1e-6) * self.step
        inside = np.clip(np.round(reported / self.step) * self.step, least, np.maximum(least, most))
        return np.clip(((inside - self.center) / self.scale).astype(np.float32), self.low, self.high)

    def allow(self, x: np.ndarray, changed: np.ndarray) -> np.ndarray:
        """Returns which changed records respect every rule; no part of the search is asked.

        Args:
            x: (n, inputs) float32 records.
            changed: (n, inputs) float32 what became of them.

        Returns:
            (n,) bool: fixed inputs are equal bit for bit, changed ones lie in the range, categories and ordered columns
            hold a value that exists.
        """
        moved = x.view(np.uint32) != changed.view(np.uint32)
        inside = (changed >= self.low) & (changed <= self.high) & np.isfinite(changed)
        allowed = ~(moved & self.fixed).any(1) & (~moved | inside).all(1)
        for inputs, steps in zip(self.columns, self.steps_of, strict=True):
            allowed &= ~moved[:, inputs].any(1) | _exists(changed[:, inputs], steps)
        return allowed


def change_rules(
    dataset: Dataset,
    *,
    immutable: Sequence[str] | None = None,
    digits: int = 3,
    seen: np.ndarray | None = None,
    varied: np.ndarray | None = None,
) -> ChangeRules:
    """Returns the rules of a table.

    Columns that its data set declares immutable stay fixed, and so do the named ones. A number is rounded to ``digits``
    digits of its range, in its column's own unit where the data state it (``Dataset.features``), else in the unit of
    the inputs; to whole numbers where all records seen hold whole ones. Distances count a number in its standard
    deviation over records, so that the unit of a column has no effect on which counterfactual is the nearest; inputs of
    categories and ordered columns, which lie between 0 and 1, count as they are.

    Args:
        dataset: the prepared table.
        immutable: names of columns or inputs that cannot change; None for those that usually cannot
            (``USUALLY_IMMUTABLE``), as far as the table has them.
        digits: significant digits of a range.
        seen: (m, inputs) records whose ranges changed values may not leave; None for the bounds of a valid input.
        varied: (m, inputs) records over which the standard deviations are taken; those seen by default. Without any
            records, each input counts in its own unit.

    Returns:
        The rules.

    Raises:
        UserError: the table has no such column.
    """
    count, features = dataset.shape[0], dataset.features
    names = dataset.feature_names or tuple(f"feature {number}" for number in range(count))
    center = np.array([one.center for one in features] or [0.0] * count)
    scale = np.array([one.scale for one in features] or [1.0] * count)
    low, high = (np.broadcast_to(end, (count,)).astype(np.float32) for end in (dataset.low, dataset.high))
    if seen is not None:
        low, high = np.maximum(low, seen.min(0)), np.minimum(high, seen.max(0))
    columns, steps = _columns(dataset)
    fixed = _fixed(dataset, names, immutable) | (low >= high)
    spread, unit = _spread(dataset, seen if varied is None else varied, whose="training" if varied is None else "test")
    return ChangeRules(
        names=tuple(names),
        units=tuple(one.unit for one in features) or (dataset.units,) * count,
        center=center,
        scale=scale,
        low=low,
        high=high,
        step=_steps(low, high, center, scale, digits, seen),
        fixed=fixed,
        spread=spread,
        columns=columns,
        steps_of=steps,
        ranges="bounds of a valid input" if seen is None else f"ranges of {len(seen)} training records",
        unit=unit,
    )


def _spread(dataset: Dataset, records: np.ndarray | None, *, whose: str) -> tuple[np.ndarray, str]:
    """Returns the change of each input that counts as 1 in a distance, and a description of it."""
    spread = np.ones(dataset.shape[0])
    if records is None or not len(records):
        return spread, "units of the inputs"
    # float64: squares of great and small columns leave the range of float32.
    deviation = np.asarray(records, np.float64).std(0)
    number = np.array([one.kind == "number" for one in dataset.features] or [True] * len(spread))
    known = number & np.isfinite(deviation) & (deviation > 0)
    return np.where(known, deviation, spread), f"standard deviations of {len(records)} {whose} records"


def _columns(dataset: Dataset) -> tuple[tuple[np.ndarray, ...], tuple[int, ...]]:
    """Returns the inputs of each column that is no number, and the steps of ordered ones."""
    places: dict[str, list[int]] = {}
    steps: dict[str, int] = {}
    for number, feature in enumerate(dataset.features):
        if feature.kind != "number":
            places.setdefault(feature.column, []).append(number)
            steps[feature.column] = round(feature.scale) if feature.kind == "ordered" else 0
    return tuple(np.array(inputs) for inputs in places.values()), tuple(steps.values())


def _fixed(dataset: Dataset, names: Sequence[str], immutable: Sequence[str] | None) -> np.ndarray:
    columns = [one.column for one in dataset.features] or list(names)
    known = {name.casefold() for name in (*names, *columns)}
    wanted = [name for name in USUALLY_IMMUTABLE if name in known] if immutable is None else list(immutable)
    for name in wanted:
        if name.casefold() not in known:
            raise UserError(
                f"{dataset.name}: {unknown('feature', name, sorted({*names, *columns}))}",
                setting="immutable",
                given=name,
                allowed=sorted({*names, *columns}),
            )
    held = {name.casefold() for name in wanted}
    named = [name.casefold() in held or column.casefold() in held for name, column in zip(names, columns, strict=True)]
    stated = np.zeros(len(names), bool) if dataset.immutable is None else dataset.immutable
    return np.array(named, bool) | np.broadcast_to(stated, (len(names),))


def _steps(  # noqa: PLR0917
    low: np.ndarray, high: np.ndarray, center: np.ndarray, scale: np.ndarray, digits: int, seen: np.ndarray | None
) -> np.ndarray:
    widths = np.abs(scale) * (high.astype(np.float64) - low)
    widths = np.where(np.isfinite(widths) & (widths > 0), widths, np.abs(scale))
    steps = np.array([10.0 ** (math.floor(math.log10(width)) - digits + 1) for width in widths])
    if seen is None:
        return steps
    inputs = seen.astype(np.float64)
    own = center + scale * inputs
    # Stored as float32 of a scaled value: whole numbers come back with an error of a few units in the last place. Where
    # that error hides fractions, or all values round to the same number, nobody can say that they are whole.
    rounding = _LAST_PLACES * np.finfo(np.float32).eps * np.maximum(np.abs(scale * inputs), np.abs(center)).max(0)
    whole = (np.abs(own - np.round(own)) <= rounding).all(0) & (rounding < _FRACTION) & (np.ptp(np.round(own), 0) > 0)
    return np.where(whole, np.maximum(steps, 1.0), steps)


def _exists(values: np.ndarray, steps: int) -> np.ndarray:
    """Returns for which records the inputs of one column hold a value that exists, (n,) bool."""
    if steps:
        places = values[:, 0] * steps
        return np.asarray(np.abs(places - np.round(places)) <= 1e-5)
    known = np.isin(values, (0, 1)).all(1)
    return np.asarray(known if values.shape[1] == 1 else known & (values.sum(1) == 1))
