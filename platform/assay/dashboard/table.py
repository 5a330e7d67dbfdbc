"""The table of all trials that the page shows: it grows, and tells what changed since a version."""

import secrets
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assay.dashboard.columns import Column
from assay.dashboard.headlines import HEADLINES, Headline, worst_case
from assay.store.columns import Place
from assay.store.index import Changes
from assay.store.settings import parsed

DONE, FAILED, GONE = range(3)
STATES = ("done", "failed", "gone")
"""States of a trial that has a row; a trial under way has none yet."""
_PIECE = 5_000
"""Trials that are read at a time, which bounds the memory."""
_RADII = 24
"""Greatest number of radii, over all trials, that have a column."""
MOST_NAMES = 400
"""Greatest number of names of a category that has an axis; with more, only the table shows the column."""
_ABOUT = ("cohort", "dataset", "model", "recipe", "fold", "repeat")
_TITLES = {"study": "Study", "state": "State", "split.tested": "Records asked", "model.name": "Model", "seed": "Seed"}

Group = Literal["about", "setting", "figure"]


@dataclass
class Described:
    """A column with how the page names it."""

    key: str
    title: str
    group: Group
    column: Column
    unit: str = ""
    better: str = ""
    meaning: str = ""

    @property
    def crowded(self) -> bool:
        """Whether the column has too many names for an axis, and is not sent to pages."""
        return len(self.column.names) > MOST_NAMES


class Row(NamedTuple):
    """Where a row of the table lies."""

    folder: int
    """Number of the folder of results."""
    place: Place


class Trials:
    """All trials of some folders of results, one row each, in the order in which they came.

    A row keeps its number as long as the server runs; ``epoch`` tells this life of the table from others.

    Args:
        names: of the folders.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.epoch = secrets.token_hex(8)
        self.lock = threading.RLock()
        self.version = 0
        """Raised with each change of rows."""
        self.schema = 0
        """Raised with each change of the columns themselves; then a page reads all rows again."""
        self.count = 0
        self.folders = list(names)
        self._rows: list[dict[str, int]] = [{} for _ in names]
        """By folder, the row of each trial."""
        self._ids: list[str] = []
        self._folder_of = np.zeros(0, np.int16)
        self._errors: dict[int, str] = {}
        self._versions = np.zeros(0, np.int64)
        self._columns: dict[str, Described] = {}
        self._shape: tuple[Any, ...] = ()
        for key in ("study", "state", *_ABOUT):
            self._described(key, "about")
        for key, headline in HEADLINES.items():
            self._described(key, "figure", headline)

    def take(self, folder: int, changes: Changes) -> None:
        """Takes what a folder of results says of its trials.

        Args:
            folder: its number.
            changes: of its index.
        """
        current = pc.equal(changes.columns["folder"], "trials")
        shown, moved = changes.columns.filter(current), changes.columns.filter(pc.invert(current))
        with self.lock:
            known = self._rows[folder]
            gone = {trial for _, trial in changes.gone} | set(moved["trial"].to_pylist())
            if changes.whole and known:
                gone |= known.keys()
            gone = (gone & known.keys()) - (set(shown["trial"].to_pylist()) if gone else set())
            if not (len(shown) or gone):
                return
            self.version += 1
            for start in range(0, len(shown), _PIECE):
                self._take(folder, shown.slice(start, _PIECE))
            self._drop([known[trial] for trial in gone])
            shape = tuple(
                (one.key, one.column.kind, one.column.varied, one.crowded)
                for one in self._columns.values()
                if _served(one)
            )
            if shape != self._shape:
                self._shape, self.schema = shape, self.schema + 1

    def add_folder(self, name: str) -> int:
        """Adds a folder of results that was found later.

        Args:
            name: of the folder.

        Returns:
            Its number.
        """
        with self.lock:
            self.folders.append(name)
            self._rows.append({})
            return len(self.folders) - 1

    def served(self) -> list[Described]:
        """Returns the columns in which trials differ, and those of figures that any trial has.

        Returns:
            The columns; settings that are the same everywhere are left out.
        """
        return [one for one in self._columns.values() if _served(one)]

    def constants(self) -> dict[str, Any]:
        """Returns the settings that are the same in all trials.

        Returns:
            Values by key.
        """
        return {
            one.key: one.column.constant
            for one in self._columns.values()
            if one.group != "figure" and not one.column.varied and one.column.constant is not None
        }

    def since(self, version: int) -> np.ndarray:
        """Returns the rows that were written after a version.

        Args:
            version: of the table.

        Returns:
            (m,) numbers of the rows.
        """
        return np.flatnonzero(self._versions[: self.count] > version)

    def row(self, number: int) -> Row:
        """Returns where a row lies.

        Args:
            number: of the row.

        Returns:
            Folder and trial.

        Raises:
            IndexError: there is no such row.
        """
        if not 0 <= number < self.count:
            raise IndexError(number)
        return Row(int(self._folder_of[number]), ("trials", self._ids[number]))

    def find(self, trials: Sequence[str]) -> list[int]:
        """Returns the rows of some trials, by their ids.

        Args:
            trials: ids.

        Returns:
            Numbers of the rows that exist; where two folders hold one trial, the first.
        """
        found = (next((known[trial] for known in self._rows if trial in known), None) for trial in trials)
        return [row for row in found if row is not None]

    def values(self, number: int) -> dict[str, Any]:
        """Returns all values of a row by the keys of their columns.

        Args:
            number: of the row.

        Returns:
            Numbers, texts, or None where it has none.
        """
        return {one.key: one.column.text(number) for one in self._columns.values()}

    def error(self, number: int) -> str:
        """Returns the first line of the error of a trial.

        Args:
            number: of the row.

        Returns:
            The line; empty unless the trial failed.
        """
        return self._errors.get(number, "")

    def counts(self) -> list[dict[str, int]]:
        """Returns the number of trials in each state, folder by folder.

        Returns:
            Numbers by state; states that no trial has are left out.
        """
        column = self._columns["state"].column
        states = column.read(slice(None), self.count).astype(np.int64)
        names, folders = column.names, self._folder_of[: self.count].astype(np.int64)
        size = len(names) * len(self.folders)
        table = np.bincount(folders * len(names) + states, minlength=size).reshape(len(self.folders), -1)
        return [
            {name: int(number) for name, number in zip(names, row, strict=True) if number}
            for row in (table.tolist() if names else [[]] * len(self.folders))
        ]

    def _take(self, folder: int, piece: pa.Table) -> None:
        """Writes some trials, new ones at the end."""
        before, known = self.count, self._rows[folder]
        rows = np.empty(len(piece), np.int64)
        for number, trial in enumerate(piece["trial"].to_pylist()):
            rows[number] = row = known.setdefault(trial, self.count)
            if row == self.count:
                self.count += 1
                self._ids.append(trial)
        if self.count > len(self._versions):
            room = max(1024, self.count + self.count // 4) - len(self._versions)
            self._versions = np.concatenate([self._versions, np.zeros(room, np.int64)])
            self._folder_of = np.concatenate([self._folder_of, np.zeros(room, np.int16)])
        self._folder_of[rows] = folder
        self._versions[rows] = self.version
        errors = piece["error"].to_pylist()
        for row, error in zip(rows.tolist(), errors, strict=True):
            self._errors.pop(row, None)
            if error:
                self._errors[row] = sys.intern(error.splitlines()[0])
        states = [STATES[FAILED if error else DONE] for error in errors]
        writing: dict[str, Any] = {"study": [self.folders[folder]] * len(rows), "state": states}
        writing |= {key: piece[key].to_pylist() for key in _ABOUT}
        writing["fold"], writing["repeat"] = _from_one(writing["fold"]), _from_one(writing["repeat"])
        writing |= {key: _floats(piece[key]) for key in HEADLINES}
        writing |= dict(self._worst_cases(piece))
        writing |= dict(self._settings(piece["settings"].combine_chunks(), len(rows)))
        for key, described in self._columns.items():
            values = writing.get(key)
            values = np.full(len(rows), np.nan) if values is None else values
            described.column.write(rows, values, before=before, capacity=len(self._versions))

    def _drop(self, gone: list[int]) -> None:
        """Marks rows of trials that are deleted, or no longer of the plan."""
        if gone:
            rows = np.array(gone)
            self._versions[rows] = self.version
            column = self._columns["state"].column
            column.write(rows, [STATES[GONE]] * len(gone), before=self.count, capacity=len(self._versions))

    def _worst_cases(self, piece: pa.Table) -> Iterator[tuple[str, np.ndarray]]:
        """Returns the accuracy in the worst case at each radius, with NaN where a trial has none."""
        lists = piece["worst_case"].combine_chunks()
        rows = pc.list_parent_indices(lists).to_numpy()
        inner = lists.flatten()
        epsilons = _floats(inner.field("epsilon"))
        norms, accuracies = inner.field("norm").to_pylist(), _floats(inner.field("accuracy"))
        for norm, epsilon in sorted({(n, e) for n, e in zip(norms, epsilons.tolist(), strict=True) if e > 0}):
            key, headline = worst_case(norm, epsilon)
            if key not in self._columns and sum(name.startswith("worst_case") for name in self._columns) >= _RADII:
                continue
            self._described(key, "figure", headline)
            values = np.full(len(piece), np.nan)
            own = (epsilons == epsilon) & (np.array(norms) == norm)
            values[rows[own]] = accuracies[own]
            yield key, values

    def _settings(self, lists: pa.Array, count: int) -> Iterator[tuple[str, Any]]:
        """Returns the values of each setting that any of these trials has."""
        rows = pc.list_parent_indices(lists).to_numpy()
        coded = lists.flatten()
        if not len(coded):
            return
        codes = coded.indices.to_numpy()
        used, codes = np.unique(codes, return_inverse=True)
        pairs = [parsed(text) for text in coded.dictionary.take(pa.array(used)).to_pylist()]
        keys = {key: number for number, key in enumerate(dict.fromkeys(key for key, _ in pairs))}
        key_of = np.array([keys[key] for key, _ in pairs])
        order = np.argsort(key_of[codes], kind="stable")
        ends = np.cumsum(np.bincount(key_of[codes], minlength=len(keys)))
        for number, key in enumerate(keys):
            chosen = order[(ends[number - 1] if number else 0) : ends[number]]
            self._described(key, "setting")
            yield key, _spread_out(pairs, codes[chosen], rows[chosen], count)

    def _described(self, key: str, group: Group, headline: Headline | None = None) -> None:
        if key in self._columns:
            return
        about = () if headline is None else (headline.unit, headline.better, headline.meaning)
        title = headline.title if headline else _TITLES.get(key, key if group == "setting" else key.capitalize())
        self._columns[key] = Described(key, title, group, Column(), *about)


def _spread_out(pairs: list[tuple[str, Any]], codes: np.ndarray, rows: np.ndarray, count: int) -> Any:
    """Returns the values of one setting, a place for each trial.

    Args:
        pairs: key and value by code.
        codes: of those trials that have the setting.
        rows: their places.
        count: number of trials.
    """
    distinct = np.unique(codes)
    values = {int(code): pairs[code][1] for code in distinct}
    if len(distinct) == 1 and len(rows) == count:
        return [values[int(distinct[0])]] * count
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values.values()):
        numbers = np.full(count, np.nan)
        numbers[rows] = np.array([values[int(code)] for code in distinct], float)[np.searchsorted(distinct, codes)]
        return numbers
    spread: list[Any] = [None] * count
    for row, code in zip(rows.tolist(), codes.tolist(), strict=True):
        spread[row] = values[code]
    return spread


def _served(one: Described) -> bool:
    """Whether a page gets this column: what varies, and the state."""
    return one.column.varied or one.key == "state" or (one.group == "figure" and one.column.constant is not None)


def _floats(values: Any) -> np.ndarray:
    """Returns an Arrow column as float64 with NaN for null."""
    return np.asarray(pc.fill_null(pc.cast(values, pa.float64()), np.nan).to_numpy(), dtype=float).copy()


def _from_one(numbers: list[int | None]) -> list[int | None]:
    """Returns folds or repeats as people count them."""
    return [None if number is None else number + 1 for number in numbers]
