"""The unit of privacy: who may be added or removed without being noticed, a patient or a single record."""

from typing import Literal

import numpy as np

from assay.recipes import Privacy


def protected_unit(privacy: Privacy | None, groups: np.ndarray | None) -> Literal["patient", "record"]:
    """Returns whom a recipe protects on some data: patients where records have them, unless it asks for records.

    Args:
        privacy: of the recipe; None if it is not private, and the unit is that of a private one by default.
        groups: (records,) the patient of each record; None where each record is its own.
    """
    return "patient" if groups is not None and getattr(privacy, "unit", None) in (None, "patient") else "record"
