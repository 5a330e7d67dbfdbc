"""The unit of privacy: who may be added or removed without being noticed, a patient or a single record."""

from typing import Literal

import numpy as np

from assay.data.identifiers import hardly_patients
from assay.errors import IncompatibleRecipeError
from assay.recipes import Privacy

Unit = Literal["patient", "record"]
NEIGHBOURS: dict[Unit, str] = {
    "record": "add or remove one record",
    "patient": "add or remove one patient with all of its records",
}
"""The neighbouring relation of each unit: only charges that share it can simply be added up."""


def protected_unit(privacy: Privacy | None, groups: np.ndarray | None) -> Unit:
    """Returns whom a recipe protects on some data: patients where records have them, unless it asks for records.

    Without privacy nobody is protected, and the unit is the one that a private recipe would have by default.

    Args:
        privacy: of the recipe; None if it is not private.
        groups: (records,) the patient of each record, ``Dataset.patients``; None where each record is its own.

    Raises:
        IncompatibleRecipeError: patients are to be protected, and the data name none.
    """
    asked = None if privacy is None else privacy.unit
    if asked == "patient" and groups is None:
        raise IncompatibleRecipeError(
            "privacy.unit is patient, but the records of these data name no patient; give the data groups, one patient "
            "ID a record, or set privacy.unit to record if no two records are of one person",
            setting="privacy.unit",
            given="patient",
            allowed=("record", None),
        )
    return asked or ("record" if groups is None else "patient")


def refuse_unlikely_patients(privacy: Privacy | None, groups: np.ndarray | None) -> None:
    """Raises where groups are hardly patients, and the recipe does not say whom it protects.

    Args:
        groups: (records,) of the whole data set, ``SourceDataset.groups``; None where it names no patients.

    Raises:
        IncompatibleRecipeError: nothing but a guess says that the few groups of many records are patients.
    """
    if privacy is None or privacy.unit is not None or groups is None:
        return
    patients = len(np.unique(groups))
    if not hardly_patients(patients, len(groups)):
        return
    raise IncompatibleRecipeError(
        f"privacy would protect patients, but {patients} groups in {len(groups)} records look like hospitals or arms "
        "of a trial; set privacy.unit to record, or to patient if each group is one patient, or name the column of "
        "patients (group)",
        setting="privacy.unit",
        given=None,
        allowed=("record", "patient"),
    )


def protected(privacy: Privacy | None, groups: np.ndarray | None, records: int) -> int:
    """Returns how many patients, or records, are protected: the n of δ < 1/n and of the rate of sampling.

    Args:
        groups: (records,) as for ``protected_unit``.
        records: how many there are.
    """
    if protected_unit(privacy, groups) == "record":
        return records
    assert groups is not None
    return len(np.unique(groups))
