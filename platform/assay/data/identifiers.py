"""Columns of patients, records or hospitals, found by what they are called; and names that are too much alike.

A column that names patients is never a feature: a network would learn to recognise patients, and be tested on the same
ones.
"""

import re
import statistics
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, Literal

import numpy as np

from assay.data.missing import NO_NAME
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
"""Names of patients, or of what one of them came for, in one table, and of something else in another: asked, never
taken. An index without a name, as pandas writes it, is one."""
_RECORD = re.compile(
    rf"ids?|uids?|guid|index|idx|unnamed\d*|(row|record|sample|case|study|visit|encounter|admission|episode|exam|scan|"
    rf"image|hadm|stay|icustay|accession|specimen|report){_NUMBER}|accession"
)
_SITE = re.compile(
    rf"(sites?|hospitals?|cent(er|re)s?|clinics?|wards?|departments?|institutions?|institutes?|facility|facilities)"
    rf"(name|{_NUMBER})?"
)
_AMBIGUOUS = re.compile(rf"groups?{_NUMBER}?|{_NUMBER}groups?")
"""Names that stand for patients in one file, and for arms of a trial or hospitals in another."""
_FEW_GROUPS, _MANY_RECORDS = 10, 20
"""Fewer groups than the first, of as many records each as the second on average, are hardly patients."""
_ARMS, _RECORDS_OF_AN_ARM = 3, 10
"""So few groups, of as many records each as the second on average, are rather arms of a trial."""
_UNKNOWN = (
    "unknown", "unk", "unbekannt", "desconocido", "desconocida", "inconnu", "inconnue", "not known", "missing",
    "anonymous", "anonymized", "anonymised", "anon", "anonym", "anónimo", "anonyme", "deidentified", "de-identified",
    "removed", "redacted",
)  # fmt: skip
"""Words that say that nobody knows the patient, or that a program took the name away, in lower case."""
_CODES = {"0", "-1", "-9", "-99", "-999", "-9999", "99", "999", "9999", "99999", "999999"}
"""Numbers that often stand for no patient."""
_MANY = 5
"""Times the records of a usual patient from which on such a number is taken to stand for several."""
_ROUNDED = re.compile(r"\d([.,]\d+)?[eE]\+\d+")
"""How spreadsheets write long numbers: 1.23E+11."""
_AROUND = " '`\"=#()[]\u2018\u2019\u201c\u201d"
"""Marks around a name that are none of it, as spreadsheets and lists write them: ``="007"``, ``#7``."""
_GROUPED = re.compile(r"\d{1,3}(,\d{3})+")
"""A whole number with a comma at each thousand."""
_WITHOUT_DECIMALS = re.compile(r"\d+[.,]0+")
"""A whole number that was written as a broken one."""
UNSEEN = dict.fromkeys(map(ord, "\u00ad\u180e\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))
"""Characters without width, which no reader of a name sees."""
_LARGEST_EXACT = 2.0**53
"""Whole numbers above it cannot all be told apart as floating point."""

GroupKind = Literal["patient", "site"]


def normalised(name: str) -> str:
    """A name without case, blanks, underscores and punctuation: ``Patient ID`` is ``patientid``."""
    return re.sub(r"[\W_]+", "", name.casefold())


def as_seen(written: str) -> str:
    """A name without what no reader sees: blanks around it, repeated ones, characters without width, and NFC or NFD."""
    return " ".join(unicodedata.normalize("NFC", written.translate(UNSEEN)).split())


def names_nobody(name: str) -> bool:
    """Whether a name stands for no patient: ``unknown``, ``n/a``, nothing."""
    return as_seen(name).casefold() in {*NO_NAME, *_UNKNOWN}


def may_name_patients(name: str) -> bool:
    """Whether a column of this name tells patients apart in some tables, and something else in others."""
    return not names_patients(name) and _PERHAPS_PATIENT.fullmatch(normalised(name)) is not None


def names_patients(name: str) -> bool:
    """Whether a column of this name usually tells patients apart."""
    return _PATIENT.fullmatch(normalised(name)) is not None


def names_records(name: str) -> bool:
    """Whether a column of this name usually tells records apart."""
    return _RECORD.fullmatch(normalised(name)) is not None


def names_sites(name: str) -> bool:
    """Whether a column of this name usually tells hospitals apart."""
    return _SITE.fullmatch(normalised(name)) is not None


def hardly_patients(groups: int, records: int) -> bool:
    """Whether so few groups of so many records are rather hospitals, or arms of a trial, than patients."""
    return groups < _FEW_GROUPS and records >= _MANY_RECORDS * groups


def ambiguous(column: str, groups: np.ndarray | Sequence[str]) -> bool:
    """Whether a column is called ``group`` or the like, and holds too few values of many records each for patients."""
    distinct = len(np.unique(groups))
    few = hardly_patients(distinct, len(groups)) or (distinct <= _ARMS and len(groups) >= _RECORDS_OF_AN_ARM * distinct)
    return _AMBIGUOUS.fullmatch(normalised(column)) is not None and few


def few_patients(column: str, groups: np.ndarray | Sequence[str]) -> tuple[str, ...]:
    """A warning where a column that was found by its name tells so few patients of so many records apart."""
    distinct = len(np.unique(groups))
    if not hardly_patients(distinct, len(groups)):
        return ()
    return (
        f"{column} tells only {distinct} patients of {len(groups)} records apart: make sure that it names patients",
    )


def refuse_ambiguous(
    column: str, groups: np.ndarray | Sequence[str], *, given: str | None, where: str
) -> tuple[str, ...]:
    """Raises DataError where a column was taken for patients by a name that leaves doubt, and its values are none.

    Args:
        groups: (n,) its values.
        given: the setting ``group``.

    Returns:
        A warning where it was found by a name that leaves no doubt, and its values hardly are patients.

    Raises:
        DataError: the column was found by a name like ``group``, and holds few values of many records each.
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
    """The column that tells patients apart: the one that is given, or the one with a usual name.

    Args:
        names: all columns but the label.
        given: the setting ``group``; empty if every record is another patient's, None if nothing was said.
        where: the data, for errors.
        insisted: columns that are features whatever they are called.
        dropped: columns that are not read.

    Raises:
        DataError: there is no such column, several have a usual name, or one would be left among the features.
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
    """Raises DataError where a column may tell patients apart by its name, and its values are not looked at.

    Raises:
        DataError: the name of one may be that of patients.
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
    """Names of patients as they are compared: as they are seen, none missing; whole numbers as integers.

    Raises:
        DataError: one is missing or too large to be exact, two differ in nothing but case or leading zeros, or a number
            that stands for no patient holds many records.
    """
    groups = as_text(np.asarray(values), where=where, column=column)
    if groups.ndim != 1:
        return groups  # the data set refuses the shape
    refuse_missing(groups, where=where, column=column)
    if groups.dtype.kind in "iubf":
        known = _whole(groups, where, column) if groups.dtype.kind == "f" else groups
        refuse_shared(known.tolist(), where=where, column=column)
        return known
    names = np.array([as_seen(str(one)) for one in groups.tolist()])
    refuse_patients_alike(names.tolist(), where=f"{where}: {column}", column=column)
    refuse_shared(names.tolist(), where=where, column=column)
    return names


def as_text(array: np.ndarray, *, where: str, column: str) -> np.ndarray:
    """An array of names in which bytes have become characters; other arrays as they are.

    Raises:
        DataError: bytes are no UTF-8, or each record holds several values.
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
    """Raises DataError where two names of patients differ only in how they are written; see ``same_patient``.

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


def same_patient(name: str) -> str:
    """What names of one patient have in common that differ in how they are written only.

    That is case, leading zeros, marks around a name or between its parts, the width of characters, the script of
    digits, and how a spreadsheet writes a number: ``P-007``, ``p 7`` and ``P_7`` are one, as are ``1005``, ``'1005``,
    ``="1005"``, ``#1005``, ``1,005`` and ``1005,0``; ``1-23`` and ``12-3`` are two.
    """
    plain = unicodedata.normalize("NFKC", as_seen(name)).casefold()
    plain = re.sub(r"\d", lambda digit: str(int(digit[0])), plain)
    plain = plain.strip(_AROUND)
    if _GROUPED.fullmatch(plain):
        plain = plain.replace(",", "")
    plain = re.sub(r"(?<=\d)[.,]0+", "", plain) if _WITHOUT_DECIMALS.fullmatch(plain) else plain
    parts = re.sub(r"[\s_./^:\-\u2010-\u2015]+", "-", plain)
    parts = re.sub(r"(?<=[^\W\d_])-(?=\d)|(?<=\d)-(?=[^\W\d_])", "", parts)
    return re.sub(r"(?<!\d)0+(?=\d)", "", parts)


def refuse_shared(names: Sequence[Any], *, where: str, column: str) -> None:
    """Raises DataError where a number that often stands for no patient, 0 or -1, holds many records.

    Raises:
        DataError: it holds five times as many as the median patient, or more than twice as many if it is negative.
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
    """Raises DataError where one of the names of patients, (n,), is missing.

    Raises:
        DataError: one is: all records without a name would be one patient's.
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


def refuse_alike(
    names: Sequence[str], *, where: str, setting: str, what: str, blanks: bool = True, zeros: bool = False
) -> None:
    """Raises DataError where two names differ only in case and blanks.

    Args:
        what: they are names of, in the plural.
        blanks: whether blanks and underscores are looked through as well as case.
        zeros: whether zeros before a number are, too.

    Raises:
        DataError: two are equal, or alike.
    """
    seen: dict[str, str] = {}
    for name in names:
        key = same_patient(name) if zeros else as_seen(name).casefold()
        key = re.sub(r"[\s_]+", "", key) if blanks else key
        if key in seen:
            other = seen[key]
            only = "case, blanks, marks or leading zeros" if zeros else "case or blanks"
            told = f"are called {name!r}" if other == name else f"{other!r} and {name!r} differ in {only} only"
            raise DataError(
                f"{where}: two {what} {told}; give each a name of its own, or write one name in one way",
                setting=setting,
                given=name,
                allowed=f"names that differ in more than {only}",
            )
        seen[key] = name
