"""Numbers of records that clients receive, drawn for partitions in which clients differ."""

from typing import NamedTuple

import numpy as np

from assay.errors import DataError

_DRAWS, _FEWEST_DRAWS = 20_000, 20
"""Number of Dirichlet draws among which the first acceptable one is taken; fewer where there are many clients."""
_NUMBERS = 1_000_000
"""Greatest number of shares that are drawn for one partition, so that a refusal takes less than a second."""


class Drawn(NamedTuple):
    """Numbers of records by client and class."""

    counts: np.ndarray
    """(clients, classes)"""
    accepted: float
    """Share of the draws that leave every client enough records: below 1, the accepted draw does not follow the
    Dirichlet distribution, but that distribution given large enough clients."""


def dirichlet_counts(
    available: np.ndarray, *, clients: int, alpha: float, smallest: int, generator: np.random.Generator
) -> Drawn | None:
    """Draws how many records of each class each client receives.

    The shares of a class over the clients follow a symmetric Dirichlet distribution, independently for each class
    (Yurochkin et al. 2019, arXiv:1905.12022; Li et al. 2022, arXiv:2102.02079). The cumulative shares are rounded to
    whole records. A draw in which a client has too few records is repeated.

    Args:
        available: (classes,) number of records of each class.
        clients: number of clients.
        alpha: concentration of the distribution, above 0.
        smallest: least number of records of a client.
        generator: draws the shares.

    Returns:
        The first draw in which every client has enough records; None if none of many has.
    """
    draws = int(np.clip(_NUMBERS // (len(available) * clients), _FEWEST_DRAWS, _DRAWS))
    shares = generator.dirichlet(np.full(clients, alpha), size=(draws, len(available)))
    # Shares add up to 1 but for rounding far below half a record, so the last end is the number of records.
    ends = np.rint(np.cumsum(shares, axis=-1) * available[:, None])
    counts = np.diff(ends, axis=-1, prepend=0).astype(np.int64)
    accepted = counts.sum(axis=1).min(axis=-1) >= smallest
    return Drawn(counts[accepted.argmax()].T, float(accepted.mean())) if accepted.any() else None


def pathological_counts(
    available: np.ndarray, *, clients: int, classes_per_client: int, generator: np.random.Generator
) -> np.ndarray:
    """Returns how many records of each class each client receives if it holds only some classes.

    Each client holds exactly ``classes_per_client`` classes, and each class is held by someone (McMahan et al. 2017,
    arXiv:1602.05629). A class is held by a number of clients in proportion to its records, so that clients have similar
    sizes, and its records are shared equally among them.

    Args:
        available: (classes,) number of records of each class, all above 0.
        clients: number of clients.
        classes_per_client: number of classes of each client.
        generator: draws which classes a client holds.

    Returns:
        (clients, classes) numbers of records.

    Raises:
        DataError: there are fewer classes than that, a class would be held by nobody, or by more clients than it has
            records.
    """
    classes, slots = len(available), clients * classes_per_client
    if classes_per_client > classes:
        raise DataError(
            f"classes_per_client is {classes_per_client}, but the training records have {classes} classes; use at most "
            f"{classes}",
            setting="federation.classes_per_client",
            given=classes_per_client,
            allowed=classes,
        )
    if slots < classes:
        raise DataError(
            f"{clients} clients with {classes_per_client} classes each cannot hold {classes} classes; use at least "
            f"{-(-classes // classes_per_client)} clients, or raise classes_per_client",
            setting="federation.clients",
            given=clients,
            allowed=-(-classes // classes_per_client),
        )
    holders = _numbers_of_holders(available, clients, slots)
    held = np.zeros((clients, classes), bool)
    left = holders.copy()
    for client in range(clients):
        # The classes that most clients must still hold come first, or a later client could not have distinct ones.
        ranking = np.lexsort((generator.random(classes), -left))
        held[client, ranking[:classes_per_client]] = True
        left[ranking[:classes_per_client]] -= 1
    held = held[generator.permutation(clients)]
    counts = np.zeros((clients, classes), np.int64)
    for place in range(classes):
        members = np.flatnonzero(held[:, place])
        share, over = divmod(int(available[place]), len(members))
        counts[members, place] = share + (np.arange(len(members)) < over)
    return counts


def _numbers_of_holders(available: np.ndarray, clients: int, slots: int) -> np.ndarray:
    """Returns (classes,) the number of clients that hold each class: proportional, and at least one."""
    most = np.minimum(available, clients)
    if most.sum() < slots:
        raise DataError(
            f"{clients} clients need {slots} shares of a class, but the rarest of {len(available)} classes has "
            f"{int(available.min())} records, so there are only {int(most.sum())}; use fewer clients, or lower "
            "classes_per_client",
            setting="federation.clients",
            given=clients,
            allowed=int(most.sum()),
        )
    holders = np.ones(len(available), np.int64)
    for _ in range(slots - len(available)):
        # The highest average (D'Hondt): the class whose records are shared by fewest clients gets one more.
        holders[np.where(holders < most, available / (holders + 1), -1.0).argmax()] += 1
    return holders
