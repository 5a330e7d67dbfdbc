"""Patients of a folder of images, by a table that lies in it, such as ``metadata.csv``: a file and a patient a row."""

from collections.abc import Sequence
from pathlib import Path

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
    of_file = dict(zip(cells.columns[files[0]], cells.columns[str(patient)], strict=True))
    found = [_looked_up(of_file, name) for name in names]
    lacking = [name for name, one in zip(names, found, strict=True) if one is None]
    if lacking:
        raise DataError(
            f"{where} names no patient of {len(lacking)} of {len(names)} images, {lacking[0]} is the first; add them, "
            "or remove the table, and tell patients apart by group_pattern",
            setting="group_pattern",
            given=lacking[0],
        )
    return as_groups(np.array(found), where=where, column=str(patient))


def _names(path: Path) -> bool:
    """Whether the first line of a table holds a usual name of patients."""
    with path.open("rb") as file:
        heading = file.readline().decode("utf-8-sig", errors="replace")
    for separator in ",;\t|":
        heading = heading.replace(separator, "\n")
    return any(names_patients(cell.strip().strip('"')) for cell in heading.splitlines())


def _looked_up(of_file: dict[str, str], name: str) -> str | None:
    """The patient of an image that is named by its path or its name, with or without its ending."""
    path = Path(name)
    spellings = (name, path.name, path.with_suffix("").as_posix(), path.stem)
    return next((of_file[one] for one in spellings if one in of_file), None)
