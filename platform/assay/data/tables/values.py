"""From the text of a column to numbers, or to words. What can be read in two ways is refused by name, never guessed."""

import math
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.data.missing import MISSING
from assay.errors import DataError

_POINT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_COMMA = re.compile(r"[-+]?(\d+,?\d*|,\d+)([eE][-+]?\d+)?")
_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}\.\d{3}")
"""A number with three decimals, or one thousand and more as it is written in German or Spanish."""
_ODD = (
    (re.compile(r"[-+]?[\d.,]+\s*%"), "a percent sign", "write 12 or 0.12 in all rows"),
    (re.compile(r"[<>≤≥~]\s*[-+]?[\d.,]+"), "a limit instead of a value", "write the value, or count it as missing"),
    (re.compile(r"[-+]?\d{1,3}([.,' \u00a0\u202f’]\d{3})+([.,]\d+)?"), "a separator of thousands", "write 1234.5"),
    (re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T]\d.*)?"), "a date", "write days since a fixed one, or the age"),
    (re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?"), "a time", "write minutes"),
    (re.compile(r"[-+]?(inf|infinity)", re.IGNORECASE), "infinity", "write a value, or count it as missing"),
    (re.compile(r"[-+]?[\d.,]+\s*[^\W\d_]\S*"), "a unit behind the number", "write the number, and unit under kinds"),
)  # fmt: skip
_SENTINELS = (-9.0, -99.0, -999.0, -9999.0, 999.0, 9999.0, 99999.0)


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """A column as it was read."""

    numbers: np.ndarray | None
    """(n,) float64 with NaN where missing; None of words."""
    words: list[str]
    """(n,) each value in one way of writing; empty where missing."""
    comma: bool = False
    """Whether a comma stood before decimals."""

    @property
    def missing(self) -> np.ndarray:
        """(n,) bool."""
        return np.array([not word for word in self.words], bool)

    @property
    def distinct(self) -> list[str]:
        """Values that occur, numbers in their order and words in that of the alphabet."""
        found = sorted({word for word in self.words if word})
        return found if self.numbers is None else sorted(found, key=float)


def canonical(value: Any) -> str:
    """One way of writing a value: ``1``, ``1.0`` and ``01`` are one number."""
    text = ("true" if value else "false") if isinstance(value, bool) else str(value).strip()
    if not _POINT.fullmatch(text):
        return text
    number = float(text)
    if math.isinf(number):
        return text
    return str(int(number)) if number == int(number) and abs(number) < 2**53 else repr(number)


def parse(
    name: str,
    cells: Sequence[str],
    *,
    places: Sequence[str],
    where: str,
    missing: Collection[Any] = (),
    decimal: str | None = None,
    words: bool = False,
    thousands: bool = False,
) -> Parsed:
    """A column as numbers where all of its values are, otherwise as words.

    Args:
        missing: what else stands for a missing value, numbers in any way of writing.
        decimal: what stands before decimals; found by itself if None.
        words: take numbers as names, as of categories.
        thousands: whether a point may separate thousands, see ``points_may_be_thousands``.

    Raises:
        DataError: some values are numbers and others are not, or numbers can be read in two ways.
    """
    codes = {canonical(code).casefold() for code in missing} | set(MISSING)
    gone = [cell.casefold() in codes or canonical(cell).casefold() in codes for cell in cells]
    held = [(place, cell) for place, cell, absent in zip(places, cells, gone, strict=True) if not absent]
    if words or not any(_POINT.fullmatch(cell) or _COMMA.fullmatch(cell) for _, cell in held):
        for place, cell in held if not words else ():
            _refuse_odd(name, cell, place, where)
        for place, cell in held:
            if "\n" in cell:
                raise _error(name, f"{place} holds a line break ({cell[:20]!r} …)", "drop the column", where, cell)
        written = ["" if absent else canonical(cell) for cell, absent in zip(cells, gone, strict=True)]
        return Parsed(numbers=None, words=written)
    comma = _comma(name, held, where, decimal, thousands=thousands)
    pattern = _COMMA if comma else _POINT
    for place, cell in held:
        if not pattern.fullmatch(cell):
            _refuse_odd(name, cell, place, where)
            others = sum(bool(pattern.fullmatch(other)) for _, other in held)
            raise _error(
                name,
                f"{place} holds {cell!r}, and {others} of {len(held)} values are numbers",
                f"name it under missing (missing: [{cell!r}]), or say kinds: {{{name}: category}}",
                where,
                cell,
            )
    numbers = np.full(len(cells), np.nan)
    for row, (cell, absent) in enumerate(zip(cells, gone, strict=True)):
        if not absent:
            numbers[row] = float(cell.replace(",", ".") if comma else cell)
    if np.isinf(numbers).any():
        row = int(np.isinf(numbers).argmax())
        raise _error(name, f"{places[row]} holds {cells[row]!r}", "write a finite number", where, cells[row])
    written = ["" if absent else canonical(repr(n)) for n, absent in zip(numbers.tolist(), gone, strict=True)]
    return Parsed(numbers=numbers, words=written, comma=comma)


def points_may_be_thousands(columns: Iterable[Sequence[str]], separator: str) -> bool:
    """Whether a point before three digits may separate thousands in a file.

    It may where some column has decimals behind a comma, and where semicolons separate columns and no number of the
    file has a point that can only stand before decimals.
    """
    columns = list(columns)
    behind_comma = re.compile(r"[-+]?(\d*,(\d{1,2}|\d{4,})|0,\d+)")
    if any("," in cell and behind_comma.fullmatch(cell) for column in columns for cell in column):
        return True
    return separator == ";" and not any(
        "." in cell and _POINT.fullmatch(cell) and not _THOUSANDS.fullmatch(cell)
        for column in columns
        for cell in column
    )


def _comma(
    name: str, held: Sequence[tuple[str, str]], where: str, decimal: str | None, *, thousands: bool = False
) -> bool:
    """Whether a comma stands before decimals in a column."""
    commas = [(place, cell) for place, cell in held if "," in cell]
    points = [(place, cell) for place, cell in held if "." in cell and _POINT.fullmatch(cell)]
    if decimal == ".":
        return False
    if decimal == ",":
        if points:
            place, cell = points[0]
            raise _error(name, f"{place} holds {cell!r} though decimal is ','", "write it with a comma", where, cell)
        return True
    if not commas:
        if thousands and points and all(_THOUSANDS.fullmatch(cell) for _, cell in points):
            place, cell = points[0]
            told = f"{place} holds {cell!r}, which is one thousand and more, or a number with three decimals"
            fix = (
                f"if a point stands before decimals, say kinds: {{{name}: {{decimal: '.'}}}} (or decimal: '.' of all "
                "columns), otherwise write numbers without it"
            )
            raise _error(name, told, fix, where, cell, setting="decimal")
        return False
    place, cell = commas[0]
    if points:
        told = f"{place} holds {cell!r} and {points[0][0]} holds {points[0][1]!r}: points and commas are mixed"
        raise _error(name, told, "write all numbers in one way", where, cell, setting="decimal")
    if all(re.fullmatch(r"[-+]?[1-9]\d{0,2}(,\d{3})+", other) for _, other in commas):
        told = f"{place} holds {cell!r}, which is one thousand and more, or a number with three decimals"
        fix = "if a comma stands before decimals, say decimal: ',', otherwise write numbers without it"
        raise _error(name, told, fix, where, cell, setting="decimal")
    return True


def _refuse_odd(name: str, cell: str, place: str, where: str) -> None:
    for pattern, what, remedy in _ODD:
        if pattern.fullmatch(cell):
            fix = f"{remedy}, leave the column out (drop: [{name}]), or say kinds: {{{name}: category}}"
            raise _error(name, f"{place} holds {cell!r}: {what}", fix, where, cell)


def _error(name: str, told: str, fix: str, where: str, given: Any, *, setting: str = "kinds") -> DataError:
    return DataError(f"{where}, column {name!r}: {told}; {fix}", setting=setting, given=given, allowed=fix)


def refuse_sentinels(name: str, numbers: np.ndarray, *, where: str, allowed: bool) -> tuple[str, ...]:
    """Let pass numbers among which no code of a missing value stands out; a warning where zeros do.

    Args:
        allowed: whether the column's codes of missing values were named: then what is left is a value.

    Raises:
        DataError: -9, -99, 999 or their like stand far from all other values.
    """
    held = numbers[np.isfinite(numbers)]
    distinct, counts = np.unique(held, return_counts=True)
    if allowed or len(distinct) < 3:
        return ()
    for code in _SENTINELS:
        others = distinct[distinct != code]
        apart = others.min() >= 0 if code < 0 else 2 * others.max() < code and others.min() >= 0
        if code in distinct and apart:
            times = int(counts[distinct == code][0])
            raise DataError(
                f"{where}, column {name!r} holds {code:g} {times} times, and otherwise {others.min():g} to "
                f"{others.max():g}; if it stands for a missing value, say kinds: {{{name}: {{missing: [{code:g}]}}}}, "
                f"if it is a value, kinds: {{{name}: {{missing: []}}}}",
                setting="missing",
                given=code,
                allowed=f"kinds: {{{name}: {{missing: [{code:g}]}}}}",
            )
    steps = np.diff(distinct)
    if distinct[0] == 0 and len(distinct) >= 10 and steps[0] >= 5 * np.median(steps[1:]):
        return (
            f"{name} is 0 in {counts[0]} records and otherwise {distinct[1]:g} or more: if 0 stands for a missing "
            f"value, say kinds: {{{name}: {{missing: [0]}}}}",
        )
    return ()
