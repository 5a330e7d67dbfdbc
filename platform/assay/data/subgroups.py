"""Subgroups of records, such as age, sex, site and device, where the data name them.

An average can hide a group for which a model fails. A column may define subgroups without being a feature.
"""

import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from assay.data.identifiers import names_nobody, names_sites
from assay.data.missing import MISSING
from assay.data.spellings import normalised
from assay.errors import DataError
from assay.registry import unknown

_USUAL = {
    "sex": re.compile(r"(patient)?(sex|gender|geschlecht|sexo|sexe|sesso)"),
    "age": re.compile(r"(patient)?(age|alter|edad|âge|leeftijd)(y|yr|yrs|years|inyears|jahre)?"),
    "ethnicity": re.compile(r"(patient)?(ethnicity|ethnicgroup|race)"),
    "device": re.compile(r"(device|scanner|manufacturer|vendor|machine)(name|model|id|manufacturer)?"),
}
AGES = (18, 40, 65, 80)
"""Limits between age bands, in years."""
_OLDEST = 120
_MOSTLY = 0.9
"""Share of the numbers that must be possible ages for a column to hold years."""
_MOST = 12
"""Greatest number of values of which each is a subgroup; more numbers are cut into thirds, more words are refused."""
_MOST_SITES = 50
"""The same of hospitals, of which a large study has more."""
_AT_LEAST = re.compile(r"^[>≥]?=?\s*(\d+)\s*\+?$")
"""An age that is only known to be at least so many years: ``90+``, ``>89``."""
_SEXES = {"m": "M", "male": "M", "man": "M", "f": "F", "female": "F", "woman": "F"}
"""Usual spellings of one sex, in lower case."""
_AGE_OF_DICOM = re.compile(r"(\d{3})([DWMY])")
_YEARS = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}


def subgroups_of(
    columns: Mapping[str, Sequence[str]], *, asked: Sequence[str] | None, where: str, dropped: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """Returns the subgroups that the columns of a table define.

    Args:
        columns: cells of each column, as text.
        asked: columns that define subgroups; by default those with a usual name for age, sex, ethnicity, site or
            device.
        where: the data, for errors.
        dropped: columns with a usual name that mean something else, such as labels and patients.

    Returns:
        (n,) the subgroup of each record, by the name of the attribute; empty where it is unknown.

    Raises:
        DataError: there is no such column, or it has too many values to be subgroups.
    """
    for name in asked or ():
        if name not in columns:
            raise DataError(
                f"{where}: subgroups: {unknown('column', name, list(columns))}",
                setting="subgroups",
                given=name,
                allowed=list(columns),
            )
    chosen = [name for name in columns if usual_name(name) and name not in dropped] if asked is None else list(asked)
    subgroups = {}
    for name in chosen:
        groups = _grouped(name, columns[name])
        if groups is None and asked is not None:
            raise DataError(
                f"{where}: subgroups: column {name!r} has {len(set(columns[name]))} different values, which are no "
                f"subgroups: take a column of at most {_MOST} categories, of ages in years, or of other numbers",
                setting="subgroups",
                given=name,
                allowed=_MOST,
            )
        if groups is not None and len(set(groups.tolist()) - {""}) > 1:
            subgroups[name] = groups
    return subgroups


def usual_name(name: str) -> bool:
    """Returns whether a column of this name usually defines clinical subgroups.

    Args:
        name: of a column.

    Returns:
        True for age, sex, ethnicity, site or device.
    """
    plain = normalised(name)
    return names_sites(name) or any(pattern.fullmatch(plain) for pattern in _USUAL.values())


def age_of_dicom(written: str) -> str:
    """Returns the age of a DICOM tag PatientAge, such as ``063Y``, in years.

    Args:
        written: value of the tag.

    Returns:
        The age with two decimals; empty if there is none.
    """
    match = _AGE_OF_DICOM.fullmatch(written.strip())
    return "" if match is None else f"{int(match[1]) / _YEARS[match[2]]:.2f}"


def by_age(years: np.ndarray) -> np.ndarray:
    """Returns the age band of each age: ``0–17``, ``18–39``, ``40–64``, ``65–79``, ``80+``.

    Args:
        years: (n,) ages in years, NaN where unknown.

    Returns:
        (n,) bands; empty where the age is NaN.
    """
    ends = (0, *AGES)
    names = [f"{low}–{high - 1}" for low, high in zip(ends, AGES, strict=False)] + [f"{AGES[-1]}+"]
    bands = np.array(names)[np.searchsorted(AGES, np.nan_to_num(years), side="right")]
    return np.where(np.isnan(years), "", bands)


def _grouped(name: str, cells: Sequence[str]) -> np.ndarray | None:
    """Returns (n,) the subgroup of each cell; None where the values are not subgroups."""
    written = np.array([_plain(cell) for cell in cells])
    plain = normalised(name)
    if _USUAL["age"].fullmatch(plain):
        years = _numbers(np.array([_AT_LEAST.sub(r"\1", cell) for cell in written.tolist()]))
        if years is not None:
            possible = (years >= 0) & (years <= _OLDEST)
            # Single impossible ages are codes of unknown ones; many are no years, such as standardised ages.
            fits = possible.sum() >= _MOSTLY * (~np.isnan(years)).sum() and years[possible].max(initial=0) > 2
            return by_age(np.where(possible, years, np.nan)) if fits else None
    if _USUAL["sex"].fullmatch(plain):
        written = np.array([_SEXES.get(cell.casefold(), cell) for cell in written.tolist()])
    numbers = _numbers(written)
    if len(set(written.tolist()) - {""}) <= (_MOST_SITES if names_sites(name) else _MOST):
        return written
    return None if numbers is None else _thirds(numbers)


def _thirds(numbers: np.ndarray) -> np.ndarray:
    low, high = np.nanquantile(numbers, [1 / 3, 2 / 3])
    names = np.array([f"up to {low:g}", f"{low:g} to {high:g}", f"above {high:g}"])
    return np.where(np.isnan(numbers), "", names[(numbers > low).astype(int) + (numbers > high)])


def _plain(cell: str) -> str:
    text = str(cell).strip()
    gone = text.casefold() in MISSING or names_nobody(text)
    return "" if gone else text.removesuffix(".0")


def _numbers(written: np.ndarray) -> np.ndarray | None:
    """Returns the numbers, NaN where a cell is empty; None if a cell is something else."""
    try:
        numbers = np.array([float(cell) if cell else np.nan for cell in written.tolist()])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).any() and not np.isinf(numbers).any() else None
