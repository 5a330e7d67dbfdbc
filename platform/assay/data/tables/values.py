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
_UNIT = re.compile(
    r"([$€£¥]?)\s*([-+]?(?:\d+(?:[.,]\d+)*|[.,]\d+)(?:[eE][-+]?\d+)?)\s*"
    r"((?!(?:st|nd|rd|th)\b)(?:\*\s?10|10\s?\^|/(?!\s*\d)|[^\s\d.,:;+±\-–(=?!<>*#†‡↑↓/])[^,;\n]{0,24})?"
)
"""A sign of money, a number, and a unit behind it: ``37.0 °C``, ``4000 /µL``, ``5.1 x10^9/L``. No ordinals."""
_NAMED = 3
"""Cells that a message shows."""
_ODD = (
    (re.compile(r"[-+]?[\d.,]+\s*%"), "a percent sign", "write 12 or 0.12 in all rows"),
    (re.compile(r"[<>≤≥~≈]=?\s*[-+]?[\d.,]+(\s*[^\W\d_%°/]\S*)?"), "a limit instead of a value",
     "write the value, or count it as missing"),
    (re.compile(r"[-+]?[\d.,]+\s*[*†‡!#↑↓]+"), "a mark behind the number", "write the number alone"),
    (re.compile(r"\d{2,3}\s*/\s*\d{2,3}|[-+]?[\d.,]+\s*(±|\+/-)\s*[\d.,]+"), "two numbers",
     "write each into a column of its own"),
    (re.compile(r"[-+]?\d{1,3}([.,' \u00a0\u202f’]\d{3})+([.,]\d+)?"), "a separator of thousands", "write 1234.5"),
    (re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T]\d.*)?"), "a date", "write days since a fixed one, or the age"),
    (re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?"), "a time", "write minutes"),
    (re.compile(r"[-+]?(inf|infinity)", re.IGNORECASE), "infinity", "write a value, or count it as missing"),
)  # fmt: skip


_Held = Sequence[tuple[str, str]]
"""Places and cells of the values that are not missing."""


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """A column as it was read."""

    numbers: np.ndarray | None
    """(n,) float64 with NaN where missing; None of words."""
    words: list[str]
    """(n,) each value in one way of writing; empty where missing."""
    comma: bool = False
    """Whether a comma stood before decimals."""
    unit: str = ""
    """What stood behind every number, or a sign of money before it; empty where nothing did."""

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
    unit: str = "",
) -> Parsed:
    """A column as numbers where all of its values are, with one unit behind all or none, otherwise as words.

    Args:
        missing: what else stands for a missing value, numbers in any way of writing.
        decimal: what stands before decimals; found by itself if None.
        words: take numbers as names, as of categories.
        thousands: whether a point may separate thousands, see ``points_may_be_thousands``.
        unit: the stated one, which may stand behind some numbers and not behind others.

    Raises:
        DataError: some values are numbers and others are not, or numbers can be read in two ways.
    """
    codes = {canonical(code).casefold() for code in missing} | set(MISSING)
    gone = [cell.casefold() in codes or canonical(cell).casefold() in codes for cell in cells]
    held: _Held = [(place, cell) for place, cell, absent in zip(places, cells, gone, strict=True) if not absent]
    cells, held, found = (cells, held, "") if words else _without_unit(cells, held, gone, unit)
    if words or not any(_POINT.fullmatch(cell) or _COMMA.fullmatch(cell) for _, cell in held):
        if not words:
            _refuse_numbers_in_words(name, held, where)
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
            _refuse_units(name, held, where, unit, given=cell)
            others = sum(bool(pattern.fullmatch(other)) for _, other in held)
            raise _error(
                name,
                f"{place} holds {cell!r}, and {others} of {len(held)} values are numbers",
                f"name it under missing (missing: [{cell!r}]), or say kinds: {{{name}: category}}",
                where,
                cell,
            )
    numbers = np.array(
        [np.nan if absent else float(cell.replace(",", ".")) for cell, absent in zip(cells, gone, strict=True)]
    )
    if np.isinf(numbers).any():
        row = int(np.isinf(numbers).argmax())
        raise _error(name, f"{places[row]} holds {cells[row]!r}", "write a finite number", where, cells[row])
    written = ["" if absent else canonical(repr(n)) for n, absent in zip(numbers.tolist(), gone, strict=True)]
    return Parsed(numbers=numbers, words=written, comma=comma, unit=found)


def _without_unit(
    cells: Sequence[str], held: _Held, gone: Sequence[bool], stated: str
) -> tuple[Sequence[str], _Held, str]:
    """The cells without a unit that stands behind all of them, or that was stated; and the unit as it was written."""
    parts = [_UNIT.fullmatch(cell) for _, cell in held]
    written = [(part[1] + (part[3] or "")).strip() for part in parts if part is not None]
    units = {_plain(unit) for unit in written}
    one = len(units) == 1 and (not stated or units == {_plain(stated)})
    if len(written) < len(held) or not any(units) or not (one or (stated and units <= {"", _plain(stated)})):
        return cells, held, ""
    numbers = iter([part[2] for part in parts if part is not None])
    bare = [cell if absent else next(numbers) for cell, absent in zip(cells, gone, strict=True)]
    left = [cell for cell, absent in zip(bare, gone, strict=True) if not absent]
    return bare, [(place, cell) for (place, _), cell in zip(held, left, strict=True)], max(written, key=len)


def _plain(unit: str) -> str:
    """A unit without blanks and, but for one letter alone, without case: ``mg/dl`` and ``mg / dL`` are one."""
    text = re.sub(r"\s", "", unit).replace("º", "°").replace("µ", "μ")
    return text.casefold() if len(text) > 1 else text


def _refuse_numbers_in_words(name: str, held: _Held, where: str) -> None:
    """Let pass words of which most are no numbers with something behind them, and none is a limit, a date, …"""
    with_unit = [cell for _, cell in held if (part := _UNIT.fullmatch(cell)) and (part[1] or part[3])]
    if with_unit and 2 * len(with_unit) >= len(held):
        _refuse_units(name, held, where, "", given=with_unit[0])
    for place, cell in held:
        _refuse_odd(name, cell, place, where)
        if re.fullmatch(r"[-+]?[\d.,]+\s*[^\W\d_]\S*", cell):
            _refuse_units(name, held, where, "", given=cell)


def _refuse_units(name: str, held: _Held, where: str, stated: str, *, given: str) -> None:
    """Refuse a column some of whose numbers have something before or behind them, if the given cell does."""
    shown = [(place, cell) for place, cell in held if (part := _UNIT.fullmatch(cell)) and (part[1] or part[3])]
    if given not in [cell for _, cell in shown]:
        return
    some = ", ".join(f"{place}: {cell!r}" for place, cell in shown[:_NAMED])
    more = f", and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
    part = _UNIT.fullmatch(given)
    unit = ((part[1] + (part[3] or "")) if part else "").strip()
    why = f", and unit is {stated!r}" if stated else ""
    raise _error(
        name,
        f"{len(shown)} of {len(held)} values are a number with a unit or a sign ({some}{more}){why}",
        f"if all values are in {unit!r} say kinds: {{{name}: {{unit: {unit!r}}}}}, and name what is no value under "
        f"missing; otherwise write numbers in one unit, leave the column out (drop: [{name}]), or say kinds: {{{name}: "
        "category}",
        where,
        given,
    )


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
