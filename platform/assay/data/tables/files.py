"""Files of rows and columns, read as text: CSV, TSV and Parquet. Ambiguous files are refused with a clear error."""

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from assay.data.delimited import decoded, refuse_second_heading, split_into_rows
from assay.data.spellings import normalised, refuse_alike
from assay.errors import DataError

TEXT = (".csv", ".tsv", ".tab", ".txt", ".data")
_WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".xlsb", ".ods")
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?")


@dataclass(frozen=True, kw_only=True)
class Cells:
    """A table as text: the cell of each column and record, without outer blanks."""

    columns: dict[str, list[str]]
    places: list[str]
    """Place of each record in the file, for errors: ``line 5``."""
    separator: str
    """Separator between columns; empty where the file format defines columns."""
    told: tuple[str, ...] = ()
    """Messages about what was left out, and why."""

    @property
    def rows(self) -> int:
        return len(self.places)

    def only(self, kept: Sequence[int]) -> "Cells":
        """Returns some of the records.

        Args:
            kept: their positions.

        Returns:
            The selected records.
        """
        columns = {name: [cells[i] for i in kept] for name, cells in self.columns.items()}
        places = [self.places[i] for i in kept]
        return Cells(columns=columns, places=places, separator=self.separator, told=self.told)


def read_cells(path: Path, *, columns: Sequence[str], separator: str | None, encoding: str | None) -> Cells:
    """Reads a file as text.

    Args:
        path: of the file.
        columns: names of the columns of a file without a heading.
        separator: between columns; detected if None.
        encoding: of the text; UTF-8 if None, or UTF-16 where the file begins with its byte order mark.

    Returns:
        The table.

    Raises:
        DataError: the file is absent, of another kind, ragged, or can be read in several ways.
    """
    where = f"table {str(path)!r}"
    if not path.is_file():
        raise DataError(f"{where} does not exist; give a .csv, .tsv or .parquet file", setting="path", given=str(path))
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet(path, where, columns)
    if suffix not in TEXT:
        remedy = "save the sheet as CSV (UTF-8)" if suffix in _WORKBOOKS else "save it as CSV"
        raise DataError(
            f"{where} ends in {path.suffix!r}, which is not read here; {remedy}",
            setting="path",
            given=path.suffix,
            allowed=(*TEXT, ".parquet"),
        )
    text = decoded(path, encoding, where=where)
    first = re.match(r"sep=(.)\r?\n", text)
    if first:  # a line in which spreadsheets name the separator
        separator, text = separator or first[1], text[first.end() :]
    separator = separator or _separator(text, where, suffix)
    return _delimited(text, separator, where, columns, offset=1 if first else 0)


def _split(text: str, separator: str) -> list[tuple[int, list[str]]]:
    """Returns rows with the number of the line on which each ends; raises ``csv.Error`` where quotes do not close."""
    rows = split_into_rows(text, separator, quoted=True, blanks=False)
    return [(row.last, [cell.strip(" \t\u00a0\r\n") for cell in row.fields]) for row in rows if row.fields]


def _separator(text: str, where: str, suffix: str) -> str:
    """Returns the only separator at which every row has as many columns as the first."""
    fitting = []
    for separator in _SEPARATORS:
        try:
            widths = {len(row) for _, row in _split(text, separator)}
        except csv.Error:
            continue
        if len(widths) == 1 and widths != {1}:
            fitting.append(separator)
    if len(fitting) > 1 and suffix in (".tsv", ".tab") and "\t" in fitting:
        return "\t"
    if len(fitting) > 1:
        raise DataError(
            f"{where} can be read with {' or '.join(_SEPARATORS[one] for one in fitting)} between columns; say which: "
            f"separator: {fitting[0]!r}",
            setting="separator",
            given=fitting,
            allowed=tuple(_SEPARATORS),
        )
    if fitting:
        return fitting[0]
    # None fits: the most probable one is used, and the first row that does not fit is reported.
    heading = text.partition("\n")[0]
    return max(_SEPARATORS, key=heading.count)


def _delimited(text: str, separator: str, where: str, columns: Sequence[str], *, offset: int) -> Cells:
    try:
        rows = _split(text, separator)
    except csv.Error as error:
        raise DataError(
            f"{where}: a quotation mark does not close, or stands inside a quoted cell ({error}); write a mark inside "
            'quotes twice, "5"" tube"',
            setting="path",
            given=str(error),
        ) from None
    full = [(line + offset, row) for line, row in rows if any(row)]
    messages = [] if len(full) == len(rows) else [f"{len(rows) - len(full)} rows without any value were left out"]
    if not full:
        raise DataError(f"{where} is empty", setting="path", given=0)
    names = list(columns) if columns else full[0][1]
    body = full if columns else full[1:]
    if columns:
        _refuse_heading(full[0], columns, where)
    else:
        _refuse_missing_heading(names, where)
    refuse_second_heading([(f"line {line}", row) for line, row in body], names, where)
    if not body:
        raise DataError(f"{where} has a heading and no rows", setting="path", given=0)
    for line, row in body:
        if len(row) != len(names):
            raise DataError(
                f"{where}, line {line}: {len(row)} columns where {'columns names' if columns else 'the heading has'} "
                f"{len(names)}; put cells that hold {_SEPARATORS.get(separator, separator)}s in quotes, or name every "
                "column",
                setting="columns",
                given=len(row),
                allowed=len(names),
            )
        _refuse_swallowed(row, separator, len(names), where, line)
    named = _named(names, where)
    cells = {name: [row[place] for _, row in body] for place, name in enumerate(named)}
    for name in [name for name in cells if name not in names and not any(cells[name])]:
        del cells[name]
        messages.append(f"{name} has neither a name nor a value and was left out")
    places = [f"line {line}" for line, _ in body]
    return Cells(columns=cells, places=places, separator=separator, told=tuple(messages))


def _named(names: Sequence[str], where: str) -> list[str]:
    """Returns names of all columns; one without a name is called by its position."""
    named = [name or f"column {place}" for place, name in enumerate(names, 1)]
    refuse_alike(named, where=where, setting="columns", what="columns")
    return named


def _refuse_missing_heading(names: Sequence[str], where: str) -> None:
    numbers = [float(name.replace(",", ".")) for name in names if _NUMBER.fullmatch(name)]
    rising = all(one < other for one, other in pairwise(numbers))  # a heading of a spectrum, such as its masses
    if all(not name or name == "?" for name in names) or (2 * len(numbers) > len(names) and not rising):
        raise DataError(
            f"{where}: its first row holds {', '.join(names[:4])} … and no names; name the columns in order, columns: "
            "[age, sex, …]",
            setting="columns",
            given=list(names),
        )


def _refuse_heading(first: tuple[int, list[str]], columns: Sequence[str], where: str) -> None:
    names = {normalised(name) for name in columns}
    if any(cell and not _NUMBER.fullmatch(cell) and normalised(cell) in names for cell in first[1]):
        raise DataError(
            f"{where}, line {first[0]}: the file has a heading of its own ({', '.join(first[1][:4])} …); leave columns "
            "out, or remove the heading",
            setting="columns",
            given=list(columns),
            allowed=[],
        )


def _refuse_swallowed(row: Sequence[str], separator: str, width: int, where: str, line: int) -> None:
    """Raises if a quoted cell over several lines looks as if it contained whole rows of the table."""
    for cell in row:
        if "\n" in cell and width > 1 and any(part.count(separator) >= width - 1 for part in cell.splitlines()):
            raise DataError(
                f"{where}, line {line}: a quoted cell holds what looks like whole rows of the table; close its quotes",
                setting="path",
                given=cell[:40],
            )


def _parquet(path: Path, where: str, columns: Sequence[str]) -> Cells:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if columns:
        raise DataError(f"{where} names its columns itself; leave columns out", setting="columns", given=list(columns))
    try:
        names = pq.read_schema(path).names
        refuse_alike(names, where=where, setting="columns", what="columns")
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{where} cannot be read as Parquet: {error}", setting="path", given=str(path)) from None
    cells = {name: [_written(value) for value in table[name].to_pylist()] for name in names}
    messages = []
    for name in [name for name in names if name.startswith("__index_level_")]:
        if len(set(cells[name])) == len(cells[name]):
            del cells[name]
            messages.append("the index of the rows, which numbers them, was left out")
    places = [f"row {number}" for number in range(1, table.num_rows + 1)]
    return Cells(columns=cells, places=places, separator="", told=tuple(messages))


def _written(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace").strip()
    return repr(value) if isinstance(value, float) else str(value).strip()
