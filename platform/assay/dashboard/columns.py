"""One column of a table that grows: numbers or categories, stored only once they differ between trials."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

Kind = Literal["number", "category"]


class Column:
    """Values of one setting or figure over all rows of a table.

    As long as all rows have the same value, this value alone is stored: of some sixty settings of a recipe, a sweep
    varies three. A column begins with numbers, and becomes one of categories when a value comes that is none.

    Args:
        value: of all rows so far; None where they have none.
    """

    def __init__(self, value: Any = None) -> None:
        self.constant = value
        self.kind: Kind = "number"
        self.names: list[str] = []
        """Of categories, in the order in which they came."""
        self._codes: dict[str, int] = {}
        self._values: np.ndarray | None = None
        """Numbers as float64 with NaN for none, or codes of names as int32 with −1 for none."""

    @property
    def varied(self) -> bool:
        """Whether rows differ."""
        return self._values is not None

    def write(self, rows: np.ndarray, values: Sequence[Any] | np.ndarray, *, before: int, capacity: int) -> None:
        """Writes the values of some rows.

        Args:
            rows: their places.
            values: numbers, bools, texts, or None where a row has none; or an array of numbers.
            before: number of rows that the table had before these.
            capacity: rows for which the table has room.
        """
        if self._values is None and self._still_constant(values, before):
            return
        if self._values is None:
            self._spread(before, capacity)
        assert self._values is not None
        if len(self._values) < capacity:
            self._values = np.concatenate([self._values, self._blank(capacity - len(self._values))])
        if self.kind == "number":
            numbers = _numbers(values)
            if numbers is not None:
                self._values[rows] = numbers
                return
            self._to_categories()
        self._values[rows] = [self._code(value) for value in values]

    def read(self, rows: np.ndarray | slice, count: int) -> np.ndarray:
        """Returns the values of some rows.

        Args:
            rows: their places.
            count: number of rows of the table.

        Returns:
            Numbers as float64 with NaN for none, or codes of ``names`` as int32 with −1 for none.
        """
        if self._values is not None:
            return self._values[:count][rows]
        self._spread(count, count)
        assert self._values is not None
        values, self._values = self._values[rows], None
        return values

    def text(self, row: int) -> Any:
        """Returns the value of one row as it was written: a number, a text, or None.

        Args:
            row: its place.

        Returns:
            The value.
        """
        if self._values is None:
            return self.constant
        value = self._values[row]
        if self.kind == "category":
            return None if value < 0 else self.names[int(value)]
        return None if np.isnan(value) else float(value)

    def _still_constant(self, values: Sequence[Any] | np.ndarray, before: int) -> bool:
        """Whether these values are one, which all rows before have too; the first rows of all decide it."""
        first = values[0]
        if isinstance(values, np.ndarray):
            same = bool(np.isnan(values).all()) if np.isnan(first) else bool((values == first).all())
        else:
            same = all(value is first or (type(value) is type(first) and value == first) for value in values)
        first = None if isinstance(first, float) and np.isnan(first) else first
        if same and not before:
            self.constant = first
        return same and (first is None) == (self.constant is None) and first == self.constant

    def _spread(self, before: int, capacity: int) -> None:
        """Gives each row a value of its own."""
        self._values = self._blank(capacity)
        if self.constant is None:
            return
        numbers = _numbers([self.constant])
        if numbers is None and self.kind == "number":
            self._to_categories()
        self._values[:before] = numbers[0] if numbers is not None else self._code(self.constant)

    def _blank(self, count: int) -> np.ndarray:
        return np.full(count, np.nan) if self.kind == "number" else np.full(count, -1, np.int32)

    def _to_categories(self) -> None:
        self.kind = "category"
        numbers = self._values
        assert numbers is not None
        self._values = self._blank(len(numbers))
        known = np.flatnonzero(~np.isnan(numbers))
        self._values[known] = [self._code(float(number)) for number in numbers[known]]

    def _code(self, value: Any) -> int:
        if value is None or (isinstance(value, float) and np.isnan(value)):
            return -1
        name = shown(value)
        if name not in self._codes:
            self._codes[name] = len(self.names)
            self.names.append(name)
        return self._codes[name]


def shown(value: Any) -> str:
    """Returns a value as the name of a category.

    Args:
        value: a number, a bool, a text, or a list of these.

    Returns:
        The text.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ", ".join(map(shown, value)) or "none"
    return str(value)


def _numbers(values: Sequence[Any] | np.ndarray) -> np.ndarray | None:
    """Returns values as float64 with NaN for none; None if one is no number."""
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        return values
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in values if value is not None):
        return None
    return np.array([np.nan if value is None else float(value) for value in values])
