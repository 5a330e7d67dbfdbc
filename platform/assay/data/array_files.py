"""Array files, ``.npz`` and ``.parquet``: which of their arrays are records, labels and patients."""

import re
import zipfile
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from assay.data.identifiers import GroupKind, as_groups, as_text, group_column, names_sites, refuse_ambiguous
from assay.data.spellings import normalised, refuse_alike
from assay.errors import DataError
from assay.registry import unknown

WANTED = "give x (records, ...) and y (records,), and if you like groups, split, feature_names and class_names"
_KNOWN = ("x", "y", "split", "feature_names", "class_names")
"""Names of arrays with a fixed meaning, besides that of patients."""

_UNNAMED = re.compile(r"feature \d+")
"""Name of a feature that has no name of its own."""
_OTHERS = {
    b"PK": "it is cut short: the end of the archive is missing; copy or write it again",
    b"\x93NUMPY": "it is a single array, as np.save writes; use np.savez(path, x=x, y=y)",
    b"\x80": "it is a pickle, and Assay unpickles nothing; use np.savez(path, x=x, y=y)",
    b"PAR1": "it is a Parquet file; call it .parquet",
    b"\x89HDF": "it is an HDF5 file; read it, and save its arrays with np.savez",
    b"MATLAB": "it is a MATLAB file; read it with scipy.io.loadmat, and save its arrays with np.savez",
    b"\x1f\x8b": "it is compressed by gzip; unpack it",
}
"""Descriptions of files that are not archives, by their first bytes."""


@dataclass(kw_only=True)
class FileContents:
    """Contents of a file. Features with names are in ``columns``; other records in ``known["x"]``."""

    known: dict[str, Any] = field(default_factory=dict)
    """Arrays whose names have a meaning: y, split, class_names, and x where its features have no names."""
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    """Features by name and, in a table, all other columns."""
    beside: dict[str, np.ndarray] = field(default_factory=dict)
    """All other arrays."""
    groups: np.ndarray | None = None
    """(n,) the patient or site of each record."""
    group_kind: GroupKind = "patient"
    site: np.ndarray | None = None
    """(n,) the hospital of each record."""
    warnings: tuple[str, ...] = ()
    """Warnings about the patients."""

    @property
    def features(self) -> list[str]:
        return list(self.columns)

    @property
    def names(self) -> list[str]:
        return [*self.known, *self.columns, *self.beside]


def read_array_file(path: Path) -> FileContents:
    """Reads an ``.npz`` or ``.parquet`` file.

    Args:
        path: of the file.

    Returns:
        Its contents.

    Raises:
        DataError: the extension is another one, the file cannot be read, or two names in it are alike.
    """
    readers = {".npz": _held_in_npz, ".parquet": _held_in_parquet}
    if path.suffix not in readers:
        raise DataError(
            f"data file {str(path)!r} ends in {path.suffix!r}; allowed: .npz, .parquet; a .csv file is for the data "
            "set table"
        )
    return readers[path.suffix](path)


def sort_out(
    held: FileContents,
    *,
    where: str,
    group: str | None,
    drop: Sequence[str],
    insisted: Collection[str],
    site: str | None = None,
) -> FileContents:
    """Separates patients and hospitals of the records from their features, and drops what is to be dropped.

    Args:
        held: contents of the file.
        where: the file, for errors.
        group: array or column that identifies patients; see ``identifiers.group_column``.
        drop: arrays, columns or features to leave out.
        insisted: features that are kept whatever their names are.
        site: array or column that identifies hospitals; by default that of ``groups``, where these are hospitals.

    Returns:
        The remaining contents, with ``groups`` and ``site``.

    Raises:
        DataError: a name is unknown, it is unclear which column identifies patients, or an array has no known meaning.
    """
    present = [*held.columns, *held.beside]
    _refuse_split(held, where, (*drop, *insisted))
    for setting, names in (("drop", drop), ("features", insisted), ("site", () if site is None else (site,))):
        for name in names:
            unused = setting == "drop" and name == "split" and name in held.known
            absent = setting == "site" or (present and not unused and not _UNNAMED.fullmatch(name))
            if absent and name not in present:
                raise DataError(
                    f"{where}: {setting}: {unknown('column', name, present)}",
                    setting=setting,
                    given=name,
                    allowed=present,
                )
    _refuse_other_names(held, where)
    others = [name for name in present if name != site or group == site]
    chosen = group_column(others, given=group, where=where, insisted=insisted, dropped=drop)
    both = {**held.columns, **held.beside}
    strange = [name for name in held.beside if name not in (chosen, site, *drop)]
    if strange:
        raise DataError(
            f"{where} holds {strange[0]!r}, whose meaning is not known (known are {', '.join(_KNOWN)} and the usual "
            f"names of patients); if it tells patients apart say group: {strange[0]}, if it names hospitals say "
            f"site: {strange[0]}, if neither drop: [{strange[0]}]",
            setting="drop",
            given=strange[0],
            allowed=_KNOWN,
        )
    groups = None if chosen is None else as_groups(both[chosen], where=where, column=chosen)
    warnings: tuple[str, ...] = ()
    if chosen is not None and groups is not None and groups.ndim == 1:
        warnings = refuse_ambiguous(chosen, groups, given=group, where=where)
    by_site = chosen is not None and (chosen == site or names_sites(chosen))
    sites = site or (chosen if by_site else None)
    by_meaning = {name: array for name, array in held.known.items() if name != "split" or name not in drop}
    return FileContents(
        known=by_meaning if held.columns else _without(by_meaning, drop),
        columns={name: held.columns[name] for name in held.columns if name not in (chosen, site, *drop)},
        groups=groups,
        group_kind="site" if by_site else "patient",
        site=None if sites is None else as_text(np.asarray(both[sites]), where=where, column=sites).astype(str),
        warnings=warnings,
    )


def _refuse_other_names(held: FileContents, where: str) -> None:
    """Raises if an archive has no records or no labels under their usual names."""
    absent = [name for name in ("x", "y") if name not in held.known]
    if held.columns or not held.beside or not absent:
        return
    raise DataError(
        f"{where} has no {absent[0]!r} (it holds: {', '.join(sorted(held.names))}); {WANTED}",
        setting="path",
        given=sorted(held.names),
        allowed=_KNOWN,
    )


def _without(known: dict[str, Any], drop: Collection[str]) -> dict[str, Any]:
    """Returns the arrays without the dropped features that have no names; the others keep their numbers."""
    x, places = known.get("x"), [int(name.split()[1]) for name in drop if _UNNAMED.fullmatch(name)]
    if not places or x is None or x.ndim != 2 or "feature_names" in known:
        return known
    if max(places) >= x.shape[1]:
        raise DataError(
            f"x has the features 0 to {x.shape[1] - 1}, and drop names feature {max(places)}; correct its number",
            setting="drop",
            given=f"feature {max(places)}",
            allowed=f"feature 0 to feature {x.shape[1] - 1}",
        )
    left = [place for place in range(x.shape[1]) if place not in places]
    return {**known, "x": x[:, left], "feature_names": [f"feature {place}" for place in left]}


def _refuse_split(held: FileContents, where: str, settled: Collection[str]) -> None:
    """Raises if a feature is called split, unless it is dropped or kept explicitly."""
    for name in held.columns:
        if normalised(name) == "split" and name not in settled:
            raise DataError(
                f"{where}: feature {name!r} may say the part of an official split; if it does, give it as an array "
                f"split of train, validation and test, and leave the feature out (drop: [{name}]); if it is a "
                f"measurement, say features: [{name}]",
                setting="features",
                given=name,
                allowed=f"drop: [{name}] or features: [{name}]",
            )


def names_in(held: FileContents, key: str, where: str) -> list[str]:
    """Returns the names of features or classes in a file, from text or bytes.

    Args:
        held: contents of the file.
        key: ``feature_names`` or ``class_names``.
        where: the file, for errors.

    Returns:
        The names.

    Raises:
        DataError: bytes are not UTF-8.
    """
    return [str(one) for one in as_text(np.ravel(held.known[key]), where=where, column=key).tolist()]


def records_of(held: FileContents, where: str) -> Any:
    """Returns the records of a file: the array x, or its columns side by side.

    Args:
        held: contents of the file.
        where: the file, for errors.

    Returns:
        (n, ...) numbers; None if there is no x.

    Raises:
        DataError: a column is not numeric.
    """
    if not held.columns:
        return held.known.get("x")
    text = [name for name, column in held.columns.items() if column.dtype.kind not in "fiub"]
    if text:
        raise DataError(
            f"{where}: column {text[0]!r} is not numeric; encode or drop it (drop: [{text[0]}]), read the file as the "
            f"data set table, which takes categories, or say group: {text[0]} if it tells patients apart",
            setting="drop",
            given=text[0],
            allowed="numbers",
        )
    return np.stack(list(held.columns.values()), axis=1)


def read_npz(path: Path, wanted: Sequence[str] = ()) -> dict[str, Any]:
    """Reads arrays from an ``.npz`` archive, without unpickling.

    Args:
        path: of the file.
        wanted: names of the arrays; all of them if empty.

    Returns:
        The arrays by name.

    Raises:
        DataError: the file is not an archive, lacks an array, is damaged, or holds objects.
    """
    try:
        if not zipfile.is_zipfile(path):
            raise _unreadable(path, _no_archive(path))
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            absent = [key for key in wanted if key not in file.files]
            if absent:
                raise DataError(
                    f"data file {str(path)!r} has no {absent[0]!r} (it holds: {', '.join(sorted(file.files))})"
                )
            return {key: _array(file, key, path) for key in wanted or file.files}
    except DataError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise _unreadable(path, f"its table of contents is damaged ({error}); copy or write it again") from None


def _array(file: Any, key: str, path: Path) -> np.ndarray:
    """Returns one array of an open archive."""
    try:
        array = file[key]
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise _unreadable(path, f"array {key!r} is damaged ({error}); copy or write the file again") from None
    except (RuntimeError, NotImplementedError) as error:  # zipfile cannot unpack it
        why = f"array {key!r} is encrypted, or packed in a way that is not known here ({error}); use np.savez"
        raise _unreadable(path, why) from None
    except MemoryError:
        raise _unreadable(path, f"array {key!r} says of itself that it does not fit into memory") from None
    except ValueError as error:
        if "allow_pickle" in str(error):
            why = (
                f"array {key!r} holds Python objects or ragged rows; Assay unpickles nothing: save plain arrays of "
                "equal-length records"
            )
        else:
            why = f"array {key!r} is cut short or damaged ({error}); write the file again"
        raise _unreadable(path, why) from None
    if not isinstance(array, np.ndarray):
        raise _unreadable(path, f"its member {key!r} is no array; save arrays alone, with np.savez")
    return array


def _no_archive(path: Path) -> str:
    """Returns what a file is that is not an archive, by its first bytes, and what to do."""
    with path.open("rb") as file:
        begin = file.read(16)
    for mark, why in _OTHERS.items():
        if begin.startswith(mark):
            return why
    if not begin:
        return f"it is empty; {WANTED}"
    readable = begin.isascii() and begin.decode("ascii").translate({9: " ", 10: " ", 13: " "}).isprintable()
    return (
        f"it is no archive of arrays but {'text' if readable else 'something else'}, beginning with {begin!r}; {WANTED}"
    )


def _unreadable(path: Path, why: str) -> DataError:
    return DataError(f"data file {str(path)!r} cannot be read as .npz: {why}", setting="path", given=str(path))


def _held_in_npz(path: Path) -> FileContents:
    arrays = read_npz(path)
    where = f"data file {str(path)!r}"
    refuse_alike(list(arrays), where=where, setting="path", what="arrays")
    by_meaning = {name: array for name, array in arrays.items() if name in _KNOWN}
    beside = {name: array for name, array in arrays.items() if name not in _KNOWN}
    names = names_in(FileContents(known=by_meaning), "feature_names", where) if "feature_names" in by_meaning else []
    x = by_meaning.get("x")
    if not names or x is None or x.ndim != 2 or x.shape[1] != len(names):
        return FileContents(known=by_meaning, beside=beside)
    refuse_alike([*names, *beside], where=where, setting="feature_names", what="features")
    left = {name: array for name, array in by_meaning.items() if name not in ("x", "feature_names")}
    return FileContents(known=left, beside=beside, columns={name: x[:, place] for place, name in enumerate(names)})


def _held_in_parquet(path: Path) -> FileContents:
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    where = f"data file {str(path)!r}"
    try:
        refuse_alike(pq.read_schema(path).names, where=where, setting="path", what="columns")
        # Without pandas metadata: an index, which may identify patients, is then a column.
        frame = pq.read_table(path).to_pandas(ignore_metadata=True)
    except (OSError, ArrowException) as error:
        raise DataError(f"{where} cannot be read as Parquet: {error}") from None
    numbered = [name for name in frame.columns if name.startswith("__index_level_") and frame[name].is_unique]
    columns = {name: frame[name].to_numpy() for name in frame.columns if name not in numbered}
    by_meaning = {}
    for name in [name for name in columns if normalised(name) in ("y", "split")]:
        if normalised(name) in by_meaning:
            raise DataError(
                f"{where}: two columns are called {normalised(name)!r} but for punctuation; rename one of them",
                setting="path",
                given=name,
                allowed="one column of this name",
            )
        by_meaning[normalised(name)] = columns.pop(name)
    if "x" not in columns or columns["x"].dtype.kind in "fiub":  # a column of numbers is a feature named x
        return FileContents(known=by_meaning, columns=columns)
    rows = [np.asarray(row) for row in columns.pop("x")]
    absent = [number for number, row in enumerate(rows) if row.ndim == 0]
    if absent or not rows:
        lacking = f"row {absent[0]} of x is missing" if absent else "x holds no records"
        raise DataError(f"{where}: {lacking}; {WANTED}")
    if len({row.shape for row in rows}) > 1:
        lengths = sorted({len(row) for row in rows})
        raise DataError(f"{where} is ragged: x has rows of {lengths} values; all must be of one length")
    return FileContents(known={**by_meaning, "x": np.stack(rows)}, beside=columns)
