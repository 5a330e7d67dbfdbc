"""Columns of patients, records or hospitals, recognised by their names.

A column that names patients is never a feature: a network would learn to recognise patients, and be tested on the same
patients.
"""

import re
import statistics
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, Literal

import numpy as np

from assay.data.missing import NO_NAME
from assay.data.spellings import as_seen, normalised, refuse_alike
from assay.errors import DataError
from assay.registry import unknown

_PERSON = (
    r"(patient(s|en|in|innen|e)?|subj(ect)?s?|participants?|mrns?|pids?|empis?|ssns?|pseudonym[es]?|nhs|medicalrecord|"
    r"proband(s|en|in|innen)?|versuchsperson(en)?|teilnehmer(in|innen)?|pacientes?|participantes?|sujetos?|"
    r"historiaclinica|historiaclínica|sujets?|pazient[ei]|paciënt|patiënt|usubj|uhids?|kvnr|versichertennummer)"
)
_NUMBER = (
    r"(ids?|uids?|nos?|nrs?|nums?|numbers?|codes?|keys?|hash|identifiers?|nummern?|kennung|kennziffer|schlüssel|"
    r"numeros?|números?|numéros?|nº|identificador|identifiant|identificativo|codigo|código)"
)
_OF = r"(de|del|dela|du|des|der|of)?"
_QUALIFIER = (
    r"(pseudonymi[sz]ed|pseudonymisiert|pseudo|anonymi[sz]ed|anonymisiert|anon|anonimizado|anonyme|de?identified|hashed|"
    r"encrypted|masked|new|old|original|orig|study|research|local|global|unique|internal|hospital|clinic|trial|the)"
)
_PATIENT = re.compile(
    rf"{_QUALIFIER}*({_PERSON}({_NUMBER}|{_QUALIFIER})*(names?)?|{_NUMBER}+{_OF}{_PERSON}|names?{_OF}{_PERSON}"
    rf"|groups?{_NUMBER}?|(pt|pat|person){_NUMBER}|{_NUMBER}groups?){_QUALIFIER}*"
)
_PERHAPS_PATIENT = re.compile(
    rf"(person|persona|personne|donor|spender|donante|case|encounter|caso|cas|dossier)({_NUMBER}|names?)?|"
    rf"(fall|aufnahme|spender|dossier|hospital|unit){_NUMBER}|{_NUMBER}{_OF}(person|persona|personne|donor|case|caso|cas)|"
    rf"(client|member|individual|insur(ed|ance)|beneficiary|resident|famil(y|ies)|household|chart|file|r){_NUMBER}|"
    r"(first|last|full|given|family|sur|fore|vor|nach|familien)?names?|initials?|apellidos?|nombres?|prénoms?|prenoms?|"
    rf"{_PERSON}_?(visit|encounter|admission|episode|exam|scan|image|sample)({_NUMBER})?|indexlevel\d+"
)
"""Names of columns that identify patients or visits in some tables, and something else in others. The user is asked
about them. One of them is an index without a name, as pandas writes it."""
_RECORD = re.compile(
    rf"ids?|uids?|guid|index|idx|unnamed\d*|(row|record|sample|case|study|visit|encounter|admission|episode|exam|scan|"
    rf"image|hadm|stay|icustay|accession|specimen|report){_NUMBER}|accession"
)
_SITE = re.compile(
    rf"(sites?|hospitals?|cent(er|re)s?|clinics?|wards?|departments?|institutions?|institutes?|facility|facilities)"
    rf"(name|{_NUMBER})?"
)
_AMBIGUOUS = re.compile(rf"groups?{_NUMBER}?|{_NUMBER}groups?")
"""Names that mean patients in some files, and trial arms or hospitals in others."""
_FEW_GROUPS, _MANY_RECORDS = 10, 20
"""Fewer groups than the first number, with at least the second number of records each on average, are not patients."""
_ARMS, _RECORDS_OF_AN_ARM = 3, 10
"""At most so many groups, with at least the second number of records each on average, are probably trial arms."""
_UNKNOWN = (
    "unknown", "unk", "unbekannt", "desconocido", "desconocida", "inconnu", "inconnue", "not known", "missing",
    "anonymous", "anonymized", "anonymised", "anon", "anonym", "anónimo", "anonyme", "deidentified", "de-identified",
    "removed", "redacted",
)  # fmt: skip
"""Words for an unknown or removed name, in lower case."""
_CODES = {"0", "-1", "-9", "-99", "-999", "-9999", "99", "999", "9999", "99999", "999999"}
"""Numbers that often mean that the patient is unknown."""
_MANY = 5
"""Number of records, in multiples of a median patient's, from which such a number is taken for several patients."""
_ROUNDED = re.compile(r"\d([.,]\d+)?[eE]\+\d+")
"""Long numbers as spreadsheets write them: 1.23E+11."""
_LARGEST_EXACT = 2.0**53
"""Above this number, different whole numbers may be equal in float64."""

GroupKind = Literal["patient", "site"]


def names_nobody(name: str) -> bool:
    """Returns whether a name means that the patient is unknown: ``unknown``, ``n/a``, an empty name.

    Args:
        name: of a patient.

    Returns:
        True if it names no patient.
    """
    return as_seen(name).casefold() in {*NO_NAME, *_UNKNOWN}


def may_name_patients(name: str) -> bool:
    """Returns whether a column of this name identifies patients in some tables, and something else in others.

    Args:
        name: of a column.

    Returns:
        True if the name is ambiguous.
    """
    return not names_patients(name) and _PERHAPS_PATIENT.fullmatch(normalised(name)) is not None


def names_patients(name: str) -> bool:
    """Returns whether a column of this name usually identifies patients.

    Args:
        name: of a column.

    Returns:
        True if it does.
    """
    return _PATIENT.fullmatch(normalised(name)) is not None


def names_records(name: str) -> bool:
    """Returns whether a column of this name usually identifies records.

    Args:
        name: of a column.

    Returns:
        True if it does.
    """
    return _RECORD.fullmatch(normalised(name)) is not None


def names_sites(name: str) -> bool:
    """Returns whether a column of this name usually identifies hospitals.

    Args:
        name: of a column.

    Returns:
        True if it does.
    """
    return _SITE.fullmatch(normalised(name)) is not None


def hardly_patients(groups: int, records: int) -> bool:
    """Returns whether so few groups of so many records are more probably hospitals, or trial arms, than patients.

    Args:
        groups: number of groups.
        records: number of records.

    Returns:
        True if there are fewer than 10 groups of 20 or more records on average.
    """
    return groups < _FEW_GROUPS and records >= _MANY_RECORDS * groups


def ambiguous(column: str, groups: np.ndarray | Sequence[str]) -> bool:
    """Returns whether a column has a name like ``group``, and too few values to be patients.

    Args:
        column: its name.
        groups: (n,) its values.

    Returns:
        True if both hold.
    """
    distinct = len(np.unique(groups))
    few = hardly_patients(distinct, len(groups)) or (distinct <= _ARMS and len(groups) >= _RECORDS_OF_AN_ARM * distinct)
    return _AMBIGUOUS.fullmatch(normalised(column)) is not None and few


def few_patients(column: str, groups: np.ndarray | Sequence[str]) -> tuple[str, ...]:
    """Returns a warning if a column that was recognised by its name has very few patients for so many records.

    Args:
        column: its name.
        groups: (n,) its values.

    Returns:
        The warning, or nothing.
    """
    distinct = len(np.unique(groups))
    if not hardly_patients(distinct, len(groups)):
        return ()
    return (
        f"{column} tells only {distinct} patients of {len(groups)} records apart: make sure that it names patients",
    )


def refuse_ambiguous(
    column: str, groups: np.ndarray | Sequence[str], *, given: str | None, where: str
) -> tuple[str, ...]:
    """Raises if a column was taken for patients because of an ambiguous name, and its values do not look like patients.

    Args:
        column: its name.
        groups: (n,) its values.
        given: the setting ``group``.
        where: the file, for errors.

    Returns:
        A warning if the name is clear, but the values do not look like patients.

    Raises:
        DataError: the column was recognised by a name like ``group``, and has few values of many records each.
    """
    if given is None and ambiguous(column, groups):
        raise DataError(
            f"{where}: column {column!r} was found by its name, and its {len(np.unique(groups))} values in "
            f"{len(groups)} records are too few to be patients without being told so; say group: {column} if they are, "
            f"or name the column of patients, or leave it out with drop: [{column}]",
            setting="group",
            given=column,
            allowed=f"group: {column} or drop: [{column}]",
        )
    return few_patients(column, groups) if given is None and not names_sites(column) else ()


def group_column(
    names: Sequence[str],
    *,
    given: str | None,
    where: str,
    insisted: Collection[str] = (),
    dropped: Collection[str] = (),
) -> str | None:
    """Returns the column that identifies patients: the one that is given, or the one with a usual name.

    Args:
        names: all columns but the label.
        given: the setting ``group``; empty if every record is another patient's, None if it is not set.
        where: the data, for errors.
        insisted: columns that are features whatever their names are.
        dropped: columns that are not read.

    Returns:
        The name of the column; None if there is none.

    Raises:
        DataError: there is no such column, several have a usual name, or one would remain among the features.
    """
    if given and given not in names:
        raise DataError(
            f"{where}: group: {unknown('column', given, list(names))}",
            setting="group",
            given=given,
            allowed=list(names),
        )
    usual = [name for name in names if names_patients(name) and name not in insisted and name not in dropped]
    chosen = given if given is not None else (usual[0] if len(usual) == 1 else "")
    left = [name for name in usual if name != chosen]
    if left and given is None:
        raise DataError(
            f"{where}: columns {', '.join(map(repr, left))} all look like those that tell patients apart; say which "
            "one does, group: NAME, and drop the others (drop: [NAME])",
            setting="group",
            given=left,
            allowed="one column",
        )
    if left:
        raise DataError(
            f"{where}: column {left[0]!r} looks like one that tells patients apart, and group is {given!r}; leave it "
            f"out with drop: [{left[0]}], or make it a feature all the same with features: [{left[0]}]",
            setting="drop",
            given=left[0],
            allowed=[*dropped, left[0]],
        )
    return chosen or None


def refuse_perhaps(names: Sequence[str], *, where: str, dropped: Collection[str] = ()) -> None:
    """Raises if a column may identify patients by its name.

    Args:
        names: of the columns; their values are not examined.
        where: the data, for errors.
        dropped: columns that are not read.

    Raises:
        DataError: one of the names may mean patients.
    """
    perhaps = [name for name in names if may_name_patients(name) and name not in dropped]
    if perhaps:
        name = perhaps[0]
        raise DataError(
            f"{where}: column {name!r} may tell patients apart; if it does, say group: {name}, otherwise drop: "
            f"[{name}]",
            setting="group",
            given=name,
            allowed=f"group: {name} or drop: [{name}]",
        )


def as_groups(values: Any, *, where: str, column: str = "groups") -> np.ndarray:
    """Returns names of patients in a comparable form: as they are seen, none missing; whole numbers as integers.

    Args:
        values: (n,) names or numbers.
        where: the data, for errors.
        column: name of the column, for errors.

    Returns:
        (n,) names or integers.

    Raises:
        DataError: one is missing or too large to be exact, two differ only in case or leading zeros, or a number that
            often means an unknown patient has many records.
    """
    groups = as_text(np.asarray(values), where=where, column=column)
    if groups.ndim != 1:
        return groups  # the data set refuses the shape
    refuse_missing(groups, where=where, column=column)
    if groups.dtype.kind in "iubf":
        numbers = _whole(groups, where, column) if groups.dtype.kind == "f" else groups
        refuse_shared(numbers.tolist(), where=where, column=column)
        return numbers
    names = np.array([as_seen(str(one)) for one in groups.tolist()])
    refuse_patients_alike(names.tolist(), where=f"{where}: {column}", column=column)
    refuse_shared(names.tolist(), where=where, column=column)
    return names


def as_text(array: np.ndarray, *, where: str, column: str) -> np.ndarray:
    """Returns an array of names with bytes decoded to text; other arrays unchanged.

    Args:
        array: of names.
        where: the data, for errors.
        column: name of the column, for errors.

    Returns:
        An array of the same shape.

    Raises:
        DataError: bytes are not UTF-8, or each record has several values.
    """
    if array.dtype.kind == "V":
        raise DataError(
            f"{where}: {column} holds records of several fields ({array.dtype}); save the one that names them as an "
            "array of its own",
            setting=column,
            given=str(array.dtype),
            allowed="one value each",
        )
    if array.dtype.kind not in "SO":
        return array
    try:
        text = [one.decode() if isinstance(one, bytes) else one for one in array.ravel().tolist()]
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: {column} holds {error.object!r}, whose bytes are no UTF-8; save names as text, which "
            f"np.char.decode({column}, 'latin-1') makes of them if that is their encoding",
            setting=column,
            given=error.object,
            allowed="UTF-8",
        ) from None
    return np.array(text, array.dtype if array.dtype.kind == "O" else None).reshape(array.shape)


def refuse_patients_alike(names: Collection[str], *, where: str, column: str) -> None:
    """Raises if two names of patients differ only in their spelling; see ``same_patient``.

    Args:
        names: of patients.
        where: the data, for errors.
        column: name of the column, for errors.

    Raises:
        DataError: two are alike, or a spreadsheet has rounded one.
    """
    rounded = [name for name in set(names) if _ROUNDED.fullmatch(name)]
    if rounded:
        raise DataError(
            f"{where} holds {rounded[0]!r}: a spreadsheet has rounded a long number, and all patients that begin alike "
            "are one; format the column as text or as a number without decimals, and save the file again",
            setting=column,
            given=rounded[0],
            allowed="all digits of the number",
        )
    refuse_alike(sorted(set(names)), where=where, setting=column, what="patients", blanks=False, zeros=True)


def refuse_shared(names: Sequence[Any], *, where: str, column: str) -> None:
    """Raises if a number that often means an unknown patient, such as 0 or -1, has many records.

    Args:
        names: (n,) names or numbers of patients.
        where: the data, for errors.
        column: name of the column, for errors.

    Raises:
        DataError: it has five times as many records as the median patient, or more than twice as many if it is
            negative.
    """
    counts = Counter(map(str, names))
    usual = statistics.median(counts.values()) if len(counts) > 2 else len(names)
    for code in sorted(_CODES & set(counts)):
        if counts[code] >= _MANY * usual or (code.startswith("-") and counts[code] > 2 * usual):
            raise DataError(
                f"{where}: {column} is {code} in {counts[code]} records, and a usual patient has {usual:g}; if it "
                "stands for no patient, name the patient of each of these records or leave them out, otherwise write "
                f"another name than {code}",
                setting=column,
                given=code,
                allowed="a name for each patient",
            )


def refuse_missing(groups: np.ndarray, *, where: str, column: str = "groups") -> None:
    """Raises if a name of a patient is missing.

    Args:
        groups: (n,) names or numbers of patients.
        where: the data, for errors.
        column: name of the column, for errors.

    Raises:
        DataError: one is missing: all records without a name would count as one patient.
    """
    missing = _missing(groups)
    if missing.any():
        raise DataError(
            f"{where}: {column} is missing for {int(missing.sum())} of {len(groups)} records, the first is record "
            f"{int(missing.argmax())}; name the patient of every record, or give each of them a name of its own",
            setting=column,
            given=int(missing.sum()),
            allowed=0,
        )


def _missing(groups: np.ndarray) -> np.ndarray:
    if groups.dtype.kind == "f":
        return ~np.isfinite(groups)
    if groups.dtype.kind in "iub":
        return np.zeros(len(groups), bool)
    names, place = np.unique(groups.astype(str), return_inverse=True)
    return np.array([names_nobody(name) for name in names.tolist()], bool)[place]


def _whole(groups: np.ndarray, where: str, column: str) -> np.ndarray:
    if np.abs(groups).max(initial=0) >= _LARGEST_EXACT:
        raise DataError(
            f"{where}: {column} holds {np.abs(groups).max():.17g} as a floating-point number, in which such numbers "
            "cannot be told apart; save them as text or as integers",
            setting=column,
            given=float(np.abs(groups).max()),
            allowed=_LARGEST_EXACT,
        )
    return groups.astype(np.int64) if bool((groups == np.trunc(groups)).all()) else groups
