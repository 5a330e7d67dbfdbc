"""Spellings of names: which of them are equal to a reader, and names that are too similar to be told apart."""

import re
import unicodedata
from collections.abc import Sequence

from assay.errors import DataError

_AROUND = " '`\"=#()[]\u2018\u2019\u201c\u201d"
"""Marks around a name that are not part of it, as spreadsheets and lists write them: ``="007"``, ``#7``."""
_GROUPED = re.compile(r"\d{1,3}(,\d{3})+")
"""A whole number with a comma at each thousand."""
_WITHOUT_DECIMALS = re.compile(r"\d+[.,]0+")
"""A whole number with decimals that are 0."""
UNSEEN = dict.fromkeys(map(ord, "\u00ad\u180e\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))
"""Characters without width, which are invisible."""


def normalised(name: str) -> str:
    """Returns a name without case, blanks, underscores and punctuation: ``Patient ID`` is ``patientid``.

    Args:
        name: of a column.

    Returns:
        The normalised name.
    """
    return re.sub(r"[\W_]+", "", name.casefold())


def as_seen(written: str) -> str:
    """Returns a name without invisible differences: outer and repeated blanks, characters without width, NFC or NFD.

    Args:
        written: the name in the file.

    Returns:
        The name.
    """
    return " ".join(unicodedata.normalize("NFC", written.translate(UNSEEN)).split())


def same_patient(name: str) -> str:
    """Returns a form of a patient's name that is equal for all spellings of it.

    Spellings differ in case, leading zeros, marks around a name or between its parts, the width of characters, the
    script of digits, and the number format of a spreadsheet: ``P-007``, ``p 7`` and ``P_7`` are one name, as are
    ``1005``, ``'1005``, ``="1005"``, ``#1005``, ``1,005`` and ``1005,0``; ``1-23`` and ``12-3`` are two.

    Args:
        name: of a patient.

    Returns:
        The common form.
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


def refuse_alike(
    names: Sequence[str], *, where: str, setting: str, what: str, blanks: bool = True, zeros: bool = False
) -> None:
    """Raises if two names differ only in case and blanks.

    Args:
        names: to compare.
        where: the data, for errors.
        setting: that the error concerns.
        what: plural noun for what is named.
        blanks: whether blanks and underscores are ignored as well as case.
        zeros: whether zeros before a number are ignored, too.

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
            problem = f"are called {name!r}" if other == name else f"{other!r} and {name!r} differ in {only} only"
            raise DataError(
                f"{where}: two {what} {problem}; give each a name of its own, or write one name in one way",
                setting=setting,
                given=name,
                allowed=f"names that differ in more than {only}",
            )
        seen[key] = name
