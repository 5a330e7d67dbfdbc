"""What the header of a DICOM image states about patient and image, and which of it casts doubt on the answer."""

from collections.abc import Sequence
from typing import Any

from serve.inputs.numbers import number_of
from serve.refusals import RefusedError

FOR_PROCESSING = "FOR PROCESSING"
"""PresentationIntentType of the raw values of a detector, which are not made to be looked at."""
_FACTS = {
    "modality": "Modality",
    "body_part": "BodyPartExamined",
    "view": "ViewPosition",
    "sex": "PatientSex",
    "species": "PatientSpeciesDescription",
    "site": "InstitutionName",
    "presentation": "PresentationIntentType",
}
_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
_VIEWS = {"399348003": "AP", "R-10206": "AP", "272479007": "PA", "R-10214": "PA", "R-40888": "PA"}
"""Views by their codes in SNOMED (PS3.16, CID 4010)."""
_FRONTAL = ("399033003", "R-10202")
"""Codes of a frontal view, AP or PA."""
_ENDS = ("L", "R"), ("P", "A"), ("H", "F")
"""Ends of the axes of the patient, to which coordinates grow and fall."""
_SPACINGS = ("PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_SQUARE = 0.01
"""Greatest relative difference of the two sides of a pixel that counts as square."""
_SHAPES = {"MONOCHROME1": "INVERSE", "MONOCHROME2": "IDENTITY"}
"""PresentationLUTShape that belongs to each PhotometricInterpretation (PS3.3, C.11.6)."""


def stated_facts(header: Any) -> dict[str, Any]:
    """Returns what a header states about patient and image, by the names of ``intended_use.check_use``.

    Args:
        header: pydicom's data set.

    Returns:
        Age in years, sex, modality, body part, view, species, hospital, orientations and intent of presentation, as far
        as they are stated.

    Raises:
        RefusedError: the age cannot be read.
    """
    facts: dict[str, Any] = {name: _text(header, tag) for name, tag in _FACTS.items()}
    facts["view"] = facts["view"] or _coded_view(header)
    facts["age"] = _age(header)
    facts["orientations"] = _orientations(header)
    return {name: value for name, value in facts.items() if value not in (None, "", [])}


def header_warnings(header: Any) -> tuple[str, ...]:
    """Returns warnings about what a header says of the pixels.

    Args:
        header: pydicom's data set.

    Returns:
        Warnings about pixels that are not square, and about a film that may be inverted.
    """
    return (*_not_square(header), *_inverted(header))


def _text(header: Any, tag: str) -> str:
    value = header.get(tag)
    return "" if value is None else str(value).strip().upper()


def _age(header: Any) -> float | None:
    """Returns the age in years: PatientAge, else the time from birth to the study."""
    written = _text(header, "PatientAge")
    if len(written) == 4 and written[:3].isascii() and written[:3].isdecimal() and written[3] in _YEARS:
        return int(written[:3]) * _YEARS[written[3]]
    if written:
        raise RefusedError("the DICOM tag PatientAge must be three digits and D, W, M or Y", reason="dicom")
    born, taken = _text(header, "PatientBirthDate"), _text(header, "StudyDate")
    if not all(len(date) == 8 and date.isascii() and date.isdecimal() for date in (born, taken)):
        return None
    years = int(taken[:4]) - int(born[:4]) - (taken[4:] < born[4:])
    return float(years) if years >= 0 else None


def _coded_view(header: Any) -> str:
    """Returns the view by its code, where one is given: AP or PA, else a term that no data set knows."""
    sequence = header.get("ViewCodeSequence")
    code = _text(sequence[0], "CodeValue") if sequence else ""
    return "" if code in ("", *_FRONTAL) else _VIEWS.get(code, "CODED")


def _orientations(header: Any) -> list[list[str]]:
    """Returns to which ends of the patient rows and columns run, by each tag that states it."""
    letters = header.get("PatientOrientation")
    by_letters = [str(end).strip().upper() for end in letters] if letters and len(letters) == 2 else []
    cosines = _numbers(header, "ImageOrientationPatient", 6)
    by_cosines = [_end(cosines[:3]), _end(cosines[3:])] if cosines else []
    return [one for one in (by_letters, by_cosines) if any(one)]


def _end(direction: Sequence[float]) -> str:
    """Returns the end of the patient to which a direction, in DICOM's coordinates, mostly runs."""
    axis = max(range(3), key=lambda place: abs(direction[place]))
    return _ENDS[axis][direction[axis] < 0]


def _not_square(header: Any) -> tuple[str, ...]:
    tag = next((tag for tag in _SPACINGS if header.get(tag)), None)
    if tag is None:
        return ()
    sides = _numbers(header, tag, 2)
    if not sides or min(sides) <= 0:
        return (f"its {tag} is not two numbers above 0: not checked whether its pixels are square",)
    ratio = sides[0] / sides[1]
    if abs(ratio - 1) <= _SQUARE:
        return ()
    return (
        f"by its {tag} pixels are {ratio:.3g} times as high as wide, and the model takes them for square: send the "
        "image resampled to square pixels",
    )


def _inverted(header: Any) -> tuple[str, ...]:
    shape, kind = _text(header, "PresentationLUTShape"), _text(header, "PhotometricInterpretation")
    fitting = _SHAPES.get(kind)
    if not shape or fitting is None or shape == fitting:
        return ()
    return (
        f"its PresentationLUTShape is not {fitting}, which {kind} needs: black and white may be exchanged, since the "
        "image was read by PhotometricInterpretation alone",
    )


def _numbers(header: Any, tag: str, count: int) -> list[float]:
    """Returns the numbers of a tag; empty where they are not as many, or one is not finite."""
    value = header.get(tag)
    if value is None or isinstance(value, str | bytes | int | float) or len(value) != count:
        return []
    try:
        numbers = [number_of(float(one)) for one in value]
    except (TypeError, ValueError, OverflowError):
        return []
    return [one for one in numbers if one is not None] if None not in numbers else []
