"""Features that are the label under another name, or that tell it almost without error."""

from collections.abc import Sequence

import numpy as np

from assay.errors import DataError

_FEWEST = 20
"""Records below which a feature may equal the label by chance."""
_EACH = 10
"""Records that each class needs before how well one feature tells it is judged."""
_NEARLY = 0.99
"""Area under the ROC curve of a single feature from which on it is warned of."""
_MOST = 5_000
"""Records, evenly spread, by which a single feature is judged at most."""
_NAMED = 6


def refuse_label_copies(
    columns: Sequence[tuple[str, np.ndarray]], labels: Sequence[np.ndarray], *, where: str
) -> tuple[str, ...]:
    """Raises DataError where a feature is the label; returns a warning for each that alone predicts it almost always.

    Args:
        columns: name and values, (n,), of each feature: numbers or positions of categories, NaN where missing.
        labels: (n,) the classes as they are used, then as they were before values were joined to classes.

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
    """Whether values and labels go with each other one to one; a missing value is one more."""
    kinds = len(np.unique(label))
    if len(np.unique(values[:1000])) > kinds:  # a quick look at most features
        return False
    found, place = np.unique(values, return_inverse=True)
    return len(found) == kinds == len(np.unique(np.stack([place, label], 1), axis=0))


def _tells(values: np.ndarray, y: np.ndarray) -> bool:
    """Whether values, or that they are missing, tell every class from all others almost without error."""
    classes, counts = np.unique(y, return_counts=True)
    if counts.min() < _EACH:
        return False
    gone = ~np.isfinite(values)
    if len(classes) == 2:
        positive = y == classes[1]
        known = positive[~gone]
        several = min(known.sum(), (~known).sum()) >= _EACH
        return (gone.any() and _apart(gone.astype(float), positive)) or (bool(several) and _apart(values[~gone], known))
    found, place = np.unique(values, return_inverse=True)
    if len(found) > len(y) / _EACH:
        return False
    table = np.zeros((len(found), len(classes)), int)
    np.add.at(table, (place, np.searchsorted(classes, y)), 1)
    # By value the class that is most frequent there: right for all but one in a hundred records of each class.
    right = np.zeros(len(classes))
    np.add.at(right, table.argmax(1), table.max(1))
    return bool((right >= _NEARLY * counts).all())


def _apart(values: np.ndarray, positive: np.ndarray) -> bool:
    """Whether values of two classes lie apart, whichever are greater; positions of categories by their class too."""
    found, place = np.unique(values, return_inverse=True)
    both = np.stack([np.bincount(place, ~positive), np.bincount(place, positive)])
    if len(found) <= len(values) / _EACH:
        # Few values, as of categories, have no order: each counts for how often it goes with the class.
        both = both[:, np.argsort(both[1] / both.sum(0), kind="stable")]
    negatives, positives = both
    below = np.cumsum(negatives) - negatives
    area = float((positives * (below + negatives / 2)).sum() / (positives.sum() * negatives.sum()))
    return max(area, 1 - area) >= _NEARLY
