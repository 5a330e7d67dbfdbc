"""Partition of records among clients."""

import warnings

import numpy as np

from assay import seeds
from assay.errors import DataError
from assay.recipes import Federation

_DRAWS = 20
"""Number of Dirichlet draws if one leaves a client too small; Flower itself tries each ten times."""


def client_seed(seed: int, number: int) -> int:
    """Returns the seed of one client's training. It depends on the client and not on the worker that hosts it.

    Args:
        seed: of the federated training.
        number: of the client, from 1.

    Returns:
        The seed.
    """
    return seeds.derive(seed, "client", number)


def partition(
    rows: np.ndarray, labels: np.ndarray, federation: Federation, *, seed: int, groups: np.ndarray | None = None
) -> list[np.ndarray]:
    """Returns the records of each client: disjoint, and together all of ``rows``.

    If ``iid``, sizes differ by at most one record, or patient.

    Args:
        rows: positions of the records to distribute.
        labels: (len(rows),) the label of each.
        federation: number of clients, and how records are distributed.
        seed: of the partition.
        groups: (len(rows),) the patient of each; then whole patients are distributed, and numbers of records may
            differ.

    Returns:
        Positions of each client's records, in increasing order.

    Raises:
        DataError: there are fewer records, or patients, than clients, or than a Dirichlet mixture needs.
    """
    dealt, what = (rows, "records") if groups is None else (np.unique(groups), "patients")
    if len(dealt) < federation.clients:
        raise DataError(f"{len(dealt)} {what} cannot be shared among {federation.clients} clients; use fewer clients")
    order = seeds.stream(seed, "partition").permutation(len(dealt))
    if federation.partition == "iid":
        parts = np.array_split(order, federation.clients)
    else:
        of_dealt = labels if groups is None else np.array([_most_common(labels[groups == one]) for one in dealt])
        parts = [order[part] for part in _dirichlet(of_dealt[order], federation, what, seed=seed)]
    if groups is None:
        return [np.sort(rows[part]) for part in parts]
    return [np.sort(rows[np.isin(groups, dealt[part])]) for part in parts]


def deal_alike(
    rows: np.ndarray, labels: np.ndarray, shares: list[np.ndarray], *, classes: int, seed: int
) -> list[np.ndarray]:
    """Distributes other records, such as test records, such that each client gets the labels it was trained on.

    Args:
        rows: positions of the records to distribute.
        labels: (len(rows),) the label of each.
        shares: labels of each client's training records.
        classes: number of classes.
        seed: of the distribution.

    Returns:
        Positions of each client's records, possibly none.
    """
    fractions = np.array([np.bincount(client_labels, minlength=classes) for client_labels in shares], float)
    fractions /= np.maximum(fractions.sum(0), 1)
    parts: list[list[np.ndarray]] = [[] for _ in shares]
    for label in range(classes):
        members = seeds.stream(seed, "deal", label).permutation(rows[labels == label])
        ends = np.rint(np.cumsum(fractions[:, label])[:-1] * len(members)).astype(int)
        for part, dealt in zip(parts, np.split(members, ends), strict=True):
            part.append(dealt)
    return [np.sort(np.concatenate(part)) for part in parts]


def _dirichlet(labels: np.ndarray, federation: Federation, what: str, *, seed: int) -> list[np.ndarray]:
    """Returns the positions of each client, by Flower's own partitioner."""
    from datasets import Dataset
    from flwr_datasets.partitioner import DirichletPartitioner

    for attempt in range(_DRAWS):
        partitioner = DirichletPartitioner(
            num_partitions=federation.clients,
            partition_by="label",
            alpha=federation.alpha,
            min_partition_size=federation.smallest_client,
            seed=seeds.torch_seed(seed, "dirichlet", attempt),
        )
        partitioner.dataset = Dataset.from_dict({"label": labels, "position": np.arange(len(labels))})
        try:
            with warnings.catch_warnings():
                # The partitioner warns whenever it draws again.
                warnings.simplefilter("ignore")
                return [np.array(partitioner.load_partition(i)["position"]) for i in range(federation.clients)]
        except ValueError:
            continue
    raise DataError(
        f"no Dirichlet mixture with alpha {federation.alpha:g} gives each of {federation.clients} clients "
        f"{federation.smallest_client} of {len(labels)} {what}; raise alpha, or lower smallest_client or clients"
    )


def _most_common(labels: np.ndarray) -> int:
    return int(np.bincount(labels).argmax())
