"""Records of a table by the names of their columns, in clinical units, as inputs of the model.

A record is an object such as ``{"age": 63, "height": {"value": 1.71, "unit": "m"}, "sex": "female"}``. Each column
becomes the inputs that it is in the data set (``Dataset.features``): preprocessing is part of the model. A column that
is absent, null or one of the data set's codes of missing values is filled as the data set states, with a warning, or
refused where it states nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assay.data.base import Dataset
from assay.data.features import Feature
from assay.data.missing import MISSING
from assay.data.tables.values import canonical
from serve.inputs.numbers import number_of
from serve.inputs.units import LONGEST, Conversion, canonical_unit, conversions
from serve.refusals import RefusedError

_MOST_NAMES = 2000
"""Greatest length of a list of names in a message, in characters."""
_MOST_WARNINGS = 16
"""Greatest number of filled columns that the warnings of a record name; further ones are counted."""
_QUANTITY = {"value", "unit"}


class NamedColumns:
    """Columns of a prepared table, by which records are named.

    A table that states no features, such as the user's own arrays, is read by the names of its inputs, in their units.

    Args:
        dataset: as the model takes it.
    """

    def __init__(self, dataset: Dataset) -> None:
        features = dataset.features or tuple(
            Feature(name=name, column=name, kind="number") for name in dataset.feature_names
        )
        by_column: dict[str, list[int]] = {}
        for place, feature in enumerate(features):
            by_column.setdefault(feature.column, []).append(place)
        self._columns = {
            name: _column(name, [features[place] for place in places], places) for name, places in by_column.items()
        }
        self._inputs = len(features)
        self._unscaled = "" if dataset.features else f"values were taken as inputs of the model, in {dataset.units}"

    @property
    def names(self) -> list[str]:
        """Names of all columns."""
        return list(self._columns)

    @property
    def places(self) -> list[list[int]]:
        """Positions of the inputs of each column."""
        return [column.places for column in self._columns.values()]

    def describe(self) -> list[dict[str, Any]]:
        """Returns name, kind, unit, allowed units and categories of each column, for the metadata of the model."""
        return [column.describe() for column in self._columns.values()]

    def inputs(self, records: Sequence[Any]) -> tuple[np.ndarray, list[list[str]]]:
        """Converts records to inputs of the model.

        Args:
            records: objects with values by the name of their column.

        Returns:
            (n, inputs) float64, and the warnings of each record.

        Raises:
            RefusedError: a record is no object or names an unknown column; a value is of another kind, in another unit,
                no known category, or missing where the data set states no replacement. Names record and column, and
                nothing of the request.
        """
        self._refuse_unknown(records)
        x = np.empty((len(records), self._inputs))
        warnings: list[list[str]] = [[self._unscaled] if self._unscaled else [] for _ in records]
        for column in self._columns.values():
            name = column.name
            column.write(x, [record.get(name) for record in records], warnings)
        for of_record in warnings:
            if len(of_record) > _MOST_WARNINGS:
                of_record[_MOST_WARNINGS:] = [f"{len(of_record) - _MOST_WARNINGS} more values were missing and filled"]
        return x, warnings

    def record(self, inputs: np.ndarray) -> dict[str, Any]:
        """Returns inputs of the model as a record with named values, the reverse of ``inputs``.

        Args:
            inputs: (inputs,) of one record.

        Returns:
            Values by the name of their column, in its own unit; a category by its name.
        """
        return {name: column.value(inputs[column.places]) for name, column in self._columns.items()}

    def _refuse_unknown(self, records: Sequence[Any]) -> None:
        known = self._columns.keys()
        for number, record in enumerate(records):
            if type(record) is not dict:
                raise RefusedError(f"record {number} is no object: name the features of all records, or of none")
            unknown = len(record.keys() - known)
            if unknown:
                raise RefusedError(
                    f"record {number} names {unknown} feature{'s' * (unknown > 1)} that the model does not have; it "
                    f"has {_listed(self.names)}",
                    reason="unknown_feature",
                )


def _listed(names: Sequence[str]) -> str:
    """Returns names as text of limited length."""
    text, shown = "", 0
    for name in names:
        if len(text) + len(name) > _MOST_NAMES:
            break
        text, shown = f"{text}{', ' if text else ''}{name}", shown + 1
    return text if shown == len(names) else f"{text}, and {len(names) - shown} more, which the metadata name"


class _Column:
    """One column: its inputs and what becomes of a missing value.

    Args:
        name: of the column.
        features: of its inputs.
        places: of its inputs among those of the model.
    """

    def __init__(self, name: str, features: Sequence[Feature], places: Sequence[int]) -> None:
        self.name, self._features, self.places = name, features, list(places)
        self._first = features[0]

    def describe(self) -> dict[str, Any]:
        """Returns what a caller must know, JSON-able."""
        return {"name": self.name, "kind": self._first.kind, "may_be_missing": self._first.fill is not None}

    def write(self, x: np.ndarray, values: Sequence[Any], warnings: Sequence[list[str]]) -> None:
        """Writes the inputs of all records.

        Args:
            x: (n, inputs) to write into.
            values: of the column, as they were sent; None where missing.
            warnings: of each record, to be extended.

        Raises:
            RefusedError: a value cannot be converted.
        """
        for record, value in enumerate(values):
            inputs = self._converted(value, record)
            if inputs is None:
                inputs = self._filled(record, warnings[record])
            x[record, self.places] = inputs

    def value(self, inputs: np.ndarray) -> float | str:
        """Returns the value that inputs stand for.

        Args:
            inputs: of the column.
        """
        raise NotImplementedError

    def _converted(self, value: Any, record: int) -> Any:
        """Returns the inputs of a value; None for a missing one."""
        raise NotImplementedError

    def _filled(self, record: int, warnings: list[str]) -> Any:
        """Returns the inputs that stand for a missing value, with a warning."""
        fill = self._first.fill
        if fill is None:
            raise self._refusal(
                record, "is missing, and the data set states no replacement: send its value", "missing_value"
            )
        warnings.append(f"{self.name!r} is missing and was filled with {self._written(fill)}, as the data set states")
        return self._converted(fill, record)

    def _written(self, fill: float | str) -> str:
        return str(fill)

    def _is_missing_code(self, value: Any) -> bool:
        missing = self._first.missing
        return bool(missing) and type(value) is not bool and canonical(value) in missing

    def _refusal(self, record: int, problem: str, reason: str = "value") -> RefusedError:
        return RefusedError(f"record {record}: {self.name!r} {problem}", reason=reason)


class _Number(_Column):
    """A column of numbers, with the units that are converted to its own."""

    def __init__(self, name: str, features: Sequence[Feature], places: Sequence[int]) -> None:
        super().__init__(name, features, places)
        self._center, self._scale = self._first.center, self._first.scale
        self._units: Mapping[str, Conversion] = conversions(self._first.unit)

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "unit": self._first.unit, "units": list(self._units)}

    def write(self, x: np.ndarray, values: Sequence[Any], warnings: Sequence[list[str]]) -> None:
        # Numbers in the column's own unit need no look at each value.
        if set(map(type, values)) <= {float, int} and not self._first.missing:
            try:
                numbers = np.array(values, np.float64)
            except OverflowError:
                numbers = np.array([np.inf])
            if np.isfinite(numbers).all():
                x[:, self.places[0]] = (numbers - self._center) / self._scale
                return
        super().write(x, values, warnings)

    def value(self, inputs: np.ndarray) -> float:
        return self._center + self._scale * float(inputs[0])

    def _converted(self, value: Any, record: int) -> float | None:
        unit = Conversion()
        if type(value) is dict:
            if not value.keys() <= _QUANTITY or "value" not in value:
                raise self._refusal(record, 'must be a number or an object {"value": number, "unit": text}')
            unit = self._conversion(value["unit"], record) if value.get("unit") is not None else unit
            value = value["value"]
        if value is None:
            return None
        number = number_of(value)
        if number is None:
            raise self._refusal(record, f"must be a finite number{self._in_unit}, without quotation marks")
        # A code of a missing value is one in the unit of the column.
        if unit == Conversion() and self._is_missing_code(value):
            return None
        return (unit.apply(number) - self._center) / self._scale

    @property
    def _in_unit(self) -> str:
        return f" in {self._first.unit}" if self._first.unit else ""

    def _conversion(self, written: Any, record: int) -> Conversion:
        if not self._units:
            raise self._refusal(record, "has no stated unit in this data set: send a number without one", "unit")
        if type(written) is str and len(written) <= LONGEST:
            conversion = self._units.get(written) or self._units.get(canonical_unit(written))
            if conversion is not None:
                return conversion
        others = [code for code in self._units if code != canonical_unit(self._first.unit)][:6]
        alike = f", or another unit of that kind in UCUM, such as {', '.join(others)}" if others else ""
        raise self._refusal(record, f"must be in {self._first.unit}{alike}", "unit")

    def _written(self, fill: float | str) -> str:
        return f"{fill:.6g}{' ' + self._first.unit if self._first.unit else ''}"


class _Category(_Column):
    """A column of categories, ordered or not, which are sent by their names."""

    def __init__(self, name: str, features: Sequence[Feature], places: Sequence[int]) -> None:
        super().__init__(name, features, places)
        self._categories = self._first.categories or self._inferred()
        self._inputs = {category: self._coded(place) for place, category in enumerate(self._categories)}

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "categories": list(self._categories)}

    def value(self, inputs: np.ndarray) -> str:
        distances = [np.abs(np.subtract(inputs, coded)).sum() for coded in self._inputs.values()]
        return self._categories[int(np.argmin(distances))]

    def _inferred(self) -> tuple[str, ...]:
        """Returns the categories that the names of the inputs tell, where the data set does not list them."""
        return tuple(feature.name.removeprefix(f"{self.name}=") for feature in self._features)

    def _coded(self, place: int) -> list[float]:
        """Returns the inputs of a category by its position."""
        if self._first.kind == "ordered":
            return [(place - self._first.center) / self._first.scale]
        # Of two categories, or where the data set says so, the first has no input.
        without = len(self._categories) - len(self._features)
        held = [float(number == place - without) for number in range(len(self._features))]
        return [(value - one.center) / one.scale for value, one in zip(held, self._features, strict=True)]

    def _converted(self, value: Any, record: int) -> list[float] | None:
        if type(value) is dict and value.keys() == {"value"}:
            value = value["value"]
        if value is None:
            return None
        if type(value) not in (str, int, float, bool) or len(str(value)) > 1000:
            raise self._none_of(record)
        category = canonical(value)
        inputs = self._inputs.get(category)
        if inputs is not None:
            return inputs
        if self._is_missing_code(value) or category.casefold() in MISSING:
            return None
        raise self._none_of(record)

    def _none_of(self, record: int) -> RefusedError:
        return self._refusal(record, f"must be one of {_listed(self._categories)}", "category")


def _column(name: str, features: Sequence[Feature], places: Sequence[int]) -> _Column:
    kind = _Number if features[0].kind == "number" else _Category
    return kind(name, features, places)
