"""Codes of missing values among numbers: 999, -9, 77 beside 99, or 1e20 among small numbers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assay.errors import DataError

_REPEATED = re.compile(r"7{1,9}|8{1,9}|9{1,9}|9{1,8}[678]|7+\.7+|8+\.8+|9+\.9+|9{3,}\.25")
"""Spellings of codes of missing values, without their sign: 9, 77, 998, 99.9, 999.25."""
_FEWEST = 3
"""Least number of distinct values for finding codes."""
_MOST = 4
"""Greatest number of codes at one end of a column: refused, unknown, not asked, missing."""
_GAP = 5
"""Least distance of a frequent code from all other values, in median steps between values."""
_CLUSTER = 5
"""Least number of distinct values of each of two clusters."""
_APART = 2.0
"""Least ratio of the least value of one cluster to the greatest of the other."""
_OFTEN = 3
"""Number of records from which a code is frequent."""


@dataclass(frozen=True, kw_only=True)
class Code:
    """A value that may stand for missing ones."""

    value: float
    count: int
    low: float
    """Least of all other values."""
    high: float
    sure: bool
    """Whether it can hardly be a real value."""

    @property
    def written(self) -> str:
        """The value with all its digits, as a setting must name it."""
        return str(int(self.value)) if self.value == int(self.value) and abs(self.value) < 1e15 else repr(self.value)


def describe_codes(codes: Sequence[Code]) -> str:
    """Returns a phrase with the codes, their numbers of records, and the range of the other values.

    Args:
        codes: of one column, at least one.

    Returns:
        The phrase.
    """
    counted = " and ".join(f"{code.written} in {code.count} records" for code in codes)
    low, high = codes[0].low, codes[0].high
    return f"holds {counted}, and otherwise {f'{low:g} to {high:g}' if low < high else f'{low:g}'}"


def refuse_sentinels(name: str, numbers: np.ndarray, *, where: str, allowed: bool) -> tuple[str, ...]:
    """Raises if a code of missing values is certain; returns warnings if one is possible.

    There is also a warning if zeros may be missing values.

    Args:
        name: of the column.
        numbers: (n,) its values, NaN or infinite where missing.
        where: the file, for errors.
        allowed: whether the column's codes of missing values were named; then nothing is checked.

    Returns:
        The warnings.

    Raises:
        DataError: a code such as -9, -99 or 999 is far from all other values.
    """
    if allowed:
        return ()
    codes = codes_among(numbers)
    if not codes:
        return _zeros(name, numbers)
    named = f"kinds: {{{name}: {{missing: [{', '.join(code.written for code in codes)}]}}}}"
    fix = f"if that stands for a missing value, say {named}, if it is a value, kinds: {{{name}: {{missing: []}}}}"
    if any(code.sure for code in codes):
        raise DataError(
            f"{where}, column {name!r} {describe_codes(codes)}; {fix}",
            setting="missing",
            given=codes[0].value if len(codes) == 1 else [code.value for code in codes],
            allowed=named,
        )
    return (f"{name} {describe_codes(codes)}: {fix}",)


def in_two_units(name: str, numbers: np.ndarray) -> tuple[str, ...]:
    """Returns a warning if the values form two clusters that are farther apart than either is wide, as in two units.

    Examples are 0.8 to 1 and 80 to 100, or 36 to 40 and 97 to 104 degrees. Distances are ratios of positive numbers.

    Args:
        name: of the column.
        numbers: (n,) its values.

    Returns:
        The warning, or nothing.
    """
    distinct, counts = np.unique(numbers[np.isfinite(numbers)], return_counts=True)
    if len(distinct) < 2 * _CLUSTER or distinct[0] <= 0:
        return ()
    ratios = distinct[1:] / distinct[:-1]
    place = int(ratios.argmax()) + 1
    if min(place, len(distinct) - place) < _CLUSTER or ratios[place - 1] < _APART:
        return ()
    low, high = distinct[:place], distinct[place:]
    if max(low[-1] / low[0], high[-1] / high[0]) > ratios[place - 1]:
        return ()
    return (
        f"{name} is {low[0]:g} to {low[-1]:g} in {counts[:place].sum()} records and {high[0]:g} to {high[-1]:g} in "
        f"{counts[place:].sum()}, and nothing between: if these are two units, write all values in one",
    )


def _zeros(name: str, numbers: np.ndarray) -> tuple[str, ...]:
    """Returns a warning if zeros are far below all other values."""
    distinct, counts = np.unique(numbers[np.isfinite(numbers)], return_counts=True)
    if len(distinct) < 10 or distinct[0] != 0 or np.diff(distinct)[0] < 5 * np.median(np.diff(distinct)[1:]):
        return ()
    return (
        f"{name} is 0 in {counts[0]} records and otherwise {distinct[1]:g} or more: if 0 stands for a missing "
        f"value, say kinds: {{{name}: {{missing: [0]}}}}",
    )


def codes_among(numbers: np.ndarray) -> tuple[Code, ...]:
    """Returns the values of a column that look like codes and are far from all others.

    At either end of the column these are: repeated nines, eights and sevens, and single negative numbers, if they are
    farther from the others than these are from each other, or are frequent and follow a gap; and any number that recurs
    at three times that distance, or is at a hundred times that distance. Between other values: such a code if it is
    five times as frequent as any of them. Of two values: the one of nines.

    Args:
        numbers: (n,) with NaN or infinity where they are missing.

    Returns:
        The codes, in increasing order.
    """
    distinct, counts = np.unique(numbers[np.isfinite(numbers)], return_counts=True)
    if len(distinct) < _FEWEST:
        return _one_of_two(distinct, counts)
    first, last = _core(distinct)
    first, last = _joined(distinct, counts, first, last)
    first, last = _without_far(distinct, counts, first, last)
    within = distinct[first : last + 1]
    if len(within) < 2:
        return ()
    ends = {*range(first), *range(last + 1, len(distinct))}
    places = sorted(ends.union(_spike(distinct, counts)))
    low, high = float(within[0]), float(within[-1])
    return tuple(
        Code(
            value=float(distinct[place]),
            count=int(counts[place]),
            low=low,
            high=high,
            sure=_sure(float(distinct[place]), low, high),
        )
        for place in places
    )


def _one_of_two(distinct: np.ndarray, counts: np.ndarray) -> tuple[Code, ...]:
    """Returns a code of nines if there is one other value, which may then be the only real one."""
    nines = [place for place in range(len(distinct)) if set(_digits(distinct[place])) <= {"9", "."}]
    if len(distinct) != 2 or len(nines) != 1:
        return ()
    (place,) = nines
    other = float(distinct[1 - place])
    return (Code(value=float(distinct[place]), count=int(counts[place]), low=other, high=other, sure=False),)


def _digits(value: float) -> str:
    """Returns a number as text, without its sign."""
    size = abs(value)
    return str(int(size)) if size == int(size) and size < 1e15 else f"{size:.6g}"


def _like_a_code(value: float) -> bool:
    """Returns whether a number is spelled like a code; negative whole numbers of one digit are, too."""
    return _REPEATED.fullmatch(_digits(value)) is not None or (-9 <= value <= -1 and value == int(value))


def _core(distinct: np.ndarray) -> tuple[int, int]:
    """Returns the positions of the first and the last value between possible codes at both ends."""
    first, last = 0, len(distinct) - 1
    while first < _MOST and last - first > 1 and distinct[first] < 0 and _like_a_code(distinct[first]):
        first += 1
    end = last
    while end - last < _MOST and last - first > 1 and _like_a_code(distinct[last]):
        last -= 1
    return first, last


def _joined(distinct: np.ndarray, counts: np.ndarray, first: int, last: int) -> tuple[int, int]:
    """Returns the core, extended by those possible codes beside it that are not far from it."""
    while last + 1 < len(distinct) and not _apart(distinct, counts, first, last, last + 1):
        last += 1
    while first > 0 and not _apart(distinct, counts, first, last, first - 1):
        first -= 1
    return first, last


def _apart(distinct: np.ndarray, counts: np.ndarray, first: int, last: int, place: int) -> bool:
    """Returns whether a possible code is far from the values of the core."""
    core, value, count = distinct[first : last + 1], distinct[place], counts[place]
    gap = core[0] - value if place < first else value - core[-1]
    step = float(np.median(np.diff(core)))
    if value < 0 <= core[0] and (gap > 2 * step or place == 0):
        # A single negative number is a code even next to 0; of several, those next to 0 may be real values.
        return gap > 2 * step or first == 1
    if gap > core[-1] - core[0]:
        # A single 7, 8 or 9 may be a real count; a 9 beside two or three categories is not.
        return bool(count > 1 or abs(value) >= 10 or (abs(value) == 9 and len(core) <= 3))
    near = counts[max(first, last - 1) : last + 1] if place > last else counts[first : min(first + 2, last + 1)]
    usual = float(np.median(counts[first : last + 1]))
    return bool(count >= _OFTEN and count > 2 * usual and count > near.max() and gap >= _GAP * step)


def _without_far(distinct: np.ndarray, counts: np.ndarray, first: int, last: int) -> tuple[int, int]:
    """Returns the core without numbers at its ends that are far from all others, whatever their spelling."""
    for _ in range(_MOST):
        if last - first < _FEWEST:
            return first, last
        # Both ends are left out: two far values, one on either side, would hide each other.
        inner = distinct[first + 1 : last]
        spread = float(inner[-1] - inner[0]) or float(np.ptp(distinct[first:last]))
        recurring = 3.0 if last - first >= 10 else np.inf
        over, under = distinct[last] - inner[-1], inner[0] - distinct[first]
        if over > (recurring if counts[last] > 1 else np.inf) * spread or over > 100 * spread:
            last -= 1
        elif under > (recurring if counts[first] > 1 else np.inf) * spread or under > 100 * spread:
            first += 1
        else:
            return first, last
    return first, last


def _spike(distinct: np.ndarray, counts: np.ndarray) -> tuple[int, ...]:
    """Returns the position of a code that is far more frequent than any other value, if there is one."""
    place = int(counts.argmax())
    value, others = float(distinct[place]), np.delete(counts, place)
    if len(distinct) < 10 or counts[place] < max(5, 5 * others.max()):
        return ()
    return (place,) if abs(value) >= 10 and _REPEATED.fullmatch(_digits(value)) else ()


def _sure(value: float, low: float, high: float) -> bool:
    """Returns whether a code is certain: a negative one among non-negative values, or one far above all."""
    digits = _digits(value)
    if low < 0 or _REPEATED.fullmatch(digits) is None:
        return False
    if value < 0:
        return len(digits) > 1 or digits == "9"
    return len(digits) > 2 and value > 2 * high and value - high > 3 * (high - low)
