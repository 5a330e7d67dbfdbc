"""Patients of a folder of images, from a table in it, such as ``metadata.csv``, or from the tags of DICOM files."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from assay.data.identifiers import ambiguous, as_groups, few_patients, names_nobody, names_patients
from assay.data.images import dicom
from assay.data.images.files import in_threads, taken_for_dicom
from assay.data.spellings import as_seen, normalised, same_patient
from assay.data.subgroups import age_of_dicom, subgroups_of
from assay.data.tables.files import read_cells
from assay.errors import DataError

_FILES = ("file", "files", "filename", "filepath", "image", "imagename", "imagefile", "imagepath", "path", "name")
"""Usual names of the column of image files, without case and underscores."""


_TAGS = ("PatientSex", "PatientAge", "Manufacturer")


class Patients(NamedTuple):
    """Patients of a folder, as far as they are known."""

    groups: np.ndarray | None = None
    """(n,) the patient of each image."""
    reading: tuple[str, ...] = ()
    """Lines for the user on how patients were identified."""
    warnings: tuple[str, ...] = ()


def patients_of(root: Path, names: Sequence[str], dataset: str) -> Patients:
    """Identifies patients by the table in a folder that names them, otherwise by the tag PatientID of its DICOM files.

    Args:
        root: the folder.
        names: paths of the images below ``root``.
        dataset: name of the data set, for errors.

    Returns:
        The patients, possibly unknown.

    Raises:
        DataError: the table, or the tags, identify patients ambiguously.
    """
    groups = patients_in(root, names, dataset)
    if groups is None:
        return _by_tag(root, names, dataset)
    return Patients(groups, (f"patients by a table in the folder: {len(np.unique(groups))}",))


def subgroups_in(root: Path, names: Sequence[str], dataset: str) -> dict[str, np.ndarray]:
    """Returns subgroups from the table in a folder that names patients, otherwise from tags of its DICOM files.

    Args:
        root: the folder.
        names: paths of the images below ``root``.
        dataset: name of the data set, for errors.

    Returns:
        (n,) the subgroup of each image, by the name of the attribute; empty where it is unknown.
    """
    naming = _naming(root)
    if len(naming) == 1:
        cells = read_cells(naming[0], columns=(), separator=None, encoding=None)
        files = next(column for column in cells.columns if normalised(column) in _FILES)
        row_of = {_path(file): row for row, file in enumerate(cells.columns[files])}
        keys = dict.fromkeys(row_of, "")
        rows = [row_of.get(_row(keys, name) or "") for name in names]
        columns = {
            column: ["" if row is None else written[row] for row in rows] for column, written in cells.columns.items()
        }
        return subgroups_of(columns, asked=None, where=dataset, dropped=[one for one in columns if names_patients(one)])

    def tags(name: str) -> dict[str, str]:
        path = root / name
        return dicom.tags(path, _TAGS) if taken_for_dicom(path) else dict.fromkeys(_TAGS, "")

    headers = list(in_threads(tags, names))
    columns = {
        "sex": [header["PatientSex"] for header in headers],
        "age": [age_of_dicom(header["PatientAge"]) for header in headers],
        "device": [header["Manufacturer"] for header in headers],
    }
    return subgroups_of(columns, asked=None, where=dataset)


def _by_tag(root: Path, names: Sequence[str], dataset: str) -> Patients:
    """Identifies patients by the tag PatientID, as numbers; no message contains the tag's value."""

    def tag(name: str) -> str | None:
        path = root / name
        return as_seen(dicom.tags(path, ["PatientID"])["PatientID"]) if taken_for_dicom(path) else None

    tags = list(in_threads(tag, names))
    if all(one is None for one in tags):
        return Patients()
    unknown = sum(one is None or names_nobody(one) for one in tags)
    number = {one: place for place, one in enumerate(dict.fromkeys(tags))}
    if unknown or len(number) == 1:
        why = f"is missing in {unknown} of {len(tags)} images" if unknown else f"is the same in all {len(tags)} images"
        message = (
            f"patients are not known: the tag PatientID {why}, so images of one patient may be on both sides of a "
            "split; tell patients apart by group_pattern, or by a table in the folder"
        )
        return Patients(None, (), (message,))
    if len({same_patient(str(one)) for one in number}) < len(number):
        raise DataError(
            f"{dataset}: some values of the tag PatientID differ in case, marks or leading zeros only; write each in "
            "one way, or tell patients apart by group_pattern, or by a table in the folder",
            setting="group_pattern",
            given="PatientID",
            allowed="values that differ in more than case, marks or leading zeros",
        )
    groups = np.array([number[one] for one in tags])
    message = f"patients by the tag PatientID of DICOM files: {len(number)}"
    return Patients(groups, (message,), few_patients("PatientID", groups))


def patients_in(root: Path, names: Sequence[str], dataset: str) -> np.ndarray | None:
    """Returns the patient of each image by the table in the folder that names patients; None if there is none.

    Args:
        root: the folder.
        names: paths of the images below ``root``.
        dataset: name of the data set, for errors.

    Returns:
        (len(names),) patients, or None.

    Raises:
        DataError: several tables name patients, or the table lacks an image or names no files.
    """
    tables = _naming(root)
    if not tables:
        return None
    if len(tables) > 1:
        raise DataError(
            f"{dataset}: {', '.join(path.name for path in tables)} all name patients; keep one of them in {root}",
            setting="path",
            given=[path.name for path in tables],
            allowed="one table",
        )
    where = f"{dataset}: {tables[0].name}"
    cells = read_cells(tables[0], columns=(), separator=None, encoding=None)
    patient = _column_of_patients(list(cells.columns), where)
    files = [column for column in cells.columns if normalised(column) in _FILES]
    if len(files) != 1:
        raise DataError(
            f"{where} names patients and no files (or twice): call the column of the files file; or remove the table, "
            "and tell patients apart by group_pattern",
            setting="group_pattern",
            given=files,
            allowed="one column of files",
        )
    of_file = _by_file(cells.columns[files[0]], cells.columns[patient], where)
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
    groups = as_groups(np.array([of_file[row] for row in rows if row is not None]), where=where, column=patient)
    if ambiguous(patient, groups):
        raise DataError(
            f"{where}: column {patient!r} has {len(np.unique(groups))} values for {len(groups)} images, too few to be "
            "patients without being told so; call it patient_id if they are, otherwise call it something else, and "
            "tell patients apart by a column patient_id or by group_pattern",
            setting="group_pattern",
            given=patient,
            allowed="a column patient_id",
        )
    return groups


def _naming(root: Path) -> list[Path]:
    """Returns the tables in a folder that name patients."""
    return [path for path in sorted(root.iterdir()) if path.suffix.lower() in (".csv", ".tsv") and _names(path)]


def _column_of_patients(names: Sequence[str], where: str) -> str:
    """Returns the only column with a usual name of patients."""
    usual = [name for name in names if names_patients(name)]
    if len(usual) > 1:
        raise DataError(
            f"{where}: columns {', '.join(map(repr, usual))} all look like those that tell patients apart; leave one "
            "of them in the table, under the name patient_id, and remove or rename the others",
            setting="group",
            given=usual,
            allowed="one column",
        )
    return usual[0]


def _names(path: Path) -> bool:
    """Returns whether the first line of a table contains a usual name of patients."""
    with path.open("rb") as file:
        heading = file.readline().decode("utf-8-sig", errors="replace")
    for separator in ",;\t|":
        heading = heading.replace(separator, "\n")
    return any(names_patients(cell.strip().strip('"')) for cell in heading.splitlines())


def _by_file(files: Sequence[str], patients: Sequence[str], where: str) -> dict[str, str]:
    """Returns the patient of each file that a table names.

    Raises:
        DataError: a file has two patients.
    """
    owner: dict[str, str] = {}
    for written, patient in zip(files, patients, strict=True):
        file = _path(written)
        if owner.setdefault(file, patient) != patient:
            raise DataError(
                f"{where} gives {file} the patients {owner[file]!r} and {patient!r}; name files by their path below "
                "the folder, such as ill/1.png, or remove the wrong row",
                setting="group_pattern",
                given=file,
                allowed="one patient a file",
            )
    return owner


def _path(written: str) -> str:
    """Returns a path of a table with ``/`` between folders and without a leading ``./``."""
    return written.strip().replace("\\", "/").removeprefix("./")


def _refuse_ambiguous(of_file: dict[str, str], names: Sequence[str], where: str) -> None:
    """Raises if a row without a folder name matches several images."""
    used = Counter(entry for name in names if (entry := _row(of_file, name)) is not None)
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
    """Returns the table's entry for an image: its path or the end of it, with or without extension, longest first."""
    parts = name.split("/")
    for start in range(len(parts)):
        path = PurePosixPath(*parts[start:])
        for spelling in (str(path), str(path.with_suffix(""))):
            if spelling in of_file:
                return spelling
    return None
