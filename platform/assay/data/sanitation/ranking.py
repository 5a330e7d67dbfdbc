"""Which records a defence keeps when it has a score of suspicion for each."""

import numpy as np


def without_greatest(scores: np.ndarray, y: np.ndarray, share: float) -> np.ndarray:
    """(n,) bool: all records but that share of each class with the greatest scores.

    By class, because a rare class is the harder to learn, and one threshold for all would drop it whole.

    Args:
        scores: (n,) suspicion.
        y: (n,) labels as they are given.
        share: of the records of a class; rounded down.
    """
    kept = np.ones(len(y), bool)
    for label in np.unique(y):
        own = np.flatnonzero(y == label)
        worst = np.argsort(-scores[own], kind="stable")[: int(share * len(own))]
        kept[own[worst]] = False
    return kept
