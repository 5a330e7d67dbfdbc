"""Whether records of a data set may stand in a report."""

from assay.data.base import Dataset

_OPEN = ("cc by", "cc0", "cc-by", "odc-by", "pddl", "public domain", "none needed", "drawn by assay")
"""How licences begin that let everybody publish records."""


def is_public(dataset: Dataset) -> bool:
    """Returns whether everybody may publish records of a data set, by its licence.

    A record of a patient in a report, or a part of one, is a leak itself. Where the licence is unknown, nothing is
    shown.

    Args:
        dataset: the data.

    Returns:
        True if its licence is known to be open.
    """
    return dataset.licence.casefold().startswith(_OPEN)
