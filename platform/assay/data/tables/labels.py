"""Labels of a table: the class of each value, and the class to detect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.data.classes import counted_classes, guessed_positive
from assay.data.sentinels import codes_among, describe_codes
from assay.data.spellings import refuse_alike
from assay.data.tables.values import canonical
from assay.errors import DataError

_MOST_CLASSES = 20


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The label of each record."""

    y: np.ndarray
    """(n,) int64."""
    names: tuple[str, ...]
    told: str
    """Line for the user: numbers of records of each class."""
    warnings: tuple[str, ...] = ()
    """Warnings that follow from the names of the classes."""
    counted: tuple[str, ...] = ()
    """Warnings that were counted on records."""


def labels_of(
    values: Sequence[str], *, column: str, where: str, classes: Mapping[str, Sequence[Any]], positive: str | None
) -> Labels:
    """Converts a column without missing values to classes.

    Args:
        values: (n,) cells.
        column: its name, for errors.
        where: the data, for errors.
        classes: the values of each class, in order; by default each value is a class.
        positive: the class, of two, that is to be detected and becomes class 1; by default the last.

    Returns:
        The labels.

    Raises:
        DataError: values are of no class, alike, or too many to be classes.
    """
    written = [canonical(value) for value in values]
    meaning = {canonical(value): name for name, members in classes.items() for value in members}
    distinct = sorted(set(written), key=lambda one: (0, float(one), "") if _is_number(one) else (1, 0.0, one))
    if classes:
        strange = [one for one in distinct if one not in meaning]
        if strange:
            raise DataError(
                f"{where}: label {strange[0]!r} of column {column!r} is of none of the classes {', '.join(classes)}; "
                "name it among the values of one",
                setting="classes",
                given=strange[0],
                allowed=sorted(meaning),
            )
    else:
        refuse_alike(distinct, where=f"{where}: column {column!r}", setting="classes", what="labels", blanks=False)
        meaning = {one: one for one in distinct}
    names = list(classes or distinct)
    if len(names) > _MOST_CLASSES or any("." in one for one in names if _is_number(one)):
        raise DataError(
            f"{where}: column {column!r} has {len(names)} different values, {', '.join(names[:4])} …: these are no "
            "classes; name the column of the classes (label), or say which values make which class: classes: "
            "{healthy: [0], ill: [1, 2]}",
            setting="label" if not classes else "classes",
            given=len(names),
            allowed=_MOST_CLASSES,
        )
    if positive is not None:
        names = _with_last(names, canonical(positive), where)
    y = np.array([names.index(meaning[one]) for one in written], np.int64)
    line = f"label {column}: {counted_classes(names, y)}"
    warnings = () if positive is not None or classes else guessed_positive(names, remedy="positive: NAME")
    counted = () if classes else _code(column, written)
    return Labels(y=y, names=tuple(names), told=line, warnings=warnings, counted=counted)


def _code(column: str, written: Sequence[str]) -> tuple[str, ...]:
    """Returns a warning if one class is spelled like codes of missing values, and the others are not."""
    codes = codes_among(np.array(written, np.float64)) if all(_is_number(one) for one in written) else ()
    if not codes:
        return ()
    missing = ", ".join(code.written for code in codes)
    return (
        f"label {column} {describe_codes(codes)}: if that stands for a missing value, say kinds: {{{column}: "
        f"{{missing: [{missing}]}}}} and on_missing_label: drop, if it is a class, name all of them (classes)",
    )


def _with_last(names: list[str], positive: str, where: str) -> list[str]:
    if positive not in names or len(names) != 2:
        raise DataError(
            f"{where}: positive {positive!r} must be one of two classes, here are {', '.join(names)}",
            setting="positive",
            given=positive,
            allowed=names,
        )
    return [*(name for name in names if name != positive), positive]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.casefold() not in ("nan", "inf", "infinity")
