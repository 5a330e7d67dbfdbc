"""What counts as one in an interval: exact copies of a record, and the records of a patient."""

import numpy as np

from assay.data.base import Dataset

_CONTINUOUS = 0.9
"""A feature with so many distinct values a distinct record is taken as measured on a continuous scale."""


def copies(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """(len(rows),) a number for each record from 0, in order of appearance, equal for exact copies of one another.

    Of a table whose features take few values, equal records are expected of different people and are no copies: where
    by the number of combinations that occur in each feature two of so many records meet by chance (the birthday
    bound), and no feature looks continuous, each record stays its own.
    """
    _, first, number = np.unique(dataset.fingerprints.of(rows), return_index=True, return_inverse=True)
    if len(first) == len(rows) or (
        dataset.modality == "tabular" and _meet_by_chance(dataset.x[rows[first]], len(rows))
    ):
        return np.arange(len(rows))
    # Numbered as they first appear, so that without copies record i has number i.
    return np.argsort(np.argsort(first))[number]


def clusters(dataset: Dataset, rows: np.ndarray) -> np.ndarray | None:
    """(len(rows),) what is drawn as one in an interval: a patient with all its records, a record with its copies.

    Patients who share a copy are one cluster. None where every record stands for itself.
    """
    number = copies(dataset, rows)
    alone = len(np.unique(number)) == len(rows)
    if dataset.groups is None:
        return None if alone else number
    _, patient = np.unique(dataset.groups[rows], return_inverse=True)
    return dataset.groups[rows] if alone else _joined(patient, number)


def copied(dataset: Dataset, rows: np.ndarray) -> int:
    """How many of the records are exact copies of another of them, the first of each left out."""
    return len(rows) - len(np.unique(copies(dataset, rows)))


def _joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(n,) number of the connected component of each record, joined by equal numbers in either."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = int(one.max()) + 1
    edges = coo_array((np.ones(len(one)), (one, size + other)), shape=(size + int(other.max()) + 1,) * 2)
    return connected_components(edges, directed=False)[1][one]


def _meet_by_chance(distinct: np.ndarray, n: int) -> bool:
    """Whether equal records are to be expected among ``n`` of a table.

    Args:
        distinct: (m, features) the different records.
    """
    values = np.array([len(np.unique(column)) for column in distinct.reshape(len(distinct), -1).T])
    if (values >= _CONTINUOUS * len(distinct)).any():
        return False
    return float(np.log(values).sum()) <= 2 * np.log(n) - np.log(2)
