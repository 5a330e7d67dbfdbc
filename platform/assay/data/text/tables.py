"""Tables of labelled texts: the roles of columns, the rows that are used, and messages about the others.

Quoting follows the separator unless it is set: with commas or semicolons fields may be quoted (RFC 4180); with tabs
they are not, unless the column names are in quotation marks. Otherwise a quotation mark in a tab-separated text is a
character like any other. A quoted field may contain line breaks. But a line within it that looks like a whole row (as
many columns as the heading, and a known class) is an error: a quotation mark before it was never closed.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from assay.data.base import PARTS, part_of_split
from assay.data.delimited import DelimitedRow, decoded, first_lines, label_of, refuse_second_heading, rows_of
from assay.data.identifiers import (
    GroupKind,
    group_column,
    names_nobody,
    names_sites,
    refuse_ambiguous,
    refuse_patients_alike,
    refuse_perhaps,
    refuse_shared,
)
from assay.data.missing import NO_TEXT_LABEL
from assay.data.spellings import UNSEEN, normalised, refuse_alike
from assay.data.text.words import words_of
from assay.errors import DataError

_MISSING_TEXT = NO_TEXT_LABEL - {"none", "na", "n/a", "?"}
"""Spellings of a missing text; "none" may be a real text."""
_BREAK = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, kw_only=True)
class Document:
    """One labelled text."""

    text: str
    label: str
    part: str = ""
    """One of ``PARTS`` where the texts come with a split; else empty."""
    group: str = ""
    where: str = ""
    """Line in the file, for messages."""


@dataclass(frozen=True, kw_only=True)
class DocumentTable:
    """Documents of a file, with messages about its rows."""

    documents: list[Document]
    reading: tuple[str, ...]
    """Lines for the user on what was read."""
    warnings: tuple[str, ...] = ()
    group_kind: GroupKind = "patient"


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of the columns of a table."""

    text: str
    label: str
    split: str | None = None
    group: str | None = None
    """The column of patients; None for the one with a usual name, if there is one, and empty for none."""
    dropped: tuple[str, ...] = ()
    """Columns that are not of patients, whatever their names are."""

    @property
    def named(self) -> list[str]:
        return [name for name in (self.text, self.label, self.split, self.group) if name]


def read_table(
    path: Path,
    columns: Columns,
    *,
    parts: Mapping[str, str] | None = None,
    classes: Sequence[str] = (),
    encoding: str = "utf-8-sig",
    quoted: bool | None = None,
    on_missing: Literal["fail", "skip"] = "fail",
) -> DocumentTable:
    """Reads the texts of a table with a heading, separated by tabs, commas or semicolons, as its heading shows.

    Args:
        path: of the file.
        columns: names of the columns.
        parts: meaning of the values of the split column; by default that of ``part_of_split``.
        classes: labels that are classes whatever they look like, for example "none".
        encoding: of the text.
        quoted: whether quotation marks enclose fields; by default they do, with tabs only if the file begins with one.
        on_missing: whether rows without a text or a label are an error (``fail``), or are left out and counted
            (``skip``).

    Returns:
        The documents, with messages.

    Raises:
        DataError: names the column, the line or the byte that is wrong.
    """
    content = decoded(path, encoding)
    separator, heading, begins = _heading(path, content, columns)
    refuse_alike(heading, where=repr(str(path)), setting="path", what="columns")
    given = columns.group
    columns = _found(columns, heading, where=repr(str(path)))
    if quoted is None:
        quoted = separator != "\t" or content.lstrip("\ufeff \r\n").startswith('"')
    every = rows_of(path, content, separator, quoted=quoted, columns=len(heading))
    rows = [row for row in every if row.first > begins]
    if not rows:
        raise DataError(f"{str(path)!r} has a heading and no texts", setting="path", given=str(path))
    refuse_second_heading([(row.where, row.fields) for row in rows], heading, repr(str(path)))
    table_rows = _Rows(path=path, columns=columns, heading=heading, separator=separator, rows=rows, classes=classes)
    table_rows.refuse_swallowed()
    table_rows.refuse_spellings()
    kept, left_out = table_rows.present(on_missing)
    few: tuple[str, ...] = ()
    if columns.group:
        patients = [label_of(one) for one in table_rows.of(columns.group)]
        refuse_patients_alike(patients, where=f"{str(path)!r}: {columns.group}", column=columns.group)
        refuse_shared(patients, where=repr(str(path)), column=columns.group)
        few = refuse_ambiguous(columns.group, patients, given=given, where=repr(str(path)))
    return DocumentTable(
        documents=[table_rows.document(number, parts) for number in kept],
        reading=(*table_rows.counted(len(kept)), *left_out),
        warnings=(*left_out, *(() if quoted else table_rows.enclosed()), *few),
        group_kind="site" if columns.group and names_sites(columns.group) else "patient",
    )


def _found(columns: Columns, heading: Sequence[str], *, where: str) -> Columns:
    """Returns the columns, completed by usual names of a split and of patients in the heading."""
    if columns.split is None:
        usual = [name for name in heading if normalised(name) == "split"]
        free = [name for name in usual if name not in (*columns.named, *columns.dropped)]
        columns = replace(columns, split=free[0] if free else None)
    if columns.group == "":
        return columns
    others = [name for name in heading if name not in (columns.text, columns.label, columns.split)]
    group = group_column(others, given=columns.group, where=where, dropped=columns.dropped)
    if group is None:
        refuse_perhaps(others, where=where, dropped=columns.dropped)
    return replace(columns, group=group)


def _heading(path: Path, content: str, columns: Columns) -> tuple[str, list[str], int]:
    """Returns the separator, the names of the columns, and the line of the heading."""
    separators = "\t" if path.suffix.lower() in (".tsv", ".tab") else ",;\t"
    first_rows: dict[str, DelimitedRow | None] = {
        mark: next(rows_of(path, content, mark, quoted=True), None) for mark in separators
    }
    if all(row is None for row in first_rows.values()):
        raise DataError(
            f"{str(path)!r} is empty; its first row must name the columns, {columns.text} and "
            f"{columns.label} among them",
            setting="path",
            given=str(path),
        )
    heads = {mark: [label_of(name) for name in row.fields] for mark, row in first_rows.items() if row is not None}
    mark = next((mark for mark, names in heads.items() if set(columns.named) <= set(names)), None)
    if mark is None:
        mark = max(heads, key=lambda one: len(heads[one]))
        absent = next(name for name in columns.named if name not in heads[mark])
        raise DataError(
            f"{str(path)!r} has no column {absent!r}; it has {', '.join(heads[mark])}",
            setting=absent,
            given=absent,
            allowed=heads[mark],
        )
    for name in columns.named:
        if heads[mark].count(name) > 1:
            raise DataError(
                f"{str(path)!r} has {heads[mark].count(name)} columns {name!r}; rename all but one",
                setting=name,
                given=heads[mark],
            )
    row = first_rows[mark]
    assert row is not None
    return mark, heads[mark], row.last


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """The rows of a table below its heading."""

    path: Path
    columns: Columns
    heading: list[str]
    separator: str
    rows: list[DelimitedRow]
    classes: Sequence[str]

    @cached_property
    def texts(self) -> list[str]:
        return self.of(self.columns.text)

    @cached_property
    def labels(self) -> list[str]:
        return [label_of(written) for written in self.of(self.columns.label)]

    def of(self, column: str) -> list[str]:
        """Returns a column as it is written."""
        place = self.heading.index(column)
        return [row.fields[place] for row in self.rows]

    def counted(self, used: int) -> Iterator[str]:
        """Yields lines for the user on the number of rows."""
        first, last = self.rows[0].first, self.rows[-1].last
        yield f"{len(self.rows):,} rows in lines {first} to {last} of {self.path.name}, {used:,} used"
        several = [row.last - row.first + 1 for row in self.rows if row.last > row.first]
        if several:
            yield f"{len(several):,} rows hold texts of several lines, the longest of {max(several)}"
        spaced = sum(a != b for a, b in zip(self.of(self.columns.label), self.labels, strict=True))
        if spaced:
            yield f"{spaced:,} labels were freed of spaces around them"

    def refuse_swallowed(self) -> None:
        """Raises if a line within a field of several lines is a row of its own: a quotation mark was left open.

        Raises:
            DataError: names the line where it was opened.
        """
        single = [row.first == row.last for row in self.rows]
        classes = {*self.classes, *(label for label, one in zip(self.labels, single, strict=True) if one)} - {""}
        place = self.heading.index(self.columns.label)
        for row in (row for row, one in zip(self.rows, single, strict=True) if not one):
            for fields in self._rows_within(row):
                if len(fields) == len(self.heading) and label_of(fields[place]) in classes:
                    raise DataError(
                        f"{str(self.path)!r}, {row.where}: within one field stands a row of its own, with the label "
                        f"{label_of(fields[place])!r}: a quotation mark in line {row.first} is never closed. Close it, "
                        "write it twice, or set quoted: false if marks are characters of the texts",
                        setting="quoted",
                        given=row.first,
                    )

    def _rows_within(self, row: DelimitedRow) -> Iterator[list[str]]:
        """Yields each line of a field of several lines as a row, with the columns beside the field."""
        for number, field in enumerate(row.fields):
            lines = _BREAK.split(field)
            for place, line in enumerate(lines if len(lines) > 1 else ()):
                if self.separator in line:
                    before = row.fields[:number] if place == 0 else []
                    behind = row.fields[number + 1 :] if place == len(lines) - 1 else []
                    yield [*before, *line.split(self.separator), *behind]

    def refuse_spellings(self) -> None:
        """Raises if labels may be one class in several spellings; those that ``classes`` names are accepted.

        Raises:
            DataError: names the spellings, or the column if it holds no classes at all.
        """
        alike: dict[str, set[str]] = {}
        for label in {label for label in self.labels if label.lower() not in NO_TEXT_LABEL} - set(self.classes):
            alike.setdefault(_plain(label), set()).add(label)
        for spellings in alike.values():
            if len(spellings) > 1:
                counts = Counter(label for label in self.labels if label in spellings)
                spelled = ", ".join(f"{label!r} ({count:,} rows)" for label, count in sorted(counts.items()))
                raise DataError(
                    f"{str(self.path)!r}: {self.columns.label} has {spelled}, which may be one class; write it in one "
                    "way, or name each in class_names if they are different ones",
                    setting="class_names",
                    given=sorted(spellings),
                )
        if len(alike) > 20 and len(alike) * 2 > len(self.labels):
            raise DataError(
                f"{str(self.path)!r}: {self.columns.label} has {len(alike):,} different values in "
                f"{len(self.labels):,} rows, so it is no column of classes; name the right one with label",
                setting="label",
                given=self.columns.label,
            )

    def present(self, on_missing: str) -> tuple[list[int], tuple[str, ...]]:
        """Returns the positions of the rows that have a label and a text, and messages about the others.

        Raises:
            DataError: there are others, and they must not be left out, or no row remains.
        """
        lacking = {
            self.columns.label: [self._has_no_label(label) for label in self.labels],
            self.columns.text: [_has_no_text(text) for text in self.texts],
        }
        lines = {name: [row for row, no in zip(self.rows, lacks, strict=True) if no] for name, lacks in lacking.items()}
        gaps = tuple(
            f"{len(rows):,} of {len(self.rows):,} rows have no {name}: {first_lines([row.where for row in rows])}"
            for name, rows in lines.items()
            if rows
        )
        if gaps and on_missing == "fail":
            raise DataError(
                f"{str(self.path)!r}: {'; '.join(gaps)}; fill them in, or set on_missing: skip to leave these rows out"
                + ("; what is a class of that name must stand in class_names" if lines[self.columns.label] else ""),
                setting="on_missing",
                given=sorted({row.first for rows in lines.values() for row in rows}),
                allowed=["fail", "skip"],
            )
        kept = [n for n, no in enumerate(zip(*lacking.values(), strict=True)) if not any(no)]
        if not kept:
            raise DataError(f"{str(self.path)!r}: {'; '.join(gaps)}; no row is left", setting="on_missing")
        return kept, tuple(f"left out: {line}" for line in gaps)

    def _has_no_label(self, label: str) -> bool:
        return label.lower() in NO_TEXT_LABEL and label not in self.classes

    def enclosed(self) -> Iterator[str]:
        """Yields a warning if texts look as if the quotation marks around them were not part of the text."""
        count = sum(len(text) > 1 and text[0] == text[-1] == '"' and '""' in text[1:-1] for text in self.texts)
        if count:
            yield (
                f"{count:,} texts stand in quotation marks, which were read as characters: set quoted: true if they "
                "are none"
            )

    def document(self, number: int, parts: Mapping[str, str] | None) -> Document:
        """Returns one row as a labelled text.

        Raises:
            DataError: its part of the split is unknown, or its group is missing.
        """
        row = self.rows[number]
        cells = dict(zip(self.heading, row.fields, strict=True))
        part, group = cells.get(self.columns.split or "", "").strip(), label_of(cells.get(self.columns.group or "", ""))
        part_meant = (part_of_split(part) if parts is None else parts.get(part)) if part else None
        if self.columns.split is not None and part_meant is None:
            allowed = list(PARTS if parts is None else parts)
            raise DataError(
                f"{str(self.path)!r}, {row.where}: split {part!r} is unknown; allowed: {', '.join(allowed)}. If column "
                f"{self.columns.split!r} says no part of an official split, leave it out: drop: [{self.columns.split}]",
                setting=self.columns.split,
                given=part,
                allowed=allowed,
            )
        if self.columns.group and names_nobody(group):
            raise DataError(
                f"{str(self.path)!r}, {row.where}: {self.columns.group} is empty; name the group of every text, "
                "or none",
                setting=self.columns.group,
                given=group,
            )
        return Document(
            text=cells[self.columns.text],
            label=self.labels[number],
            part=part_meant or "",
            group=group,
            where=row.where,
        )


def _has_no_text(text: str) -> bool:
    return text.translate(UNSEEN).strip().lower() in _MISSING_TEXT or not words_of(text)


def _plain(label: str) -> str:
    """Returns the common form of spellings of one class: letters in one case, or the same number."""
    try:
        return f"{float(label):g}"
    except ValueError:
        quoted = len(label) > 1 and label[0] == label[-1] and label[0] in "\"'"
        return unicodedata.normalize("NFKC", label[1:-1].strip() if quoted else label).casefold()
