"""Which client holds which record."""

import warnings

import numpy as np

from assay import seeds
from assay.errors import DataError
from assay.recipes import Federation

_DRAWS = 20
"""How often a Dirichlet mixture is drawn anew where it leaves a client too small; Flower tries each ten times."""


def client_seed(seed: int, number: int) -> int:
    """Seed of one client's training: by client, never by worker, so that where a client lives changes nothing."""
    return seeds.derive(seed, "client", number)


def partition(
    rows: np.ndarray, labels: np.ndarray, federation: Federation, *, seed: int, groups: np.ndarray | None = None
) -> list[np.ndarray]:
    """The records of each client: disjoint, together all of ``rows``; of sizes that differ by at most one if ``iid``.

    Args:
        rows: positions of the records to deal out.
        labels: (len(rows),) the label of each.
        groups: (len(rows),) the patient of each: whole patients are dealt, so sizes differ as patients do.

    Raises:
        DataError: fewer records, or patients, than clients, or than a Dirichlet mixture can be dealt from.
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
    """Other records, such as test ones, dealt so that each client sees the labels it knows; perhaps none.

    Args:
        rows: positions of the records to deal out.
        labels: (len(rows),) the label of each.
        shares: labels of each client's training records.
    """
    held = np.array([np.bincount(own, minlength=classes) for own in shares], float)
    held /= np.maximum(held.sum(0), 1)
    parts: list[list[np.ndarray]] = [[] for _ in shares]
    for label in range(classes):
        own = seeds.stream(seed, "deal", label).permutation(rows[labels == label])
        ends = np.rint(np.cumsum(held[:, label])[:-1] * len(own)).astype(int)
        for part, dealt in zip(parts, np.split(own, ends), strict=True):
            part.append(dealt)
    return [np.sort(np.concatenate(part)) for part in parts]


def _dirichlet(labels: np.ndarray, federation: Federation, what: str, *, seed: int) -> list[np.ndarray]:
    """Positions of each client, by Flower's own partitioner."""
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
                # It warns whenever it draws again.
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
