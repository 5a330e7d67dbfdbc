"""The unit of privacy: a patient or a single record; neighbouring data sets differ by one unit."""

from typing import TYPE_CHECKING, Literal

import numpy as np

from assay.errors import IncompatibleRecipeError

if TYPE_CHECKING:
    from assay.recipes import Privacy

Unit = Literal["patient", "record"]
NEIGHBOURS: dict[Unit, str] = {
    "record": "add or remove one record",
    "patient": "add or remove one patient with all of its records",
}
"""The neighbouring relation of each unit. Only charges with the same relation can be added up directly."""


def protected_unit(privacy: "Privacy | None", groups: np.ndarray | None) -> Unit:
    """Returns the unit that a recipe protects: patients where the data name them, unless the recipe asks for records.

    Without privacy the result is the unit that a private recipe would have by default.

    Args:
        privacy: of the recipe; None if it is not private.
        groups: (records,) the patient of each record, ``Dataset.patients``; None where each record is its own.

    Returns:
        ``patient`` or ``record``.

    Raises:
        IncompatibleRecipeError: patients are to be protected, and the data name none.
    """
    unit = None if privacy is None else privacy.unit
    if unit == "patient" and groups is None:
        raise IncompatibleRecipeError(
            "privacy.unit is patient, but the records of these data name no patient; give the data groups, one patient "
            "ID a record, or set privacy.unit to record if no two records are of one person",
            setting="privacy.unit",
            given="patient",
            allowed=("record", None),
        )
    return unit or ("record" if groups is None else "patient")


def refuse_unlikely_patients(privacy: "Privacy | None", groups: np.ndarray | None) -> None:
    """Raises if the groups are probably not patients and the recipe does not set the unit.

    Args:
        privacy: of the recipe; None if it is not private.
        groups: (records,) of the whole data set, ``SourceDataset.groups``; None where it names no patients.

    Raises:
        IncompatibleRecipeError: there are few groups for many records, so they may be hospitals or trial arms.
    """
    if privacy is None or privacy.unit is not None or groups is None:
        return
    # A ledger needs units, and neither data sets nor torch.
    from assay.data.identifiers import hardly_patients

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


def protected(privacy: "Privacy | None", groups: np.ndarray | None, records: int) -> int:
    """Returns the number of protected patients, or records: the n of δ < 1/n and of the sampling rate.

    Args:
        privacy: of the recipe; None if it is not private.
        groups: (records,) as for ``protected_unit``.
        records: number of records.

    Returns:
        n.
    """
    if protected_unit(privacy, groups) == "record":
        return records
    assert groups is not None
    return len(np.unique(groups))
