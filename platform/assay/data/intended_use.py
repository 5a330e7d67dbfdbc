"""Whom the records of a data set are of, and so for whom a model of them may answer."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class IntendedUse:
    """Facts about the records, as their publishers state them. An empty field states nothing, so nothing is checked."""

    records: str
    """Whom and what the records are of, as a clause for readers."""
    species: str = ""
    ages: tuple[int, int] | None = None
    """Least and greatest age in completed years."""
    sexes: tuple[str, ...] = ()
    """Codes of DICOM's PatientSex: F, M, O."""
    modalities: tuple[str, ...] = ()
    """Codes of DICOM's Modality, such as CR and DX of X-rays."""
    body_parts: tuple[str, ...] = ()
    """Terms of DICOM's BodyPartExamined, such as CHEST."""
    views: tuple[str, ...] = ()
    """Codes of DICOM's ViewPosition, such as AP and PA; an image of them stands upright."""
    sites: tuple[str, ...] = ()
    """Hospitals of the records. Those of another hospital are answered with a warning."""
