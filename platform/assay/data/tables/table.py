"""Source of the user's own table: a file of rows, with numbers, categories, missing values and patients."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from assay.data.base import PARTS, Dataset, Source, part_of_split
from assay.data.identifiers import GroupKind, as_groups, group_column, names_sites, refuse_ambiguous
from assay.data.label_copies import refuse_label_copies
from assay.data.missing import MISSING
from assay.data.numbers import bounds_around
from assay.data.sentinels import in_two_units, refuse_sentinels
from assay.data.spellings import normalised
from assay.data.subgroups import subgroups_of
from assay.data.suspicion import refuse_identifiers
from assay.data.tables.files import Cells, read_cells
from assay.data.tables.kinds import Column, ColumnSettings, column_of, column_settings
from assay.data.tables.labels import Labels, labels_of
from assay.data.tables.preparation import TablePreparation
from assay.data.tables.values import (
    Parsed,
    canonical,
    merged_cells,
    parse,
    points_may_be_thousands,
    refuse_totals,
    zeros_in_front,
)
from assay.errors import DataError
from assay.registry import register, unknown

_SITE = "site"
"""Column that names the file of each record, where there are several files."""
_MOST_TOLD = 40


@register("dataset")
class TableSource(Source):
    """Your own ``.csv``, ``.tsv`` or ``.parquet`` file: a record a row, with features, a label and a patient.

    Kinds of columns are detected from their values and can be stated (``kinds``). Missing values are filled, numbers
    scaled and categories coded by figures of the training records of each fold, or by stated ones. With stated figures,
    private and federated recipes spend nothing on preprocessing. Attacks cannot change categories unless they are
    ``movable``.
    """

    name: Literal["table"] = "table"
    path: str | dict[str, str]
    """A file, or several by the name of the hospital that they come from: ``{cleveland: a.csv, zurich: b.csv}``; then a
    column ``site`` holds this name."""
    label: str
    """Column of the classes."""
    classes: dict[str, tuple[str | float | bool, ...]] = Field(default_factory=dict)
    """Values of the label that form each class, in order: ``{healthy: [0], ill: [1, 2]}``; by default each value is a
    class."""
    positive: str | None = None
    """The class, of two, that is to be detected; the last by default."""
    group: str | None = None
    """Column that identifies patients; by default the one with a usual name, and none if empty. If it is the column of
    hospitals, hospitals are kept whole: models are tested on hospitals that they were not trained on, and privacy
    protects records, since patients are unknown."""
    site: str | None = None
    """Column of hospitals, which a federation may make its clients: not a feature unless ``features`` names it."""
    subgroups: tuple[str, ...] | None = None
    """Columns that define the subgroups for which figures are reported; they need not be features. By default those
    with a usual name: age, sex, ethnicity, site, device. Ages are put into bands, other numbers into thirds."""
    split: str | None = None
    """Column with train, validation or test for each record, an official split; by default one named split."""
    drop: tuple[str, ...] = ()
    """Columns to leave out."""
    features: tuple[str, ...] = ()
    """Columns that are features whatever they look like."""
    kinds: dict[str, ColumnSettings] = Field(default_factory=dict)
    """Settings of columns: ``{age: {range: [0, 120], unit: years}, sex: category, stage: {order: [I, II, III]}}``."""
    movable: tuple[str, ...] = ()
    """Columns of categories that attacks may change nevertheless."""
    missing: tuple[str | float, ...] = ()
    """Spellings of a missing value in any column, in addition to an empty cell, ``?``, ``NA`` and similar: ``[-9]``."""
    on_missing_label: Literal["fail", "drop"] = "fail"
    columns: tuple[str, ...] = ()
    """Names of the columns of a file without a heading."""
    separator: str | None = None
    """Separator between columns; detected where only one fits."""
    decimal: Literal[".", ","] | None = None
    """Decimal separator; detected where only one fits."""
    encoding: str | None = None
    epsilons: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.5)
    licence: str = "unknown"
    citation: str = ""

    @field_validator("classes", mode="before")
    @classmethod
    def _lists(cls, classes: Any) -> Any:
        """Allows a class of one value to be written without brackets."""
        if not isinstance(classes, dict):
            return classes
        return {name: values if isinstance(values, list | tuple) else (values,) for name, values in classes.items()}

    def load(self) -> Dataset:
        cells = self._read()
        self._refuse_unknown(list(cells.columns))
        cells, lost = self._labelled(cells)
        classes = labels_of(
            cells.columns[self.label],
            column=self.label,
            where=self._where,
            classes=self.classes,
            positive=self.positive,
        )
        parted = self._split_column(list(cells.columns))
        names = [name for name in cells.columns if name not in (self.label, parted)]
        others = [name for name in names if name != self.site or self.group == self.site]
        chosen = group_column(others, given=self.group, where=self._where, insisted=self.features, dropped=self.drop)
        apart = {self.label, parted, *self.drop, *({chosen, self._site} - set(self.features))}
        features = [name for name in cells.columns if name not in apart]
        thousands = points_may_be_thousands([cells.columns[name] for name in features], cells.separator)
        parsed = {name: self._parsed(name, cells, thousands=thousands) for name in features}
        numbers = {name: one.numbers for name, one in parsed.items() if one.numbers is not None}
        refuse_totals(numbers, cells.places, where=self._where)
        kept, dropped = self._varying(parsed)
        columns = [self._column(name, parsed) for name in kept]
        if not columns:
            raise DataError(f"{self._where}: no column is left as a feature", setting="drop", given=list(self.drop))
        suspected = self._suspected(columns, parsed, classes, cells, grouped=chosen is not None)
        groups = None if chosen is None else as_groups(self._patients(chosen, cells), where=self._where, column=chosen)
        if chosen is not None and groups is not None:
            suspected += refuse_ambiguous(chosen, groups, given=self.group, where=self._where)
        lines = [*cells.told, *lost, *dropped, classes.told, *self._roles(chosen, groups, cells), *_written(parsed)]
        dataset = self._dataset([column for column, _ in columns], [values for _, values in columns], cells)
        return replace(
            dataset,
            y=classes.y,
            class_names=classes.names,
            groups=groups,
            group_kind=self._kind(chosen),
            site=self._sites(chosen, cells),
            official=None if parted is None else self._official(parted, cells),
            subgroups=subgroups_of(
                cells.columns,
                asked=self.subgroups,
                where=self._where,
                dropped={self.label, *(() if self._kind(chosen) == "site" else (chosen or "",))},
            ),
            warnings=(*dataset.warnings, *classes.warnings, *suspected),
            stated=(*dataset.warnings, *classes.warnings),
            reading=(f"{cells.rows} records, {len(columns)} features", *lines, *_described(columns)),
        )

    def owes(self) -> str:
        numbers = "no column has a stated range or categories (kinds), so scales are learnt from the records"
        return "" if self.kinds else numbers

    @property
    def _where(self) -> str:
        return f"table {self.path!r}" if isinstance(self.path, str) else f"table of {', '.join(self.path)}"

    def _kind(self, chosen: str | None) -> GroupKind:
        """Returns whether the groups of the chosen column are patients or sites."""
        return "site" if chosen is not None and (chosen == self._site or names_sites(chosen)) else "patient"

    @property
    def _site(self) -> str | None:
        return self.site or (None if isinstance(self.path, str) else _SITE)

    def _read(self) -> Cells:
        files = {"": self.path} if isinstance(self.path, str) else self.path
        if not files:
            raise DataError("path names no file; give one, or several by name", setting="path", given=self.path)
        read = {
            site: read_cells(
                Path(file).expanduser(), columns=self.columns, separator=self.separator, encoding=self.encoding
            )
            for site, file in files.items()
        }
        return read[""] if "" in read else _joined(read, self._site or _SITE)

    def _refuse_unknown(self, names: Sequence[str]) -> None:
        """Raises if a setting names a column that the file does not have."""
        columns_by_setting: dict[str, Sequence[str]] = {
            "label": (self.label,),
            "split": () if self.split is None else (self.split,),
            "site": () if self.site is None else (self.site,),
            "drop": self.drop,
            "features": self.features,
            "kinds": tuple(self.kinds),
            "movable": self.movable,
        }
        for setting, given in columns_by_setting.items():
            for name in given:
                if name not in names:
                    raise DataError(
                        f"{self._where}: {setting}: {unknown('column', name, list(names))}",
                        setting=setting,
                        given=name,
                        allowed=list(names),
                    )

    def _split_column(self, names: Sequence[str]) -> str | None:
        """Returns the column of an official split: the one that is given, or an unused one named split."""
        other = {self.label, self.group, self.site, *self.drop, *self.features, *self.kinds}
        usual = [name for name in names if normalised(name) == "split" and name not in other]
        return self.split or (usual[0] if usual else None)

    def _official(self, column: str, cells: Cells) -> np.ndarray:
        """Returns (n,) the part of each record."""
        parts = [part_of_split(cell) for cell in cells.columns[column]]
        if None in parts:
            row = parts.index(None)
            raise DataError(
                f"{self._where}, column {column!r}: {cells.places[row]} holds {cells.columns[column][row]!r}, which is "
                f"no part of an official split; write train, validation or test, leave the column out with drop: "
                f"[{column}], or make it a feature with features: [{column}]",
                setting="split",
                given=cells.columns[column][row],
                allowed=PARTS,
            )
        return np.array(parts, dtype=str)

    def _patients(self, column: str, cells: Cells) -> np.ndarray:
        """Returns (n,) the name of each record's patient, empty where it is a code of missing values."""
        missing = (*self.missing, *(column_settings(self.kinds, column).missing or ()))
        codes = {canonical(code).casefold() for code in missing}
        written = cells.columns[column]
        return np.array(["" if canonical(cell).casefold() in codes else _named(cell) for cell in written])

    def _sites(self, chosen: str | None, cells: Cells) -> np.ndarray | None:
        """Returns (n,) the hospital of each record: of the column ``site``, or of one by which records are grouped."""
        column = self._site or (chosen if self._kind(chosen) == "site" else None)
        return None if column is None else self._patients(column, cells)

    def _labelled(self, cells: Cells) -> tuple[Cells, list[str]]:
        """Returns the records with a label, and a message about those without."""
        codes = {canonical(code).casefold() for code in self.missing} | set(MISSING)
        codes |= {canonical(code).casefold() for code in column_settings(self.kinds, self.label).missing or ()}
        missing = [canonical(cell).casefold() in codes for cell in cells.columns[self.label]]
        if not any(missing):
            return cells, []
        lost = [place for place, absent in zip(cells.places, missing, strict=True) if absent]
        if self.on_missing_label == "fail" or all(missing):
            raise DataError(
                f"{self._where}: column {self.label!r} is missing in {len(lost)} of {cells.rows} records, the first at "
                f"{lost[0]}; name the column of the classes, or leave such records out: on_missing_label: drop",
                setting="on_missing_label",
                given=len(lost),
                allowed="drop",
            )
        kept = [row for row, absent in enumerate(missing) if not absent]
        return cells.only(kept), [f"{len(lost)} records without a label were left out, the first at {lost[0]}"]

    def _settings(self, name: str, parsed: dict[str, Parsed]) -> ColumnSettings:
        """Returns the settings of a column, with the unit found in its cells where none is stated."""
        settings = column_settings(self.kinds, name)
        return settings if settings.unit else settings.model_copy(update={"unit": parsed[name].unit})

    def _column(self, name: str, parsed: dict[str, Parsed]) -> tuple[Column, np.ndarray]:
        """Returns a column and its values, see ``column_of``."""
        settings = self._settings(name, parsed)
        column, values = column_of(name, parsed[name], settings, where=self._where)
        codes = (*self.missing, *(settings.missing or ()))
        return replace(column, codes=tuple(canonical(code) for code in codes)), values

    def _parsed(self, name: str, cells: Cells, *, thousands: bool) -> Parsed:
        settings = column_settings(self.kinds, name)
        return parse(
            name,
            cells.columns[name],
            places=cells.places,
            where=self._where,
            missing=self.missing if settings.missing is None else (*self.missing, *settings.missing),
            decimal=settings.decimal or self.decimal or ("." if not cells.separator else None),
            words=settings.stated in ("category", "ordered"),
            thousands=thousands,
            unit=settings.unit,
        )

    def _varying(self, parsed: dict[str, Parsed]) -> tuple[list[str], list[str]]:
        """Returns the columns that vary, or that have settings; and messages about the others."""
        kept, messages = [], []
        for name, column in parsed.items():
            values = column.distinct
            stated = column_settings(self.kinds, name).stated is not None or name in self.features
            if len(values) > 1 or (values and (stated or column.missing.any())) or stated:
                kept.append(name)
            else:
                messages.append(f"{name} was left out: {f'it is always {values[0]}' if values else 'it has no value'}")
        return kept, messages

    def _suspected(
        self,
        columns: Sequence[tuple[Column, np.ndarray]],
        parsed: dict[str, Parsed],
        classes: Labels,
        cells: Cells,
        *,
        grouped: bool,
    ) -> tuple[str, ...]:
        """Returns warnings about features that may identify records, be the label, or contain codes of missing values.

        Raises:
            DataError: one certainly does.
        """
        warnings = list(
            refuse_identifiers(
                [(column.name, values, column.kind != "number") for column, values in columns if not _binary(column)],
                classes.y,
                grouped=grouped,
                where=self._where,
                insisted=[*self.features, *self.kinds],
            )
        )
        examined = [(column.name, values) for column, values in columns if column.name not in self.features]
        _, written = np.unique(cells.columns[self.label], return_inverse=True)
        warnings += refuse_label_copies(examined, [classes.y, written], where=self._where)
        for column, _ in columns:
            numbers = parsed[column.name].numbers
            if column.settings.stated in ("number", None) and numbers is not None:
                allowed = column.settings.missing is not None
                warnings += refuse_sentinels(column.name, numbers, where=self._where, allowed=allowed)
                warnings += in_two_units(column.name, numbers)
            if column.settings.stated is None and column.name not in self.features:
                doubt = merged_cells if numbers is None else zeros_in_front
                warnings += doubt(
                    column.name, parsed[column.name].words if numbers is None else cells.columns[column.name]
                )
        return (*classes.counted, *warnings)

    def _roles(self, chosen: str | None, groups: np.ndarray | None, cells: Cells) -> list[str]:
        lines = [] if groups is None else [f"{self._kind(chosen)}s by {chosen}: {len(np.unique(groups))}"]
        if self._site is not None:
            counts = {site: cells.columns[self._site].count(site) for site in dict.fromkeys(cells.columns[self._site])}
            lines.append(f"{self._site}: " + ", ".join(f"{site} ({count})" for site, count in counts.items()))
        if self.drop:
            lines.append(f"left out as asked: {', '.join(self.drop)}")
        return lines

    def _dataset(self, columns: list[Column], values: list[np.ndarray], cells: Cells) -> Dataset:
        """Returns the records before preprocessing; labels, patients and class names are added later."""
        preparation = TablePreparation(columns=tuple(columns), movable=frozenset(self.movable))
        fixed = np.array([column.kind != "number" and column.name not in self.movable for column in columns])
        without_range = [column.name for column in columns if column.kind == "number" and column.settings.range is None]
        warnings = []
        low, high = bounds_around(np.array([one.low for one in columns]), np.array([one.high for one in columns]))
        if without_range:
            warnings.append(
                f"bounds of {', '.join(without_range[:6])}{' …' if len(without_range) > 6 else ''} were taken from the "
                "data, those of the test records included; state their range under kinds"
            )
        if fixed.all():
            warnings.append("every feature is a category that no attack may move, so none can do any harm (movable)")
        return Dataset(
            name=Path(self.path).stem if isinstance(self.path, str) else "-".join(self.path),
            x=np.stack(values, axis=1),
            y=np.arange(cells.rows) % 2,
            class_names=("0", "1"),
            feature_names=tuple(column.name for column in columns),
            low=low,
            high=high,
            units=preparation.units,
            epsilons=self.epsilons,
            immutable=fixed if fixed.any() else None,
            licence=self.licence,
            citation=self.citation,
            preprocessing="a table as in the file",
            unpaid_preprocessing=False,
            warnings=tuple(warnings),
            preparation=preparation,
        )


def _joined(read: dict[str, Cells], site: str) -> Cells:
    """Concatenates several files, with the name of each in a column."""
    first, *others = read.items()
    for name, cells in others:
        if list(cells.columns) != list(first[1].columns):
            differing = sorted(set(cells.columns) ^ set(first[1].columns)) or list(cells.columns)
            raise DataError(
                f"{name} and {first[0]} have other columns ({', '.join(differing[:6])}); all files need the same ones "
                "in the same order",
                setting="path",
                given=name,
                allowed=list(first[1].columns),
            )
    if site in first[1].columns:
        raise DataError(
            f"the files have a column {site!r} of their own; give another name to that of the files: site: hospital",
            setting="site",
            given=site,
        )
    columns = {key: [cell for cells in read.values() for cell in cells.columns[key]] for key in first[1].columns}
    columns[site] = [name for name, cells in read.items() for _ in cells.places]
    return Cells(
        columns=columns,
        places=[f"{name}, {place}" for name, cells in read.items() for place in cells.places],
        separator=first[1].separator,
        told=tuple(f"{name}: {line}" for name, cells in read.items() for line in cells.told),
    )


def _binary(column: Column) -> bool:
    return column.kind == "category" and len(column.categories) <= 2


def _named(cell: str) -> str:
    """Returns a patient's name: a whole number without ``.0``, and empty where it is missing."""
    text = cell.strip()
    return canonical(text) if text.endswith(".0") else ("" if text.casefold() in MISSING else text)


def _written(parsed: dict[str, Parsed]) -> list[str]:
    """Returns lines about unusual number formats."""
    commas = [name for name, column in parsed.items() if column.comma]
    units = [f"{name} ({column.unit})" for name, column in parsed.items() if column.unit]
    lines = [f"a comma stands before decimals of {', '.join(commas)}"] if commas else []
    return lines + ([f"a unit stands beside numbers of {', '.join(units)}"] if units else [])


def _described(columns: Sequence[tuple[Column, np.ndarray]]) -> list[str]:
    lines = [column.describe() for column, _ in columns[:_MOST_TOLD]]
    return lines + ([f"and {len(columns) - _MOST_TOLD} more columns"] if len(columns) > _MOST_TOLD else [])
