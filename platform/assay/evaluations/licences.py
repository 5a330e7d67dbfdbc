"""Whether records of a data set may stand in a report."""

from assay.data.base import Dataset

_OPEN = ("cc by", "cc0", "cc-by", "odc-by", "pddl", "public domain", "none needed", "drawn by assay")
"""How licences begin that let everybody publish records."""
_RESTRICTED = ("-nd", " nd", "noderiv", "no deriv", "-nc", " nc", "noncommercial", "non-commercial")
"""What licences contain that forbid a changed record, such as a picture with an overlay, or let only some publish."""


def is_public(dataset: Dataset) -> bool:
    """Returns whether everybody may publish records of a data set, by its licence.

    A record of a patient in a report, or a part of one, is a leak itself. Where the licence is unknown, nothing is
    shown.

    Args:
        dataset: the data.

    Returns:
        True if its licence is known to be open.
    """
    licence = dataset.licence.casefold()
    return licence.startswith(_OPEN) and not any(word in licence for word in _RESTRICTED)
