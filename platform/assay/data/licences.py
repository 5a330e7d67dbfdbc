"""Licences of data sets: which let everybody publish single records."""

_OPEN = ("cc by", "cc0", "cc-by", "odc-by", "pddl", "public domain", "none needed", "drawn by assay")
"""How licences begin that let everybody publish records."""
_RESTRICTED = ("-nd", " nd", "noderiv", "no deriv", "-nc", " nc", "noncommercial", "non-commercial")
"""What licences contain that forbid a changed record, such as a picture with an overlay, or let only some publish."""


def lets_everybody_publish(licence: str) -> bool:
    """Returns whether records may stand in a report, as they are or with an explanation drawn over them.

    A record of a patient in a report is a leak itself. Nothing may be shown where the licence is unknown.

    Args:
        licence: of the data set, in words.

    Returns:
        True for open licences.
    """
    plain = licence.casefold()
    return plain.startswith(_OPEN) and not any(word in plain for word in _RESTRICTED)
