"""Columns that name patients or records, found by their names and by their values, and names that are too much alike.

A column that names patients is never a feature: a network would learn patients by heart and be tested on the same ones.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from assay.data.missing import NO_NAME
from assay.errors import DataError
from assay.registry import unknown

_WHO = r"(patients?|subjects?|participants?|groups?|mrns?|pids?|empis?|ssns?|pseudonyms?|nhs|medicalrecord)"
_NUMBER = r"(ids?|uids?|nos?|nrs?|nums?|numbers?|codes?|keys?|hash|identifiers?)"
_PATIENT = re.compile(rf"{_WHO}{_NUMBER}?|(pat|subj|person){_NUMBER}|{_NUMBER}{_WHO}")
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
_FEWEST = 20
"""Values of a column below which nothing is concluded from how they repeat."""
_DISTINCT = 0.95
"""Share of distinct values from which on nearly all are."""
_LARGEST_EXACT = 2.0**53
"""Whole numbers above it cannot all be told apart as floating point."""

GroupKind = Literal["patient", "site"]


def normalised(name: str) -> str:
    """A name without case, blanks, underscores and punctuation: ``Patient ID`` is ``patientid``."""
    return re.sub(r"[\W_]+", "", name.casefold())


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


def refuse_ambiguous(column: str, groups: np.ndarray | Sequence[str], *, given: str | None, where: str) -> None:
    """Let pass a column of patients that was named, or whose name leaves no doubt, or whose values may be patients.

    Args:
        groups: (n,) its values.
        given: the setting ``group``.

    Raises:
        DataError: the column was found by a name like ``group``, and holds few values of many records each.
    """
    distinct = len(np.unique(groups))
    if given is None and _AMBIGUOUS.fullmatch(normalised(column)) and hardly_patients(distinct, len(groups)):
        raise DataError(
            f"{where}: column {column!r} was found by its name, and its {distinct} values in {len(groups)} records are "
            f"too few to be patients without being told so; say group: {column} if they are, or name the column of "
            f"patients, or leave it out with drop: [{column}]",
            setting="group",
            given=column,
            allowed=f"group: {column} or drop: [{column}]",
        )


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


def as_groups(values: Any, *, where: str, column: str = "groups") -> np.ndarray:
    """Names of patients as they are compared: without blanks around them, none missing; whole numbers as integers.

    Raises:
        DataError: one is missing or too large to be exact, or two differ in nothing but case.
    """
    groups = np.asarray(values)
    if groups.ndim != 1:
        return groups  # the data set refuses the shape
    refuse_missing(groups, where=where, column=column)
    if groups.dtype.kind in "iub":
        return groups
    if groups.dtype.kind == "f":
        return _whole(groups, where, column)
    names = np.array([(one.decode() if isinstance(one, bytes) else str(one)).strip() for one in groups.tolist()])
    refuse_alike(sorted(set(names.tolist())), where=f"{where}: {column}", setting=column, what="patients", blanks=False)
    return names


def refuse_missing(groups: np.ndarray, *, where: str, column: str = "groups") -> None:
    """Let pass names of patients, (n,), none of which is missing.

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
    return np.array([name.strip().casefold() in NO_NAME for name in names.tolist()], bool)[place]


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


def refuse_alike(names: Sequence[str], *, where: str, setting: str, what: str, blanks: bool = True) -> None:
    """Let pass names that differ in more than case and blanks.

    Args:
        what: they are names of, in the plural.
        blanks: whether blanks and underscores are looked through as well as case.

    Raises:
        DataError: two are equal, or alike.
    """
    seen: dict[str, str] = {}
    for name in names:
        key = re.sub(r"[\s_]+", "", name.casefold()) if blanks else name.casefold()
        if key in seen:
            other = seen[key]
            told = f"are called {name!r}" if other == name else f"{other!r} and {name!r} differ in case or blanks only"
            raise DataError(
                f"{where}: two {what} {told}; give each a name of its own, or write one name in one way",
                setting=setting,
                given=name,
                allowed="names that differ in more than case and blanks",
            )
        seen[key] = name


@dataclass(frozen=True, kw_only=True)
class Suspicion:
    """Why a feature may be no measurement but a name of records or patients."""

    verdict: Literal["refuse", "warn"]
    why: str


def suspicion(values: np.ndarray, y: np.ndarray, *, grouped: bool, text: bool = False) -> Suspicion | None:
    """Whether a feature looks like an identifier.

    Suspect are whole numbers, or words, that hardly ever repeat; and such that repeat while the label is the same
    wherever one repeats, unless it changes along their order as slowly as that of a measurement would. Whole numbers
    that never repeat are refused where they are numbered through (in the order of the file, without gaps, or spread
    evenly), and warned of otherwise: a platelet count hardly repeats either, but crowds around its mean.

    Args:
        values: (n,) numbers, or positions of words among those that occur; NaN where missing.
        y: (n,) labels.
        grouped: whether patients are known already, so that no record of one is on both sides of a split.
        text: whether the values stand for words.
    """
    here = np.isfinite(values)
    v, labels = values[here], y[here]
    if len(v) < _FEWEST or (not text and bool((v != np.trunc(v)).any())):
        return None
    distinct, inverse, counts = np.unique(v, return_inverse=True, return_counts=True)
    if len(distinct) >= _DISTINCT * len(v):
        why = f"{len(distinct)} of its {len(v)} values are distinct"
        return Suspicion(verdict="refuse" if text or _numbered_through(v, distinct) else "warn", why=why)
    if not grouped and _label_by_value(v, labels, inverse, counts):
        why = f"its {len(distinct)} values repeat, and wherever one repeats the label is the same"
        return Suspicion(verdict="refuse", why=why)
    return None


def _numbered_through(v: np.ndarray, distinct: np.ndarray) -> bool:
    steps, span = np.diff(v), distinct[-1] - distinct[0]
    if bool((steps > 0).all()) or bool((steps < 0).all()) or span + 1 <= 1.5 * len(distinct):
        return True
    # Kolmogorov and Smirnov's distance from a uniform distribution, at the 5 % limit.
    place = (distinct - distinct[0]) / span
    rank = np.arange(1, len(distinct) + 1) / len(distinct)
    distance = max(np.abs(rank - place).max(), np.abs(rank - 1 / len(distinct) - place).max())
    return len(distinct) >= 50 and bool(distance * np.sqrt(len(distinct)) < 1.36)


def _label_by_value(v: np.ndarray, labels: np.ndarray, inverse: np.ndarray, counts: np.ndarray) -> bool:
    """Whether labels are constant within repeated values, more often than chance and order explain."""
    _, label = np.unique(labels, return_inverse=True)
    table = np.zeros((len(counts), label.max() + 1), int)
    np.add.at(table, (inverse, label), 1)
    repeated = counts >= 2
    if repeated.sum() < 10 or counts[repeated].sum() < 0.5 * len(v):
        return False
    pure = table[repeated].max(1) == counts[repeated]
    shares = np.bincount(label) / len(label)
    mixed_by_chance = float((1 - (shares ** counts[repeated][:, None]).sum(1)).sum())
    # Were labels drawn, the chance that (nearly) no value had two of them would be about e^-7.
    if pure.mean() < 0.98 or mixed_by_chance < 7:
        return False
    along = table[repeated].argmax(1)
    own = np.bincount(along, minlength=len(shares)) / len(along)
    changes, expected = int((np.diff(along) != 0).sum()), (len(along) - 1) * (1 - float((own**2).sum()))
    runs = 1 + int((np.diff(v) != 0).sum())
    in_blocks = runs <= 1.05 * len(counts)
    ordered = bool((np.diff(v) >= 0).all()) or bool((np.diff(v) <= 0).all())
    return changes >= 0.5 * expected or (in_blocks and (ordered or counts.min() == counts.max()))


def refuse_identifiers(
    columns: Sequence[tuple[str, np.ndarray, bool]],
    y: np.ndarray,
    *,
    grouped: bool,
    where: str,
    insisted: Collection[str] = (),
) -> tuple[str, ...]:
    """Let pass features that are measurements, with a warning for each that may be none.

    Args:
        columns: name and values of each feature, and whether they stand for words; see ``suspicion``.
        insisted: features that are not looked at.

    Raises:
        DataError: a feature looks like an identifier; says which settings resolve it.
    """
    warned = []
    for name, values, text in columns:
        if name in insisted:
            continue
        found = suspicion(values, y, grouped=grouped, text=text)
        if names_records(name):
            found = Suspicion(verdict="refuse", why="its name is that of a number of records")
        if found is None:
            continue
        remedy = (
            f"leave it out with drop: [{name}], name the patients by it with group: {name}, or keep it as a feature "
            f"with features: [{name}]"
        )
        if found.verdict == "refuse":
            raise DataError(
                f"{where}: feature {name!r} looks like an identifier: {found.why}; {remedy}",
                setting="features",
                given=name,
                allowed=f"drop: [{name}], group: {name} or features: [{name}]",
            )
        warned.append(f"feature {name!r} may be an identifier: {found.why}; if it is none, say features: [{name}]")
    return tuple(warned)
