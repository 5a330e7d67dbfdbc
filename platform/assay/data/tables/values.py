"""Converts the text of a column to numbers or words. Ambiguous values are refused by name, never guessed."""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.data.missing import MISSING
from assay.data.numbers import LARGEST
from assay.errors import DataError

_POINT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_COMMA = re.compile(r"[-+]?(\d+,?\d*|,\d+)([eE][-+]?\d+)?")
_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}\.\d{3}")
"""A number with three decimals, or a number above one thousand in German or Spanish notation."""
_UNIT = re.compile(
    r"([$€£¥]?)\s*([-+]?(?:\d+(?:[.,]\d+)*|[.,]\d+)(?:[eE][-+]?\d+)?)\s*"
    r"((?!(?:st|nd|rd|th)\b)(?:\*\s?10|10\s?\^|/(?!\s*\d)|[^\s\d.,:;+±\-–(=?!<>*#†‡↑↓/])[^,;\n]{0,24})?"
)
"""A currency sign, a number, and a unit after it: ``37.0 °C``, ``4000 /µL``, ``5.1 x10^9/L``; not an ordinal number."""
_DASH = re.compile(r"^[\u2010-\u2013\u2212\ufe63\uff0d](?=[\d.,])")
_FEWEST_ABOVE = 10
"""Least number of values above a line of totals; fewer may add up to it by chance."""
_NEAR_TOTAL = 1e-3
"""Greatest difference of a total from the sum or mean of the values above, in their standard deviations."""
_FEWEST_MERGED = 3
"""Least number of words of a column that are taken for merged cells."""
_NAMED = 3
"""Greatest number of cells that a message shows."""
_MONTH = (
    r"(jan(uary|uar|vier)?|ene(ro)?|gen(naio)?|feb(ruary|ruar|rero|braio)?|f[eé]v(rier)?|mar(ch|s|zo)?|märz?|mrz|"
    r"apr(il|ile)?|abr(il)?|avr(il)?|mayo?|mai|mag(gio)?|june?|juni|junio|juin|giu(gno)?|july?|juli|julio|juil(let)?|"
    r"lug(lio)?|aug(ust)?|ao[uû]t|ago(sto)?|sept?(ember|iembre|tembre|embre)?|set(tembre)?|o[ck]t(ober|ubre|obre)?|"
    r"ott(obre)?|nov(ember|iembre|embre)?|de[cz](ember)?|d[ée]c(embre)?|dic(iembre|embre)?)"
)
_ODD = (
    (re.compile(r"[-+]?[\d.,]+\s*%"), "a percent sign", "write 12 or 0.12 in all rows"),
    (re.compile(r"[<>≤≥~≈]=?\s*[-+]?[\d.,]+(\s*[^\W\d_%°/]\S*)?"), "a limit instead of a value",
     "write the value, or count it as missing"),
    (re.compile(r"[-+]?[\d.,]+\s*[*†‡!#↑↓]+"), "a mark behind the number", "write the number alone"),
    (re.compile(r"\d{2,3}\s*/\s*\d{2,3}|[-+]?[\d.,]+\s*(±|\+/-)\s*[\d.,]+"), "two numbers",
     "write each into a column of its own"),
    (re.compile(r"[-+]?\d{1,3}([.,' \u00a0\u202f’]\d{3})+([.,]\d+)?"), "a separator of thousands", "write 1234.5"),
    (re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T]\d.*)?"), "a date", "write days since a fixed one, or the age"),
    (re.compile(rf"(\d{{1,2}}(st|nd|rd|th)?\.?[\s/-]*(de\s+)?)?{_MONTH}\.?[\s,/-]*(de\s+)?(\d{{1,2}},?\s+)?(19|20)\d\d|"
                rf"(19|20)\d\d[\s/-]{_MONTH}([\s/-]\d{{1,2}})?|(\d{{1,2}}[/-])?{_MONTH}[/'-]\d\d", re.IGNORECASE),
     "a date", "write days since a fixed one, or the age"),
    (re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?"), "a time", "write minutes"),
    (re.compile(r"-?\d+ days?, \d{1,2}:\d{2}:\d{2}(\.\d+)?"), "a duration", "write hours or days"),
    (re.compile(r"[1-4]\d\s*\+\s*[0-6](/7)?"), "weeks and days", "write days"),
    (re.compile(r"[\d.,]+\s*-"), "a minus sign behind the number", "write it in front"),
    (re.compile(r"\([\d.,]+\)"), "a number in brackets", "write -12 if that is meant, or name it under missing"),
    (re.compile(r"='?\"?[-+]?[\d.,]+\"?|'[-+]?[\d.,]+'?"), "a number that a spreadsheet keeps as text",
     "write the number alone"),
    (re.compile(r"#(DIV/0!|REF!|VALUE!|NAME\?|NUM!|NULL!|SPILL!|CALC!)"), "an error of a spreadsheet",
     "correct its formula, or name it under missing"),
    (re.compile(r"\[.*\]|\{.*\}", re.DOTALL), "several values", "write each into a column of its own"),
    (re.compile(r"[-+]?(inf|infinity)", re.IGNORECASE), "infinity", "write a value, or count it as missing"),
)  # fmt: skip


_Held = Sequence[tuple[str, str]]
"""Places and cells of the values that are not missing."""


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """Values of a column."""

    numbers: np.ndarray | None
    """(n,) float64 with NaN where missing; None for words."""
    words: list[str]
    """(n,) each value in canonical spelling; empty where missing."""
    comma: bool = False
    """Whether the decimal separator is a comma."""
    unit: str = ""
    """Unit after every number, or currency sign before it; empty if there is none."""

    @property
    def missing(self) -> np.ndarray:
        """(n,) bool: records without a value."""
        return np.array([not word for word in self.words], bool)

    @property
    def distinct(self) -> list[str]:
        """Values that occur: numbers in increasing order, words in alphabetical order."""
        values = sorted({word for word in self.words if word})
        return values if self.numbers is None else sorted(values, key=float)


def canonical(value: Any) -> str:
    """Returns the canonical spelling of a value: ``1``, ``1.0`` and ``01`` are one number.

    Args:
        value: number, text or truth value.

    Returns:
        The text.
    """
    text = ("true" if value else "false") if isinstance(value, bool) else with_minus(str(value).strip())
    if not _POINT.fullmatch(text):
        return text
    number = float(text)
    if math.isinf(number):
        return text
    return str(int(number)) if number == int(number) and abs(number) < 2**53 else repr(number)


def with_minus(cell: str) -> str:
    """Returns a cell with an ASCII minus where another minus or dash precedes a number.

    Args:
        cell: text of the cell.

    Returns:
        The text.
    """
    return cell if cell.isascii() else _DASH.sub("-", cell)


def column_error(name: str, told: str, fix: str, where: str, given: Any, *, setting: str = "kinds") -> DataError:
    """Returns an error that names a column, the problem and the remedy.

    Args:
        name: of the column.
        told: the problem, as a clause.
        fix: the remedy, as a clause.
        where: the data.
        given: the value at fault.
        setting: that resolves it.

    Returns:
        The error, to be raised.
    """
    return DataError(f"{where}, column {name!r}: {told}; {fix}", setting=setting, given=given, allowed=fix)


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
    """Returns a column as numbers if all of its values are, with one unit after all or none; otherwise as words.

    Args:
        name: of the column.
        cells: (n,) text.
        places: (n,) of the records, for errors.
        where: the data, for errors.
        missing: further spellings of a missing value; numbers match in any spelling.
        decimal: decimal separator; detected if None.
        words: treat numbers as names, as for categories.
        thousands: whether a point may separate thousands; see ``points_may_be_thousands``.
        unit: the stated one, which may be after some numbers and not after others.

    Returns:
        The values.

    Raises:
        DataError: some values are numbers and others are not, or numbers can be read in two ways.
    """
    cells = [with_minus(cell) for cell in cells]
    codes = {canonical(code).casefold() for code in missing} | set(MISSING)
    absent_rows = [cell.casefold() in codes or canonical(cell).casefold() in codes for cell in cells]
    present: _Held = [
        (place, cell) for place, cell, absent in zip(places, cells, absent_rows, strict=True) if not absent
    ]
    cells, present, unit_found = (cells, present, "") if words else _without_unit(cells, present, absent_rows, unit)
    if words or not any(_POINT.fullmatch(cell) or _COMMA.fullmatch(cell) for _, cell in present):
        _refuse_in_words(name, present, where, stated=words)
        written = ["" if absent else canonical(cell) for cell, absent in zip(cells, absent_rows, strict=True)]
        return Parsed(numbers=None, words=written)
    comma = _comma(name, present, where, decimal, thousands=thousands)
    _refuse_in_numbers(name, present, where, unit, comma=comma)
    numbers = np.array(
        [np.nan if absent else float(cell.replace(",", ".")) for cell, absent in zip(cells, absent_rows, strict=True)]
    )
    beyond = np.abs(numbers) > LARGEST
    if beyond.any():
        row = int(beyond.argmax())
        problem = f"{places[row]} holds {cells[row]!r}, and numbers of 32 bits, as of networks, end at {LARGEST:.3g}"
        fix = f"write the number in a larger unit, or say kinds: {{{name}: category}} if it is a code"
        raise column_error(name, problem, fix, where, cells[row])
    written = ["" if absent else canonical(repr(n)) for n, absent in zip(numbers.tolist(), absent_rows, strict=True)]
    return Parsed(numbers=numbers, words=written, comma=comma, unit=unit_found)


def _without_unit(
    cells: Sequence[str], held: _Held, gone: Sequence[bool], stated: str
) -> tuple[Sequence[str], _Held, str]:
    """Returns the cells without a unit that is after all of them, or that was stated; and the unit as written."""
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
    """Returns a unit without blanks and, except for single letters, without case: ``mg/dl`` and ``mg / dL`` are one."""
    text = re.sub(r"\s", "", unit).replace("º", "°").replace("µ", "μ")
    return text.casefold() if len(text) > 1 else text


def _refuse_in_words(name: str, held: _Held, where: str, *, stated: bool) -> None:
    """Raises if a category has several lines or, unless stated, is a number with a unit or a mark."""
    if not stated:
        _refuse_numbers_in_words(name, held, where)
    for place, cell in held:
        if "\n" in cell:
            problem = f"{place} holds a line break ({cell[:20]!r} …)"
            raise column_error(name, problem, "drop the column", where, cell)


def _refuse_in_numbers(name: str, held: _Held, where: str, unit: str, *, comma: bool) -> None:
    """Raises if a value is not a number, or decimal commas and points are mixed."""
    pattern = _COMMA if comma else _POINT
    for place, cell in held:
        if pattern.fullmatch(cell):
            continue
        _refuse_odd(name, cell, place, where)
        _refuse_units(name, held, where, unit, given=cell)
        others = sum(bool(pattern.fullmatch(other)) for _, other in held)
        raise column_error(
            name,
            f"{place} holds {cell!r}, and {others} of {len(held)} values are numbers",
            f"name it under missing (missing: [{cell!r}]), or say kinds: {{{name}: category}}",
            where,
            cell,
        )


def _refuse_numbers_in_words(name: str, held: _Held, where: str) -> None:
    """Raises if categories are numbers with a suffix, limits, dates and so on."""
    with_unit = [cell for _, cell in held if (part := _UNIT.fullmatch(cell)) and (part[1] or part[3])]
    if with_unit and 2 * len(with_unit) >= len(held):
        _refuse_units(name, held, where, "", given=with_unit[0])
    for place, cell in held:
        _refuse_odd(name, cell, place, where)
        if re.fullmatch(r"[-+]?[\d.,]+\s*[^\W\d_]\S*", cell):
            _refuse_units(name, held, where, "", given=cell)


def _refuse_units(name: str, held: _Held, where: str, stated: str, *, given: str) -> None:
    """Raises if the given cell, like others of the column, has a unit or a sign before or after its number."""
    shown = [(place, cell) for place, cell in held if (part := _UNIT.fullmatch(cell)) and (part[1] or part[3])]
    if given not in [cell for _, cell in shown]:
        return
    some = ", ".join(f"{place}: {cell!r}" for place, cell in shown[:_NAMED])
    more = f", and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
    part = _UNIT.fullmatch(given)
    unit = ((part[1] + (part[3] or "")) if part else "").strip()
    why = f", and unit is {stated!r}" if stated else ""
    raise column_error(
        name,
        f"{len(shown)} of {len(held)} values are a number with a unit or a sign ({some}{more}){why}",
        f"if all values are in {unit!r} say kinds: {{{name}: {{unit: {unit!r}}}}}, and name what is no value under "
        f"missing; otherwise write numbers in one unit, leave the column out (drop: [{name}]), or say kinds: {{{name}: "
        "category}",
        where,
        given,
    )


def refuse_totals(numbers: Mapping[str, np.ndarray], places: Sequence[str], *, where: str) -> None:
    """Raises if the last record is the sum or the mean of all others.

    Args:
        numbers: (n,) of each column, NaN where missing.
        places: (n,) of the records, for errors.
        where: the data, for errors.

    Raises:
        DataError: it is, so it is a line of totals and not a record.
    """
    for name, values in numbers.items():
        above = values[:-1][np.isfinite(values[:-1])]
        if len(above) < _FEWEST_ABOVE or values[-1] in above or len(np.unique(above)) < _FEWEST_ABOVE:
            continue
        for what, figure in (("sum", above.sum()), ("mean", above.mean())):
            if figure and abs(values[-1] - figure) <= min(1e-6 * abs(figure), _NEAR_TOTAL * above.std()):
                raise DataError(
                    f"{where}, {places[-1]}: {name} is {values[-1]:g}, the {what} of all {len(above)} values above it: "
                    "the last line seems to hold totals and no record; remove it",
                    setting="path",
                    given=places[-1],
                    allowed="records",
                )


def zeros_in_front(name: str, cells: Sequence[str]) -> tuple[str, ...]:
    """Returns a warning if whole numbers have leading zeros, as codes do.

    Args:
        name: of the column.
        cells: (n,) text.

    Returns:
        The warning, or nothing.
    """
    padded = next((cell for cell in cells if re.fullmatch(r"0\d+", cell)), None)
    if padded is None:
        return ()
    return (
        f"{name} was read as numbers, and some are written with zeros in front ({padded}), as codes are: if they name "
        f"something say kinds: {{{name}: category}}, if they are numbers kinds: {{{name}: number}}",
    )


def merged_cells(name: str, words: Sequence[str]) -> tuple[str, ...]:
    """Returns a warning if words occur once each, the first in the first record, and most records have none.

    Args:
        name: of the column.
        words: (n,) values, empty where missing.

    Returns:
        The warning, or nothing.
    """
    present = [word for word in words if word]
    if (
        len(present) < _FEWEST_MERGED
        or len(set(present)) < len(present)
        or not words[0]
        or 2 * len(present) > len(words)
    ):
        return ()
    return (
        f"{name} holds {len(present)} words, each once, and nothing in {len(words) - len(present)} records: if these "
        "were cells that a spreadsheet had merged, write the word into every row",
    )


def points_may_be_thousands(columns: Iterable[Sequence[str]], separator: str) -> bool:
    """Returns whether a point before three digits may separate thousands in a file.

    It may if some column has decimals after a comma, or if semicolons separate columns and no number of the file has a
    point that can only be a decimal point.

    Args:
        columns: cells of each column.
        separator: between columns.

    Returns:
        True if it may.
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
    """Returns whether the decimal separator of a column is a comma."""
    commas = [(place, cell) for place, cell in held if "," in cell]
    points = [(place, cell) for place, cell in held if "." in cell and _POINT.fullmatch(cell)]
    if decimal == ".":
        return False
    if decimal == ",":
        if points:
            place, cell = points[0]
            raise column_error(
                name, f"{place} holds {cell!r} though decimal is ','", "write it with a comma", where, cell
            )
        return True
    if not commas:
        if thousands and points and all(_THOUSANDS.fullmatch(cell) for _, cell in points):
            place, cell = points[0]
            problem = f"{place} holds {cell!r}, which is one thousand and more, or a number with three decimals"
            fix = (
                f"if a point stands before decimals, say kinds: {{{name}: {{decimal: '.'}}}} (or decimal: '.' of all "
                "columns), otherwise write numbers without it"
            )
            raise column_error(name, problem, fix, where, cell, setting="decimal")
        return False
    place, cell = commas[0]
    if points:
        problem = f"{place} holds {cell!r} and {points[0][0]} holds {points[0][1]!r}: points and commas are mixed"
        raise column_error(name, problem, "write all numbers in one way", where, cell, setting="decimal")
    if all(re.fullmatch(r"[-+]?[1-9]\d{0,2}(,\d{3})+", other) for _, other in commas):
        problem = f"{place} holds {cell!r}, which is one thousand and more, or a number with three decimals"
        fix = "if a comma stands before decimals, say decimal: ',', otherwise write numbers without it"
        raise column_error(name, problem, fix, where, cell, setting="decimal")
    return True


def _refuse_odd(name: str, cell: str, place: str, where: str) -> None:
    for pattern, what, remedy in _ODD:
        if pattern.fullmatch(cell):
            fix = f"{remedy}, leave the column out (drop: [{name}]), or say kinds: {{{name}: category}}"
            raise column_error(name, f"{place} holds {cell!r}: {what}", fix, where, cell)
