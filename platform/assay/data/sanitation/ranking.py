"""Selection of the records that a defence keeps, by a suspicion score."""

import numpy as np


def without_greatest(scores: np.ndarray, y: np.ndarray, share: float) -> np.ndarray:
    """Returns a mask of all records except a fraction of each class with the greatest scores.

    The fraction is removed class by class: a rare class is harder to learn, and one threshold could remove all of it.

    Args:
        scores: (n,) suspicion.
        y: (n,) labels as given.
        share: fraction of the records of a class that is removed; rounded down.

    Returns:
        (n,) bool: the records that stay.
    """
    kept = np.ones(len(y), bool)
    for label in np.unique(y):
        members = np.flatnonzero(y == label)
        worst = np.argsort(-scores[members], kind="stable")[: int(share * len(members))]
        kept[members[worst]] = False
    return kept
