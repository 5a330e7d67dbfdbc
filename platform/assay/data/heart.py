"""The UCI heart disease collection: four hospitals, with the columns, the rule and the split of FLamby."""

import csv
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from assay.data.base import Dataset, Source
from assay.data.features import Feature
from assay.data.intended_use import IntendedUse
from assay.data.locate import absent, find
from assay.data.standardisation import Standardisation, Standardised
from assay.data.subgroups import subgroups_of
from assay.errors import DataError
from assay.registry import register

_ADDRESS = "https://archive.ics.uci.edu/dataset/45/heart+disease"
_COLUMNS = 14
_GAP = "?"
_ABSENT_COLUMNS = (10, 11, 12)
"""Columns slope, ca and thal, which are missing in most records of three hospitals."""
_LABEL = 13
"""Column num, the degree of disease from 0 to 4."""
_TRAIN, _SPLIT_SEED = 0.66, 43
"""Share of training records, and random state, of FLamby's split of each hospital."""


_ZEROS = (
    "cholesterol of 0 stands for a missing value, in all patients of Switzerland and a quarter of Long Beach, as "
    "does one blood pressure of 0; both are kept, as FLamby does, so a model may recognise the hospital"
)
"""Warning about published facts."""


class _Hospital(NamedTuple):
    file: str
    complete: int
    """Number of patients with all values, published with FLamby."""


HOSPITALS = {
    "Cleveland": _Hospital("cleveland", 303),
    "Hungary": _Hospital("hungarian", 261),
    "Switzerland": _Hospital("switzerland", 46),
    "Long Beach": _Hospital("va", 130),
}


class _Number(NamedTuple):
    """A column of numbers: bounds of a valid value and usual values, by medical knowledge and not from the records."""

    column: int
    unit: str
    valid: tuple[float, float]
    usual: tuple[float, float]
    """The middle becomes 0, and a quarter of it 1, if ``standardise`` is ``stated``."""


_NUMBERS = {
    "age": _Number(0, "years", (0, 120), (20, 90)),
    "trestbps": _Number(3, "mmHg", (0, 300), (80, 200)),
    "chol": _Number(4, "mg/dl", (0, 700), (100, 400)),
    "thalach": _Number(7, "1/min", (0, 250), (60, 220)),
    "oldpeak": _Number(9, "mm", (-10, 10), (-2, 6)),
}
_BINARY = {"sex": 1, "fbs": 5, "exang": 8}
_CATEGORIES = {"cp": (2, (1, 2, 3, 4)), "restecg": (6, (0, 1, 2))}
"""Column and values of each category; the first value has no input of its own."""
_ORDER = ("age", "sex", "trestbps", "chol", "fbs", "thalach", "exang", "oldpeak")


@register("dataset")
class Heart(Source):
    """740 patients of four hospitals, 13 inputs each; 1 is heart disease (num above 0).

    The hospital is the site of a record. Columns slope, ca and thal are left out, and then patients with a missing
    value, as in Fed-Heart-Disease of FLamby (Ogier du Terrail et al. 2022, arXiv:2210.04620). The types of chest pain
    (cp) and of resting ECG (restecg) become one input for each value but the first, so 10 columns become 13 inputs. The
    official split is FLamby's: 66 % of each hospital for training, stratified by disease where possible. In it,
    Switzerland has no training patient without disease.
    """

    name: Literal["heart"] = "heart"
    standardise: Standardised | Literal["stated"] = "by_site"
    """Scale of the inputs. ``by_site``: mean and deviation of the training records of the patient's hospital, as
    FLamby's clients; ``federated``: those of all hospitals, from the sums of each; ``stated``: usual clinical ranges,
    so that nothing is learnt from records and private recipes spend nothing on it."""
    records: ClassVar[int | None] = 740
    official_train: ClassVar[int | None] = 486

    def owes(self) -> str:
        return "" if self.standardise == "stated" else Standardisation(how=self.standardise).owes()

    def load(self) -> Dataset:
        patients = _read_hospitals()
        cells, site = patients.cells, patients.site
        preparation = None if self.standardise == "stated" else Standardisation(how=self.standardise)
        x, features, low, high = _inputs(cells, stated=preparation is None)
        return Dataset(
            name=self.name,
            x=x,
            y=(cells[:, _LABEL] > 0).astype(np.int64),
            class_names=("no disease", "disease"),
            feature_names=tuple(feature.name for feature in features),
            low=low,
            high=high,
            units="quarters of the usual range of each feature" if preparation is None else preparation.units,
            epsilons=(0.0, 0.05, 0.1, 0.2, 0.5),
            immutable=np.array([feature.kind != "number" for feature in features]),
            site=site,
            subgroups=subgroups_of(
                {
                    "age": [f"{age:g}" for age in cells[:, 0]],
                    "sex": ["M" if male else "F" for male in cells[:, 1]],
                    "site": site.tolist(),
                },
                asked=None,
                where=self.name,
            ),
            licence="CC BY 4.0",
            citation="Janosi, Steinbrunn, Pfisterer & Detrano (1988), Heart Disease, UCI Machine Learning Repository, "
            "doi:10.24432/C52P4X; Detrano et al. (1989), International application of a new probability algorithm for "
            "the diagnosis of coronary artery disease, Am. J. Cardiol. 64(5); split of Ogier du Terrail et al. (2022), "
            "FLamby, arXiv:2210.04620",
            preprocessing="columns slope, ca and thal, and then incomplete patients, left out; cp and restecg as one "
            "input for each value but the first"
            + ("; numbers by usual clinical ranges" if preparation is None else ""),
            warnings=(_ZEROS, *patients.warnings),
            stated=(_ZEROS,),
            reading=patients.reading,
            intended_use=IntendedUse(
                records="patients referred for coronary angiography in the 1980s, of four hospitals",
                sites=tuple(HOSPITALS),
            ),
            official=patients.official,
            preparation=preparation,
            features=features if preparation is None else (),
        )


class _Patients(NamedTuple):
    """Complete patients of all hospitals."""

    cells: np.ndarray
    """(n, 14) values, NaN in the columns that are left out."""
    site: np.ndarray
    """(n,) the hospital."""
    official: np.ndarray
    """(n,) train or test."""
    reading: tuple[str, ...]
    warnings: tuple[str, ...]


def _read_hospitals() -> _Patients:
    """Reads the files of all hospitals."""
    tables, reading, warnings = [], [], []
    for name, hospital in HOSPITALS.items():
        table, rows = _read(_path(hospital.file))
        tables.append(table)
        zeros = int((table[:, _NUMBERS["chol"].column] == 0).sum())
        missing = f"; cholesterol is 0 (missing) in {zeros}" if zeros else ""
        reading.append(f"{name}: {len(table)} of {rows} patients are complete{missing}")
        if len(table) != hospital.complete:
            warnings.append(f"{name} has {len(table)} complete patients; the published number is {hospital.complete}")
    return _Patients(
        cells=np.concatenate(tables),
        site=np.repeat(list(HOSPITALS), [len(table) for table in tables]),
        official=np.concatenate([_split(table, name) for name, table in zip(HOSPITALS, tables, strict=True)]),
        reading=tuple(reading),
        warnings=tuple(warnings),
    )


def _path(hospital: str) -> Path:
    """Returns the path of a hospital's file."""
    name = f"processed.{hospital}.data"
    path = find("heart", name)
    if path is None:
        raise absent("heart", wanted=f"heart/{name}", obtain=f"unpack the archive of {_ADDRESS} there")
    return path


def _read(path: Path) -> tuple[np.ndarray, int]:
    """Returns (patients, 14) values of complete patients, NaN in the columns that are left out; and the file's rows."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = [(number, cells) for number, cells in enumerate(csv.reader(file), start=1) if cells]
    table = np.full((len(lines), _COLUMNS), np.nan)
    complete = np.ones(len(lines), bool)
    for row, (number, cells) in enumerate(lines):
        if len(cells) != _COLUMNS:
            raise _unusable(path, number, f"{len(cells)} cells", f"{_COLUMNS} cells, separated by commas")
        for column, cell in enumerate(cells):
            if column in _ABSENT_COLUMNS:
                continue
            if cell.strip() == _GAP:
                complete[row] = False
                continue
            try:
                table[row, column] = float(cell)
            except ValueError:
                raise _unusable(path, number, repr(cell), f"a number, or {_GAP} where it is missing") from None
        _refuse_impossible(path, number, table[row])
    return table[complete], len(lines)


def _refuse_impossible(path: Path, number: int, values: np.ndarray) -> None:
    """Raises if a value of a row is none that its column may have."""
    for name, about in _NUMBERS.items():
        value = values[about.column]
        if np.isinf(value) or value < about.valid[0] or value > about.valid[1]:
            raise _unusable(path, number, f"{name} {value:g}", f"{about.valid[0]:g} to {about.valid[1]:g} {about.unit}")
    allowed = {**{name: (column, (0, 1)) for name, column in _BINARY.items()}, **_CATEGORIES, "num": (_LABEL, range(5))}
    for name, (column, known) in allowed.items():
        if not np.isnan(values[column]) and values[column] not in known:
            raise _unusable(path, number, f"{name} {values[column]:g}", ", ".join(str(value) for value in known))


def _unusable(path: Path, number: int, given: str, allowed: str) -> DataError:
    return DataError(
        f"heart: line {number} of {str(path)!r} holds {given}; allowed: {allowed}; use the file without a heading of "
        f"{_ADDRESS}",
        setting="heart",
        given=given,
        allowed=allowed,
    )


def _inputs(cells: np.ndarray, *, stated: bool) -> tuple[np.ndarray, tuple[Feature, ...], np.ndarray, np.ndarray]:
    """Returns (n, 13) inputs, their descriptions, and the least and greatest valid values."""
    columns: list[np.ndarray] = []
    features: list[Feature] = []
    bounds: list[tuple[float, float]] = []
    for name in _ORDER:
        if name in _BINARY:
            columns.append(cells[:, _BINARY[name]])
            features.append(Feature(name=name, column=name, kind="category", source="stated", categories=("0", "1")))
            bounds.append((0.0, 1.0))
            continue
        about = _NUMBERS[name]
        center, scale = (sum(about.usual) / 2, (about.usual[1] - about.usual[0]) / 4) if stated else (0.0, 1.0)
        columns.append((cells[:, about.column] - center) / scale)
        features.append(
            Feature(
                name=name,
                column=name,
                kind="number",
                unit=about.unit,
                center=center,
                scale=scale,
                source="stated",
                valid=about.valid,
            )
        )
        bounds.append(((about.valid[0] - center) / scale, (about.valid[1] - center) / scale))
    for name, (column, values) in _CATEGORIES.items():
        for value in values[1:]:
            columns.append((cells[:, column] == value).astype(float))
            features.append(
                Feature(
                    name=f"{name}={value}",
                    column=name,
                    kind="category",
                    source="stated",
                    categories=tuple(str(value) for value in values),
                )
            )
            bounds.append((0.0, 1.0))
    low, high = (np.array(ends, np.float32) for ends in zip(*bounds, strict=True))
    return np.stack(columns, axis=1).astype(np.float32), tuple(features), low, high


def _split(table: np.ndarray, site: str) -> np.ndarray:
    """Returns (patients,) train or test, by FLamby's rule.

    scikit-learn's split with a fixed random state, stratified if each class has more than two patients.
    """
    from sklearn.model_selection import train_test_split

    ill = (table[:, _LABEL] > 0).astype(int)
    enough = bool((np.bincount(ill, minlength=2) > 2).all())
    try:
        _, test = train_test_split(
            np.arange(len(ill)),
            train_size=_TRAIN,
            test_size=1 - _TRAIN,
            random_state=_SPLIT_SEED,
            stratify=ill if enough else None,
        )
    except ValueError:
        raise DataError(
            f"heart: {site} has {len(ill)} complete patients, too few for a training and a test split; use the whole "
            f"file of {_ADDRESS}",
            setting="heart",
            given=len(ill),
        ) from None
    return np.where(np.isin(np.arange(len(ill)), test), "test", "train")
