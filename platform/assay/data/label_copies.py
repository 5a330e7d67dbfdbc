"""Features that are the label under another name, or that predict it almost without error."""

from collections.abc import Sequence

import numpy as np

from assay.errors import DataError

_FEWEST = 20
"""Least number of records; with fewer, a feature may equal the label by chance."""
_EACH = 10
"""Least number of records of each class for judging how well one feature predicts it."""
_NEARLY = 0.99
"""Area under the ROC curve of a single feature from which a warning is given."""
_MOST = 5_000
"""Greatest number of records, evenly spread, on which a single feature is judged."""
_NAMED = 6


def refuse_label_copies(
    columns: Sequence[tuple[str, np.ndarray]], labels: Sequence[np.ndarray], *, where: str
) -> tuple[str, ...]:
    """Raises if a feature is the label; returns a warning for features that alone predict it almost without error.

    Args:
        columns: name and values, (n,), of each feature: numbers or positions of categories, NaN where missing.
        labels: (n,) the classes as they are used, then as they were before values were joined to classes.
        where: the data, for errors.

    Returns:
        The warning, or nothing.

    Raises:
        DataError: a feature is the label, with its values renamed one to one.
    """
    y = labels[0]
    if len(y) < _FEWEST:
        return ()
    for name, values in columns:
        if any(_renamed(values, label) for label in labels):
            raise DataError(
                f"{where}: feature {name!r} is a copy of the label: each of its values goes with one class and each "
                f"class with one value, in all {len(y)} records; leave it out with drop: [{name}], or keep it as a "
                f"feature with features: [{name}] if it is known before the label is",
                setting="drop",
                given=name,
                allowed=f"drop: [{name}] or features: [{name}]",
            )
    rows = np.linspace(0, len(y) - 1, min(len(y), _MOST)).astype(int)
    telling = [name for name, values in columns if _tells(values[rows], y[rows])]
    if not telling:
        return ()
    named = ", ".join(telling[:_NAMED]) + (f" and {len(telling) - _NAMED} more" if len(telling) > _NAMED else "")
    return (
        f"{named}: each alone tells the classes almost without error (area under the ROC curve {_NEARLY:g} or more); "
        f"leave out what is only known after the label (drop: [{telling[0]}])",
    )


def _renamed(values: np.ndarray, label: np.ndarray) -> bool:
    """Returns whether values and labels correspond one to one; a missing value counts as one more value."""
    kinds = len(np.unique(label))
    if len(np.unique(values[:1000])) > kinds:  # a cheap test first, which excludes most features
        return False
    distinct, place = np.unique(values, return_inverse=True)
    return len(distinct) == kinds == len(np.unique(np.stack([place, label], 1), axis=0))


def _tells(values: np.ndarray, y: np.ndarray) -> bool:
    """Returns whether values, or missing values, separate every class from all others almost without error."""
    classes, counts = np.unique(y, return_counts=True)
    if counts.min() < _EACH:
        return False
    missing = ~np.isfinite(values)
    if len(classes) == 2:
        positive = y == classes[1]
        positive_present = positive[~missing]
        several = min(positive_present.sum(), (~positive_present).sum()) >= _EACH
        return (missing.any() and _apart(missing.astype(float), positive)) or (
            bool(several) and _apart(values[~missing], positive_present)
        )
    distinct, place = np.unique(values, return_inverse=True)
    if len(distinct) > len(y) / _EACH:
        return False
    table = np.zeros((len(distinct), len(classes)), int)
    np.add.at(table, (place, np.searchsorted(classes, y)), 1)
    # Predicts the most frequent class at each value; must be right for 99 of 100 records of each class.
    right = np.zeros(len(classes))
    np.add.at(right, table.argmax(1), table.max(1))
    return bool((right >= _NEARLY * counts).all())


def _apart(values: np.ndarray, positive: np.ndarray) -> bool:
    """Returns whether the values of two classes are separated, in either direction."""
    distinct, place = np.unique(values, return_inverse=True)
    both = np.stack([np.bincount(place, ~positive), np.bincount(place, positive)])
    if len(distinct) <= len(values) / _EACH:
        # Few distinct values may be categories without an order: they are sorted by the frequency of the class.
        both = both[:, np.argsort(both[1] / both.sum(0), kind="stable")]
    negatives, positives = both
    below = np.cumsum(negatives) - negatives
    area = float((positives * (below + negatives / 2)).sum() / (positives.sum() * negatives.sum()))
    return max(area, 1 - area) >= _NEARLY
