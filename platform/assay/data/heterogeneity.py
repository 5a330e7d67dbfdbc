"""Measures of how much clients differ in their labels and in their numbers of records."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assay import seeds

_DRAWS = 200
"""Number of random partitions from which the distance by chance is estimated."""


@dataclass(frozen=True, kw_only=True)
class Heterogeneity:
    """Distances of the clients of a partition from all clients together."""

    counts: np.ndarray
    """(clients, classes) number of records of each class at each client."""
    hellinger: np.ndarray
    """(clients,) Hellinger distance of each client's labels from those of all clients, from 0 to 1."""
    jensen_shannon: np.ndarray
    """(clients,) Jensen-Shannon divergence of the same, in bits, from 0 to 1."""
    hellinger_by_chance: float
    """Mean of the Hellinger distance over clients if records were dealt at random to clients of the same sizes."""
    size_hellinger: float
    """Hellinger distance of the clients' shares of all records from equal shares."""
    size_jensen_shannon: float
    """Jensen-Shannon divergence of the same, in bits."""


def hellinger(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Returns the Hellinger distance of two distributions: √(½ Σ (√p − √q)²), from 0 to 1.

    Args:
        p: (..., k) probabilities.
        q: (..., k) probabilities.

    Returns:
        (...) distances: 0 where they are equal, 1 where they share no outcome.
    """
    return np.sqrt(np.clip(0.5 * ((np.sqrt(p) - np.sqrt(q)) ** 2).sum(-1), 0.0, 1.0))


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Returns the Jensen-Shannon divergence of two distributions, in bits (Lin 1991, IEEE Trans. Inf. Theory 37).

    It is the mean of the Kullback-Leibler divergences of both from their mean. Its square root is a metric.

    Args:
        p: (..., k) probabilities.
        q: (..., k) probabilities.

    Returns:
        (...) divergences: 0 where they are equal, 1 where they share no outcome.
    """
    middle = (p + q) / 2
    return np.clip((_kullback_leibler(p, middle) + _kullback_leibler(q, middle)) / 2, 0.0, 1.0)


def class_counts(labels: np.ndarray, parts: Sequence[np.ndarray], *, classes: int) -> np.ndarray:
    """Counts the records of each class at each client.

    Args:
        labels: (n,) the label of each record of the data set.
        parts: positions of each client's records.
        classes: number of classes.

    Returns:
        (clients, classes) counts.
    """
    return np.array([np.bincount(labels[part], minlength=classes) for part in parts])


def heterogeneity(counts: np.ndarray, *, seed: int) -> Heterogeneity:
    """Measures how much the clients of a partition differ.

    Clients with few records differ from all records by chance alone; ``hellinger_by_chance`` says by how much.

    Args:
        counts: (clients, classes) number of records of each class at each client, at least one record each.
        seed: of the random partitions for ``hellinger_by_chance``.

    Returns:
        The distances of each client, and of the sizes.
    """
    sizes, pool = counts.sum(1), counts.sum(0)
    at_clients, together = counts / sizes[:, None], pool / pool.sum()
    shares, equal = sizes / sizes.sum(), np.full(len(sizes), 1 / len(sizes))
    generator = seeds.stream(seed, "heterogeneity")
    by_chance = [
        hellinger(generator.multivariate_hypergeometric(pool, size, _DRAWS, method="marginals") / size, together).mean()
        for size in sizes.tolist()
    ]
    return Heterogeneity(
        counts=counts,
        hellinger=hellinger(at_clients, together),
        jensen_shannon=jensen_shannon(at_clients, together),
        hellinger_by_chance=float(np.mean(by_chance)),
        size_hellinger=float(hellinger(shares, equal)),
        size_jensen_shannon=float(jensen_shannon(shares, equal)),
    )


def _kullback_leibler(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Returns (...) the divergence of ``p`` from ``q`` in bits; an outcome without probability adds nothing."""
    p, q = np.broadcast_arrays(p, q)
    ratio = np.divide(p, q, out=np.ones(p.shape), where=p > 0)
    return (p * np.log2(ratio)).sum(-1)
