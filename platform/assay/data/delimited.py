"""Delimited text files: decoding, and rows with their line numbers."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.data.spellings import as_seen
from assay.errors import DataError

_NAMED = 8
"""Greatest number of lines that a message names; further ones are counted."""


@dataclass(frozen=True, kw_only=True)
class DelimitedRow:
    """One row of a delimited file."""

    fields: list[str]
    first: int
    """Line of the file where the row begins, from 1."""
    last: int

    @property
    def where(self) -> str:
        return f"line {self.first}" if self.first == self.last else f"lines {self.first} to {self.last}"


def decoded(path: Path, encoding: str | None, *, where: str = "") -> str:
    """Returns the characters of a file, without a byte order mark.

    Args:
        path: of the file.
        encoding: UTF-8 if None or ``utf-8-sig``, or UTF-16 where the file begins with its byte order mark.
        where: the file, for errors.

    Returns:
        The text.

    Raises:
        DataError: it is absent, or not in this encoding.
    """
    where = where or repr(str(path))
    if not path.is_file():
        raise DataError(f"{where} does not exist; the data set needs it beside its other files")
    content = path.read_bytes()
    usual = encoding in (None, "utf-8-sig")
    codec = "utf-16" if usual and content.startswith((b"\xff\xfe", b"\xfe\xff")) else encoding or "utf-8-sig"
    try:
        text = content.decode(codec)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(
            f"{where}, line {line}: byte {error.object[error.start]:#04x} is no {'UTF-8' if usual else codec}; save "
            "the file as UTF-8, or say which encoding it is in (encoding: cp1252, say)",
            setting="encoding",
            given=codec,
        ) from None
    except LookupError:
        raise DataError(
            f"encoding {encoding!r} is unknown; use utf-8, cp1252, latin-1 …", setting="encoding", given=encoding
        ) from None
    _refuse_utf8(content, codec, where)
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError(
            f"{where}, line {line}: a NUL character, so the file is no text in {codec}; it may be UTF-16: say "
            "encoding: utf-16, or save it as UTF-8",
            setting="encoding",
            given=codec,
        )
    return text.removeprefix("\ufeff")


def _refuse_utf8(content: bytes, encoding: str, where: str) -> None:
    """Raises if the encoding has one byte a character, but the bytes beyond ASCII are valid UTF-8."""
    if content.isascii() or len("é".encode().decode(encoding, "replace")) != 2:
        return
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return
    raise DataError(
        f"{where}: its encoding is said to be {encoding}, and its bytes are UTF-8, which would be read as other "
        "characters; leave encoding out",
        setting="encoding",
        given=encoding,
        allowed="utf-8",
    )


def split_into_rows(content: str, separator: str, *, quoted: bool, blanks: bool) -> Iterator[DelimitedRow]:
    """Yields all rows of a delimited text.

    Args:
        content: the text.
        separator: between fields.
        quoted: whether quotation marks enclose fields.
        blanks: whether blanks after a separator belong to the field.

    Yields:
        Each row, with its lines.

    Raises:
        csv.Error: a quotation mark is out of place.
    """
    csv.field_size_limit(1 << 24)
    quoting: Any = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    lines = io.StringIO(content, newline="")
    reader = csv.reader(lines, delimiter=separator, quoting=quoting, strict=quoted, skipinitialspace=not blanks)
    last_line = 0
    for fields in reader:
        yield DelimitedRow(fields=fields, first=last_line + 1, last=reader.line_num)
        last_line = reader.line_num


def rows_of(
    path: Path, content: str, separator: str, *, quoted: bool, columns: int | None = None
) -> Iterator[DelimitedRow]:
    """Yields the rows of a delimited text, without blank lines.

    Args:
        path: of the file, for errors.
        content: the text.
        separator: between fields.
        quoted: whether quotation marks enclose fields.
        columns: number of fields of every row; None if it may vary.

    Yields:
        Each row, with its lines.

    Raises:
        DataError: a quotation mark is out of place, or a row has other than ``columns`` columns; names the line.
    """
    last = 0
    try:
        for row in split_into_rows(content, separator, quoted=quoted, blanks=True):
            last = row.last
            if not any(field.strip() for field in row.fields):
                continue
            if columns is not None and len(row.fields) != columns:
                raise _ragged(path, row, columns, separator, quoted)
            yield row
    except csv.Error as error:
        raise DataError(
            f"{str(path)!r}, line {last + 1}: {error}; a quotation mark that opens a field must close it: write one "
            "inside of a text twice, or set quoted: false if they are characters of the texts",
            setting="quoted",
            given=quoted,
        ) from None


def refuse_second_heading(rows: Iterable[tuple[str, Sequence[str]]], heading: Sequence[str], where: str) -> None:
    """Raises if a row repeats the heading, as happens when files are joined.

    Args:
        rows: place and cells of each row after the heading.
        heading: names of the columns.
        where: the file, for errors.

    Raises:
        DataError: a row does; its cells would be taken for values.
    """
    names = [label_of(name) for name in heading]
    for place, cells in rows:
        if len(cells) == len(names) and all(label_of(one) == name for one, name in zip(cells, names, strict=True)):
            raise DataError(
                f"{where}, {place}: the heading stands here once more; remove the line",
                setting="path",
                given=place,
                allowed="one heading",
            )


def label_of(written: str) -> str:
    """Returns a label without invisible differences: outer blanks, repeated blanks, characters without width.

    Args:
        written: the label in the file.

    Returns:
        The label.
    """
    return as_seen(written)


def first_lines(places: Sequence[str]) -> str:
    """Returns a phrase that names the first few of many lines.

    Args:
        places: of the lines.

    Returns:
        The phrase.
    """
    more = len(places) - _NAMED
    return ", ".join(places[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _ragged(path: Path, row: DelimitedRow, columns: int, separator: str, quoted: bool) -> DataError:
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
