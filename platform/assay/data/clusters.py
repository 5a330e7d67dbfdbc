"""Clusters for confidence intervals: exact copies of a record, and the records of a patient."""

import numpy as np

from assay.data.base import Dataset

_CONTINUOUS = 0.9
"""Ratio of distinct values to distinct records from which a feature is taken to be continuous."""


def copies(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """Returns a number for each record, equal for exact copies.

    In a table whose features take few values, equal records of different people are expected and are not copies. So
    every record of a table keeps its own number if no feature looks continuous and, by the number of combinations of
    the values that occur, two of so many records are equal by chance (the birthday bound).

    Args:
        dataset: the data.
        rows: positions of the records.

    Returns:
        (len(rows),) numbers from 0, in order of appearance.
    """
    _, first, number = np.unique(dataset.fingerprints.of(rows), return_index=True, return_inverse=True)
    if len(first) == len(rows) or (
        dataset.modality == "tabular" and _meet_by_chance(dataset.x[rows[first]], len(rows))
    ):
        return np.arange(len(rows))
    # Numbered by first appearance, so that without copies record i has number i.
    return np.argsort(np.argsort(first))[number]


def clusters(dataset: Dataset, rows: np.ndarray) -> np.ndarray | None:
    """Returns the cluster of each record: a patient's records, or the copies of a record.

    An interval resamples clusters as a whole. Patients who share a copy are one cluster.

    Args:
        dataset: the data.
        rows: positions of the records.

    Returns:
        (len(rows),) clusters; None if every record is its own.
    """
    number = copies(dataset, rows)
    alone = len(np.unique(number)) == len(rows)
    if dataset.groups is None:
        return None if alone else number
    _, patient = np.unique(dataset.groups[rows], return_inverse=True)
    return dataset.groups[rows] if alone else _joined(patient, number)


def copied(dataset: Dataset, rows: np.ndarray) -> int:
    """Returns how many records are exact copies of an earlier one.

    Args:
        dataset: the data.
        rows: positions of the records.

    Returns:
        The number of copies, the first of each set not counted.
    """
    return len(rows) - len(np.unique(copies(dataset, rows)))


def _joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns the connected component of each record, (n,); equal numbers in either array connect records."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = int(one.max()) + 1
    edges = coo_array((np.ones(len(one)), (one, size + other)), shape=(size + int(other.max()) + 1,) * 2)
    return connected_components(edges, directed=False)[1][one]


def _meet_by_chance(distinct: np.ndarray, n: int) -> bool:
    """Returns whether equal records are expected by chance among ``n`` records of a table.

    Args:
        distinct: (m, features) the different records.
        n: number of records.
    """
    values = np.array([len(np.unique(column)) for column in distinct.reshape(len(distinct), -1).T])
    if (values >= _CONTINUOUS * len(distinct)).any():
        return False
    return float(np.log(values).sum()) <= 2 * np.log(n) - np.log(2)
