"""Features that may be identifiers of records or patients instead of measurements, recognised by their values."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import poisson

from assay.data.identifiers import may_name_patients, names_records
from assay.errors import DataError

_FEWEST = 20
"""Least number of values for conclusions from their repetitions."""
_DISTINCT = 0.95
"""Fraction of distinct values from which nearly all count as distinct."""
_REPEATING = 0.1
"""Least fraction of records with a repeated value for comparing their labels."""
_PAIRS = 7
"""Least expected number of equal pairs for a test of their number."""
_MORE, _Z = 0.15, 5.0
"""Least excess of label agreement within values over that between neighbours, and its z-score, for a warning."""
_SPAN = 1e6
"""Range from which evenly spread whole numbers have more digits than measurements have."""


@dataclass(frozen=True, kw_only=True)
class Suspicion:
    """Reason why a feature may identify records or patients instead of being a measurement."""

    verdict: Literal["refuse", "warn"]
    why: str


def suspicion(values: np.ndarray, y: np.ndarray, *, grouped: bool, text: bool = False) -> Suspicion | None:
    """Returns the reason why a feature looks like an identifier; None if it does not.

    Suspect are whole numbers, or words, that hardly ever repeat; and those that repeat while the label is the same for
    all records of a value, unless the label changes along their order as slowly as for a measurement. Whole numbers
    that hardly repeat are refused where they are consecutive (in the order of the file by equal steps, or without
    gaps), where fewer are equal than expected by chance, or where they are spread evenly over millions. They are
    accepted where as many are equal as expected by chance, and lead to a warning where there are too few to decide; see
    ``_hardly_repeating``. Whatever the labels are, values that each fill one block of the file are refused or lead to a
    warning; see ``_blocks``. So do values whose labels agree mostly within one value but not with neighbouring values;
    see ``_agreement``.

    Args:
        values: (n,) numbers, or positions of words among those that occur; NaN where missing.
        y: (n,) labels.
        grouped: whether patients are known already, so that no patient has records on both sides of a split.
        text: whether the values stand for words.

    Returns:
        The reason, and whether it leads to an error or a warning.
    """
    here = np.isfinite(values)
    v, labels = values[here], y[here]
    if len(v) < _FEWEST or (not text and bool((v != np.trunc(v)).any())):
        return None
    distinct, inverse, counts = np.unique(v, return_inverse=True, return_counts=True)
    if len(distinct) >= _DISTINCT * len(v):
        why = f"{len(distinct)} of its {len(v)} values are distinct"
        verdict = "refuse" if text else _hardly_repeating(v, distinct)
        return None if verdict is None else Suspicion(verdict=verdict, why=why)
    if not grouped and _label_by_value(v, labels, inverse, counts):
        why = f"its {len(distinct)} values repeat, and wherever one repeats the label is the same"
        return Suspicion(verdict="refuse", why=why)
    return None if grouped else _blocks(v, counts) or _agreement(labels, inverse, counts)


def _are_dates(values: np.ndarray) -> bool:
    """Returns whether all values are dates of 1900 to 2099 as whole numbers: 20210131 or, if many differ, 202101."""
    distinct = np.unique(values[np.isfinite(values)])
    for least, most, shift, fewest in ((19000101, 20991231, 100, 5), (190001, 209912, 1, 10)):
        if len(distinct) >= fewest and distinct[0] >= least and distinct[-1] <= most:
            month, day = distinct // shift % 100, distinct % shift if shift > 1 else np.ones(len(distinct))
            whole = (distinct == np.trunc(distinct)) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
            return bool(whole.all())
    return False


def _refuse_dates(name: str, values: np.ndarray, where: str) -> None:
    """Raises if all numbers are dates."""
    if _are_dates(values):
        raise DataError(
            f"{where}: feature {name!r} holds dates that are written as numbers ({np.nanmin(values):.0f} to "
            f"{np.nanmax(values):.0f}), which lie unevenly: the last day of a month is far from the next; write "
            f"days since a fixed one, or the age, leave it out with drop: [{name}], or keep it as it is with "
            f"features: [{name}]",
            setting="features",
            given=name,
            allowed=f"drop: [{name}] or features: [{name}]",
        )


def _blocks(v: np.ndarray, counts: np.ndarray) -> Suspicion | None:
    """Returns a suspicion if ten or more values each fill one block of consecutive rows.

    Sorting the file by a measurement does that too, but leaves values in order and blocks of unequal lengths.
    Unordered blocks are refused if (four in five of) their lengths are equal, and lead to a warning otherwise. Ordered
    blocks are examined only if equal: 20 or more consecutive whole numbers are refused, others lead to a warning, since
    doses and times of a planned experiment look the same.
    """
    steps = v[1:][np.diff(v) != 0] - v[:-1][np.diff(v) != 0]
    if len(counts) < 10 or len(steps) + 1 != len(counts) or np.median(counts) < 2:
        return None
    lengths, times = np.unique(counts, return_counts=True)
    equal = bool(lengths[times.argmax()] >= 2 and times.max() >= 0.8 * len(counts))
    ordered = bool((steps > 0).all() or (steps < 0).all())
    if ordered and not equal:
        return None
    size = f"{int(lengths[times.argmax()])} rows each" if equal else "rows that follow each other"
    why = f"its {len(counts)} values fill one stretch of the file each, {size}"
    numbered = ordered and len(counts) >= 20 and bool((np.abs(steps) == 1).all())
    return Suspicion(verdict="refuse" if numbered or (equal and not ordered) else "warn", why=why)


def _agreement(labels: np.ndarray, inverse: np.ndarray, counts: np.ndarray) -> Suspicion | None:
    """Returns a warning if records of one value have the same label far more often than those of neighbouring values.

    The label of a measurement changes slowly along its values; that of a patient's number changes from one to the next.
    Codes of categories look the same, so this is never refused.
    """
    _, label = np.unique(labels, return_inverse=True)
    table = np.zeros((len(counts), label.max() + 1))
    np.add.at(table, (inverse, label), 1)
    shares, several = table / counts[:, None], counts >= 2
    several[[0, -1]] = False  # no neighbours on both sides
    if several.sum() < 10 or counts[several].sum() < _REPEATING * len(labels):
        return None
    beside = (shares[:-2] + shares[2:])[several[1:-1]] / 2
    counts_by_label, n = table[several], counts[several, None]
    same = (counts_by_label * (counts_by_label - 1) / (n * (n - 1))).sum(1)
    across = (counts_by_label / n * beside).sum(1)
    more = same - across
    z = more.mean() / max(float(more.std(ddof=1)), 1e-9) * np.sqrt(len(more))
    if more.mean() < _MORE or z < _Z:
        return None
    why = (
        f"two records of one value have the same label in {same.mean():.0%}, and of neighbouring values in "
        f"{across.mean():.0%}"
    )
    return Suspicion(verdict="warn", why=why)


def _hardly_repeating(v: np.ndarray, distinct: np.ndarray) -> Literal["refuse", "warn"] | None:
    """Returns the verdict on whole numbers that hardly ever repeat.

    Numbers of records are drawn without replacement: two equal ones are rarer than two that differ by one or a few.
    Values of a measurement repeat as often as their neighbours occur, because the records are independent.
    """
    steps, span = np.diff(v), distinct[-1] - distinct[0]
    in_order = bool((steps > 0).all()) or bool((steps < 0).all())
    _, times = np.unique(steps, return_counts=True)
    if (in_order and times.max() >= 0.5 * len(steps)) or span + 1 <= 1.5 * len(distinct):
        return "refuse"
    equal, expected = _equal_pairs(np.sort(v))
    if expected >= _PAIRS:
        # Poisson probability of so few pairs; with 7 expected and none found it is 1 in 1,000.
        few = poisson.cdf(equal, expected) < 1e-3
        return "refuse" if few else "warn" if equal < expected / 2 else None
    return "refuse" if span >= _SPAN and _evenly_spread(distinct, span) else "warn"


def _equal_pairs(ordered: np.ndarray) -> tuple[int, float]:
    """Returns the number of equal pairs, and its expectation if values repeated as often as their neighbours occur."""
    width = max(1, int((ordered[-1] - ordered[0]) / 20))
    first = np.searchsorted(ordered, ordered, "right")
    last = np.searchsorted(ordered, ordered + width, "right")
    equal = int((first - np.arange(len(ordered)) - 1).sum())
    # Values at distances from 1 to the width occur on both sides, so there are twice as many distances as pairs.
    return equal, float((last - first).sum()) / (2 * width)


def _evenly_spread(distinct: np.ndarray, span: float) -> bool:
    """Returns whether the Kolmogorov-Smirnov distance from a uniform distribution is below the 5 % limit."""
    place = (distinct - distinct[0]) / span
    rank = np.arange(1, len(distinct) + 1) / len(distinct)
    distance = max(np.abs(rank - place).max(), np.abs(rank - 1 / len(distinct) - place).max())
    return len(distinct) >= 50 and bool(distance * np.sqrt(len(distinct)) < 1.36)


def _label_by_value(v: np.ndarray, labels: np.ndarray, inverse: np.ndarray, counts: np.ndarray) -> bool:
    """Returns whether labels are constant within repeated values, more often than chance and order explain."""
    _, label = np.unique(labels, return_inverse=True)
    table = np.zeros((len(counts), label.max() + 1), int)
    np.add.at(table, (inverse, label), 1)
    repeated = counts >= 2
    share = counts[repeated].sum() / len(v)
    if repeated.sum() < 10 or share < _REPEATING:
        return False
    pure = table[repeated].max(1) == counts[repeated]
    shares = np.bincount(label) / len(label)
    mixed_by_chance = float((1 - (shares ** counts[repeated][:, None]).sum(1)).sum())
    # With random labels, the probability that (nearly) no value has two of them is about e^-7.
    if pure.mean() < 0.98 or mixed_by_chance < 7:
        return False
    along = table[repeated].argmax(1)
    label_shares = np.bincount(along, minlength=len(shares)) / len(along)
    changes, expected = int((np.diff(along) != 0).sum()), (len(along) - 1) * (1 - float((label_shares**2).sum()))
    runs = 1 + int((np.diff(v) != 0).sum())
    in_blocks = runs <= 1.05 * len(counts)
    ordered = bool((np.diff(v) >= 0).all()) or bool((np.diff(v) <= 0).all())
    # A file that is sorted by a measurement has blocks, too, but few of its values repeat.
    blocks = share >= 0.5 and in_blocks and (ordered or counts.min() == counts.max())
    return changes >= 0.5 * expected or blocks


def refuse_identifiers(
    columns: Sequence[tuple[str, np.ndarray, bool]],
    y: np.ndarray,
    *,
    grouped: bool,
    where: str,
    insisted: Collection[str] = (),
) -> tuple[str, ...]:
    """Raises if a feature is an identifier or a date; returns a warning for each feature that may be one.

    Args:
        columns: name and values of each feature, and whether they stand for words; see ``suspicion``.
        y: (n,) labels.
        grouped: whether patients are known already.
        where: the data, for errors.
        insisted: features that are not examined.

    Returns:
        The warnings.

    Raises:
        DataError: a feature looks like an identifier, or holds dates as numbers; names the settings that resolve it.
    """
    warned = []
    for name, values, text in columns:
        if name in insisted:
            continue
        if not text:
            _refuse_dates(name, values, where)
        reason = suspicion(values, y, grouped=grouped, text=text)
        if names_records(name):
            reason = Suspicion(verdict="refuse", why="its name is that of a number of records")
        elif may_name_patients(name) and not grouped and len(np.unique(values[np.isfinite(values)])) > 2:
            reason = Suspicion(verdict="refuse", why="its name may be that of patients")
        if reason is None:
            continue
        remedy = (
            f"leave it out with drop: [{name}], name the patients by it with group: {name}, or keep it as a feature "
            f"with features: [{name}]"
        )
        if reason.verdict == "refuse":
            raise DataError(
                f"{where}: feature {name!r} looks like an identifier: {reason.why}; {remedy}",
                setting="features",
                given=name,
                allowed=f"drop: [{name}], group: {name} or features: [{name}]",
            )
        warned.append(f"feature {name!r} may be an identifier: {reason.why}; if it is none, say features: [{name}]")
    return tuple(warned)
