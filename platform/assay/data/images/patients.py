"""Patients of a folder of images, by a table that lies in it, such as ``metadata.csv``: a file and a patient a row."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from assay.data.identifiers import as_groups, group_column, names_patients, normalised
from assay.data.tables.files import read_cells
from assay.errors import DataError

_FILES = ("file", "files", "filename", "filepath", "image", "imagename", "imagefile", "imagepath", "path", "name")
"""Usual names of the column that names the image of a row, without case and underscores."""


def patients_in(root: Path, names: Sequence[str], dataset: str) -> np.ndarray | None:
    """(len(names),) the patient of each image by the one table in the folder that names patients; None if none does.

    Args:
        names: paths of the images below ``root``.

    Raises:
        DataError: several tables name patients, or the one that does lacks an image or names no files.
    """
    naming = [path for path in sorted(root.iterdir()) if path.suffix.lower() in (".csv", ".tsv") and _names(path)]
    if not naming:
        return None
    if len(naming) > 1:
        raise DataError(
            f"{dataset}: {', '.join(path.name for path in naming)} all name patients; keep one of them in {root}",
            setting="path",
            given=[path.name for path in naming],
            allowed="one table",
        )
    where = f"{dataset}: {naming[0].name}"
    cells = read_cells(naming[0], columns=(), separator=None, encoding=None)
    patient = group_column(list(cells.columns), given=None, where=where)
    files = [column for column in cells.columns if normalised(column) in _FILES]
    if len(files) != 1:
        raise DataError(
            f"{where} names patients and no files (or twice): call the column of the files file; or remove the table, "
            "and tell patients apart by group_pattern",
            setting="group_pattern",
            given=files,
            allowed="one column of files",
        )
    of_file = _by_file(cells.columns[files[0]], cells.columns[str(patient)], where)
    _refuse_ambiguous(of_file, names, where)
    rows = [_row(of_file, name) for name in names]
    lacking = [name for name, row in zip(names, rows, strict=True) if row is None]
    if lacking:
        raise DataError(
            f"{where} names no patient of {len(lacking)} of {len(names)} images, {lacking[0]} is the first; add them, "
            "or remove the table, and tell patients apart by group_pattern",
            setting="group_pattern",
            given=lacking[0],
        )
    return as_groups(np.array([of_file[row] for row in rows if row is not None]), where=where, column=str(patient))


def _names(path: Path) -> bool:
    """Whether the first line of a table holds a usual name of patients."""
    with path.open("rb") as file:
        heading = file.readline().decode("utf-8-sig", errors="replace")
    for separator in ",;\t|":
        heading = heading.replace(separator, "\n")
    return any(names_patients(cell.strip().strip('"')) for cell in heading.splitlines())


def _by_file(files: Sequence[str], patients: Sequence[str], where: str) -> dict[str, str]:
    """The patient of each file that a table names.

    Raises:
        DataError: a file has two patients.
    """
    found: dict[str, str] = {}
    for written, patient in zip(files, patients, strict=True):
        file = _path(written)
        if found.setdefault(file, patient) != patient:
            raise DataError(
                f"{where} gives {file} the patients {found[file]!r} and {patient!r}; name files by their path below "
                "the folder, such as ill/1.png, or remove the wrong row",
                setting="group_pattern",
                given=file,
                allowed="one patient a file",
            )
    return found


def _path(written: str) -> str:
    """A path as a table writes it, with ``/`` between folders and without a leading ``./``."""
    return written.strip().replace("\\", "/").removeprefix("./")


def _refuse_ambiguous(of_file: dict[str, str], names: Sequence[str], where: str) -> None:
    """Refuse a row that names, without a folder, several images."""
    used = Counter(found for name in names if (found := _row(of_file, name)) is not None)
    for row, images in used.items():
        if images > 1:
            raise DataError(
                f"{where} names {row}, and {images} images are called so; name files by their path below the folder, "
                "such as ill/1.png",
                setting="group_pattern",
                given=row,
                allowed="one image a row",
            )


def _row(of_file: dict[str, str], name: str) -> str | None:
    """What names an image in a table: its path or the end of it, with or without its ending; the longest first."""
    parts = name.split("/")
    for start in range(len(parts)):
        path = PurePosixPath(*parts[start:])
        for spelling in (str(path), str(path.with_suffix(""))):
            if spelling in of_file:
                return spelling
    return None
