"""Numbers that may stand for a missing value: 999, -9, 77 beside 99, or 1e20 among a few units."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assay.errors import DataError

_REPEATED = re.compile(r"7{1,9}|8{1,9}|9{1,9}|9{1,8}[678]|7+\.7+|8+\.8+|9+\.9+|9{3,}\.25")
"""How codes of missing values are written, without their sign: 9, 77, 998, 99.9, 999.25."""
_FEWEST = 3
"""Values of a column below which nothing stands apart."""
_MOST = 4
"""Codes at one end of a column: refused, unknown, not asked, missing."""
_GAP = 5
"""Usual steps between values that lie between a frequent code and all others."""
_CLUSTER = 5
"""Different values that each of two clusters needs."""
_APART = 2.0
"""How many times the greatest of one the least of the other must be."""
_OFTEN = 3
"""Records from which on a code is frequent."""


@dataclass(frozen=True, kw_only=True)
class Code:
    """A value that may stand for a missing one."""

    value: float
    count: int
    low: float
    """Least of all values that are no such code."""
    high: float
    sure: bool
    """Whether it can hardly be a value."""

    @property
    def written(self) -> str:
        """The value in all its digits, as a setting that names it must have it."""
        return str(int(self.value)) if self.value == int(self.value) and abs(self.value) < 1e15 else repr(self.value)


def describe_codes(codes: Sequence[Code]) -> str:
    """Which codes there are, how often, and what the other values are."""
    counted = " and ".join(f"{code.written} in {code.count} records" for code in codes)
    low, high = codes[0].low, codes[0].high
    return f"holds {counted}, and otherwise {f'{low:g} to {high:g}' if low < high else f'{low:g}'}"


def refuse_sentinels(name: str, numbers: np.ndarray, *, where: str, allowed: bool) -> tuple[str, ...]:
    """Raises DataError where a code of missing values stands out; returns warnings where one may, or where zeros do.

    Args:
        allowed: whether the column's codes of missing values were named: then what is left is a value.

    Raises:
        DataError: a code such as -9, -99 or 999 stands far from all other values.
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
    """A warning where values lie in two clusters that are farther apart than either is wide, as of two units.

    Such are 0.8 to 1 and 80 to 100, or 36 to 40 and 97 to 104 degrees. Distances are ratios of positive numbers.
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
    """A warning where zeros stand far below all other values."""
    distinct, counts = np.unique(numbers[np.isfinite(numbers)], return_counts=True)
    if len(distinct) < 10 or distinct[0] != 0 or np.diff(distinct)[0] < 5 * np.median(np.diff(distinct)[1:]):
        return ()
    return (
        f"{name} is 0 in {counts[0]} records and otherwise {distinct[1]:g} or more: if 0 stands for a missing "
        f"value, say kinds: {{{name}: {{missing: [0]}}}}",
    )


def codes_among(numbers: np.ndarray) -> tuple[Code, ...]:
    """Values of a column that look like codes and stand apart from all others.

    At either end of the column: repeated nines, eights and sevens, and single negative numbers, that are farther from
    the others than these from each other, or that occur often behind an empty stretch; any number that recurs at three
    times that distance, or lies at a hundred times that distance. Between other values: such a code where it occurs
    five times as often as any of them. Of two values: the one of nines.

    Args:
        numbers: (n,) with NaN or infinity where they are missing.
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
    """A code of nines beside one other value, which may then be all that was recorded."""
    nines = [place for place in range(len(distinct)) if set(_digits(distinct[place])) <= {"9", "."}]
    if len(distinct) != 2 or len(nines) != 1:
        return ()
    (place,) = nines
    other = float(distinct[1 - place])
    return (Code(value=float(distinct[place]), count=int(counts[place]), low=other, high=other, sure=False),)


def _digits(value: float) -> str:
    """A number without its sign, as it is written."""
    size = abs(value)
    return str(int(size)) if size == int(size) and size < 1e15 else f"{size:.6g}"


def _like_a_code(value: float) -> bool:
    """Whether a number is written as codes are: any negative whole number of one digit is, too."""
    return _REPEATED.fullmatch(_digits(value)) is not None or (-9 <= value <= -1 and value == int(value))


def _core(distinct: np.ndarray) -> tuple[int, int]:
    """The first and the last value between what is written as codes are at both ends; two are left at least."""
    first, last = 0, len(distinct) - 1
    while first < _MOST and last - first > 1 and distinct[first] < 0 and _like_a_code(distinct[first]):
        first += 1
    end = last
    while end - last < _MOST and last - first > 1 and _like_a_code(distinct[last]):
        last -= 1
    return first, last


def _joined(distinct: np.ndarray, counts: np.ndarray, first: int, last: int) -> tuple[int, int]:
    """The core with those of the codes beside it that do not stand apart from it."""
    while last + 1 < len(distinct) and not _apart(distinct, counts, first, last, last + 1):
        last += 1
    while first > 0 and not _apart(distinct, counts, first, last, first - 1):
        first -= 1
    return first, last


def _apart(distinct: np.ndarray, counts: np.ndarray, first: int, last: int, place: int) -> bool:
    """Whether a value that is written as codes are stands apart from those of the core."""
    core, value, count = distinct[first : last + 1], distinct[place], counts[place]
    gap = core[0] - value if place < first else value - core[-1]
    step = float(np.median(np.diff(core)))
    if value < 0 <= core[0] and (gap > 2 * step or place == 0):
        # The only negative number stands apart even beside 0; of several the next to 0 may be values.
        return gap > 2 * step or first == 1
    if gap > core[-1] - core[0]:
        # Of counts, a single 7, 8 or 9 is a value; beside two or three categories a 9 is none.
        return bool(count > 1 or abs(value) >= 10 or (abs(value) == 9 and len(core) <= 3))
    near = counts[max(first, last - 1) : last + 1] if place > last else counts[first : min(first + 2, last + 1)]
    usual = float(np.median(counts[first : last + 1]))
    return bool(count >= _OFTEN and count > 2 * usual and count > near.max() and gap >= _GAP * step)


def _without_far(distinct: np.ndarray, counts: np.ndarray, first: int, last: int) -> tuple[int, int]:
    """The core without numbers at its ends that are far from all others, however they are written."""
    for _ in range(_MOST):
        if last - first < _FEWEST:
            return first, last
        # Without both ends: two that are far, on either side, would hide each other.
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
    """The place of a code of two digits and more that occurs far more often than any other value, if there is one."""
    place = int(counts.argmax())
    value, others = float(distinct[place]), np.delete(counts, place)
    if len(distinct) < 10 or counts[place] < max(5, 5 * others.max()):
        return ()
    return (place,) if abs(value) >= 10 and _REPEATED.fullmatch(_digits(value)) else ()


def _sure(value: float, low: float, high: float) -> bool:
    """Whether a code can be nothing else: a negative one among values that are none, or one far above all."""
    digits = _digits(value)
    if low < 0 or _REPEATED.fullmatch(digits) is None:
        return False
    if value < 0:
        return len(digits) > 1 or digits == "9"
    return len(digits) > 2 and value > 2 * high and value - high > 3 * (high - low)
