"""Delimited text files: their characters, and their rows with the lines that each came from."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.data.identifiers import as_seen
from assay.errors import DataError

_NAMED = 8
"""Lines that a message names; of more it gives the number."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a delimited file."""

    fields: list[str]
    first: int
    """Line of the file where it begins, from 1."""
    last: int

    @property
    def where(self) -> str:
        return f"line {self.first}" if self.first == self.last else f"lines {self.first} to {self.last}"


def decoded(path: Path, encoding: str) -> str:
    """The characters of a file.

    Raises:
        DataError: it is absent, or not in this encoding.
    """
    if not path.is_file():
        raise DataError(f"{str(path)!r} does not exist; the data set needs it beside its other files")
    try:
        content = path.read_bytes().decode(encoding)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        known = "UTF-8" if encoding == "utf-8-sig" else encoding
        raise DataError(
            f"{str(path)!r}, line {line}: byte {error.object[error.start]:#04x} is no {known}; save the file as "
            "UTF-8, or say which encoding it is in (encoding: cp1252, say)",
            setting="encoding",
            given=encoding,
        ) from None
    except LookupError:
        raise DataError(
            f"encoding {encoding!r} is unknown; use utf-8, cp1252, latin-1 …", setting="encoding", given=encoding
        ) from None
    if "\0" in content:
        line = content[: content.index("\0")].count("\n") + 1
        raise DataError(
            f"{str(path)!r}, line {line}: a NUL character, so the file is no text in {encoding}; it may be UTF-16: "
            "say encoding: utf-16, or save it as UTF-8",
            setting="encoding",
            given=encoding,
        )
    return content


def rows_of(path: Path, content: str, separator: str, *, quoted: bool, columns: int | None = None) -> Iterator[Row]:
    """Rows of a delimited text, blank lines passed over.

    Raises:
        DataError: a quotation mark is out of place, or a row has other than ``columns`` columns; names the line.
    """
    csv.field_size_limit(1 << 24)
    quoting: Any = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=separator, quoting=quoting, strict=quoted)
    before = 0
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise DataError(
                f"{str(path)!r}, line {before + 1}: {error}; a quotation mark that opens a field must close it: write "
                "one inside of a text twice, or set quoted: false if they are characters of the texts",
                setting="quoted",
                given=quoted,
            ) from None
        if fields is None:
            return
        row = Row(fields=fields, first=before + 1, last=reader.line_num)
        before = reader.line_num
        if not any(field.strip() for field in fields):
            continue
        if columns is not None and len(fields) != columns:
            raise _ragged(path, row, columns, separator, quoted)
        yield row


def label_of(written: str) -> str:
    """A label without what no reader sees: spaces around it, repeated ones, characters without width."""
    return as_seen(written)


def named(places: Sequence[str]) -> str:
    """The first few of many lines."""
    more = len(places) - _NAMED
    return ", ".join(places[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _ragged(path: Path, row: Row, columns: int, separator: str, quoted: bool) -> DataError:
    why = ""
    if not quoted and any(field.startswith('"') for field in row.fields):
        why = (
            "; the texts seem to be in quotation marks and to hold tabs or line breaks: set quoted: true, or write "
            "each text on one line"
        )
    elif not quoted:
        why = "; a text must not hold a tab or a line break"
    elif len(row.fields) > columns:
        why = f"; put a text that holds {separator!r} in quotation marks"
    return DataError(
        f"{str(path)!r}, {row.where}: {len(row.fields)} columns instead of {columns}{why}",
        setting="columns",
        given=len(row.fields),
        allowed=columns,
    )
