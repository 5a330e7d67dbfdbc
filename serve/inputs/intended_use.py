"""Check of intended use: whether a record is of those that the model was made for.

Facts come from the header of a DICOM file and from the field ``about`` of a request, and are compared with what the
data set states (``Dataset.intended_use``). What does not fit is refused with a code; what is not given is a warning.
DICOM names a species only where it is not human, so one that is not given is taken for human without a warning.
"""

from collections.abc import Mapping
from typing import Any

from assay.data.intended_use import IntendedUse
from serve.inputs.dicom_facts import FOR_PROCESSING
from serve.inputs.numbers import number_of
from serve.refusals import RefusedError

FIELDS = ("age", "sex", "species", "modality", "body_part", "view", "site")
"""Fields of ``about``: age in years, codes and terms of DICOM, and the name of the hospital."""
_LONGEST = 128
_HUMAN = {"HUMAN", "HOMO SAPIENS", "PERSON"}
_RAW = (
    "its PresentationIntentType is FOR PROCESSING: these are raw values of the detector; send the image FOR "
    "PRESENTATION unless the model was trained on such values"
)
_SPELLINGS = {
    "FEMALE": "F",
    "MALE": "M",
    "OTHER": "O",
    "POSTERO-ANTERIOR": "PA",
    "ANTERO-POSTERIOR": "AP",
}


def checked_about(given: Any, *, records: int) -> list[dict[str, Any]]:
    """Checks the field ``about`` of a request.

    Args:
        given: an object for all records, a list with one for each, or None.
        records: number of records.

    Returns:
        The facts about each record.

    Raises:
        RefusedError: it is something else, or a value is of another type.
    """
    every = given if type(given) is list else [given or {}] * records
    if len(every) != records:
        raise RefusedError("about must be one object, or a list with one for each record", reason="about")
    return [_facts(one) for one in every]


def check_use(use: IntendedUse | None, *stated: Mapping[str, Any], record: int) -> tuple[str, ...]:
    """Compares a record with the intended use.

    Args:
        use: of the data set; None where it states nothing.
        stated: facts about the record, from each of its sources.
        record: its number, for errors.

    Returns:
        Warnings about facts that are not given, about an unknown hospital, and about raw values of a detector where the
        data set does not say what its images are.

    Raises:
        RefusedError: a fact does not fit; its reason is ``age_outside``, ``sex_outside``, ``species_outside``,
            ``modality_outside``, ``body_part_outside``, ``view_outside``, ``orientation_outside`` or
            ``presentation_outside``. Repeats no fact.
    """
    raw = any(facts.get("presentation") == FOR_PROCESSING for facts in stated)
    if use is None:
        return (_RAW,) if raw else ()
    if raw:
        raise _refusal(use, record, "presentation", "its PresentationIntentType must be FOR PRESENTATION")
    missing = []
    for one in criteria_of(use):
        name, allowed = one["name"], one["allowed"]
        values = [facts[name] for facts in stated if name in facts]
        if not values and name != "species":
            missing.append(f"{name.replace('_', ' ')} ({allowed})")
        elif not all(_fits(use, name, value) for value in values):
            raise _refusal(use, record, name, f"its {name.replace('_', ' ')} must be {allowed}")
    if use.views and any(_turned(facts) for facts in stated):
        raise _refusal(use, record, "orientation", "its rows must run to the patient's left, its columns to the feet")
    warnings = [f"not checked, for it is not given: {', '.join(missing)}"] if missing else []
    known = {site.casefold() for site in use.sites}
    site = site_of(*stated)
    if known and site and site not in known:
        warnings.append("the model was trained on records of other hospitals than this one")
    return tuple(warnings)


def site_of(*stated: Mapping[str, Any]) -> str:
    """Returns the hospital of a record.

    Args:
        stated: facts about it, first those of the request, whose statement goes before the free text of a header.

    Returns:
        Its name in lower case, as ``str.casefold`` gives it; empty where nothing names it.
    """
    return next((str(facts["site"]).strip().casefold() for facts in stated if facts.get("site")), "")


def criteria_of(use: IntendedUse | None) -> list[dict[str, Any]]:
    """Returns the facts by which the intended use is checked.

    Args:
        use: of the data set; None where it states nothing.

    Returns:
        Name of each fact as ``about`` has it, what is allowed for readers, and the allowed values; none of an age.
    """
    if use is None:
        return []
    stated: dict[str, tuple[str, ...]] = {
        "sex": use.sexes,
        "species": (use.species,) if use.species else (),
        "modality": use.modalities,
        "body_part": use.body_parts,
        "view": use.views,
    }
    age = (
        [] if use.ages is None else [{"name": "age", "allowed": f"{use.ages[0]} to {use.ages[1]} years", "values": []}]
    )
    return age + [
        {"name": name, "allowed": " or ".join(values), "values": list(values)}
        for name, values in stated.items()
        if values
    ]


def _fits(use: IntendedUse, name: str, value: Any) -> bool:
    if name == "age":
        # In completed years: a child is five until its sixth birthday.
        return use.ages is not None and use.ages[0] <= value < use.ages[1] + 1
    term = str(value).strip().upper()
    if name == "species":
        return term == use.species.upper() or (use.species == "human" and term in _HUMAN)
    allowed = {"sex": use.sexes, "modality": use.modalities, "body_part": use.body_parts, "view": use.views}[name]
    return _SPELLINGS.get(term, term) in allowed


def _turned(facts: Mapping[str, Any]) -> bool:
    """Returns whether an image is turned or mirrored, by DICOM's PatientOrientation or ImageOrientationPatient."""
    return any(rows[:1] != "L" or columns[:1] != "F" for rows, columns in facts.get("orientations", ()))


def _facts(given: Any) -> dict[str, Any]:
    if type(given) is not dict or not given.keys() <= set(FIELDS):
        raise RefusedError(f"about must be an object with some of {', '.join(FIELDS)}", reason="about")
    facts = {name: value for name, value in given.items() if value is not None}
    for name, value in facts.items():
        if name == "age":
            age = number_of(value)
            if age is None or not 0 <= age <= 150:
                raise RefusedError("age of about must be a number of years from 0 to 150", reason="about")
        elif type(value) is not str or not 0 < len(value) <= _LONGEST:
            raise RefusedError(f"{name} of about must be a text of 1 to {_LONGEST} characters", reason="about")
    return facts


def _refusal(use: IntendedUse, record: int, name: str, allowed: str) -> RefusedError:
    return RefusedError(
        f"record {record} is not of those that the model was made for ({use.records}): {allowed}",
        reason=f"{name}_outside",
    )
