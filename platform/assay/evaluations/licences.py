"""Whether records of a data set may stand in a report."""

import re

from assay.data.base import Dataset

_OPEN = re.compile(r"(cc[ -]by|cc0|odc-by|pddl|public domain|none needed|drawn by assay)\b")
"""How licences begin that let everybody publish records."""
_RESTRICTED = re.compile(
    r"[- ](nd|nc)\b|no ?deriv|non-?commercial|request|credential|restrict|pending|only|consent|agreement|embargo|not "
)
"""What texts about licences contain that forbid a changed record, such as a picture with an overlay, or let only some
publish. A text that says more than a licence is read as a restriction where in doubt."""


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
    return _OPEN.match(licence) is not None and _RESTRICTED.search(licence) is None
