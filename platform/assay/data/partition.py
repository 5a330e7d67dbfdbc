"""Partition of records among clients: who holds which record."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from assay import seeds
from assay.data.base import Dataset
from assay.data.partition_counts import dirichlet_counts, pathological_counts
from assay.errors import DataError
from assay.recipes import Federation


@dataclass(frozen=True, kw_only=True)
class Partition(Sequence[np.ndarray]):
    """Positions of the records of each client: disjoint, and none empty."""

    parts: tuple[np.ndarray, ...]
    """Positions of each client's records, in increasing order."""
    sites: tuple[str, ...] = ()
    """Site of each client, where each is a site; empty otherwise."""
    note: str = ""
    """What a reader must know of how records were dealt, such as a bias of repeated draws; empty if nothing."""

    def __len__(self) -> int:
        return len(self.parts)

    @overload
    def __getitem__(self, client: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, client: slice) -> tuple[np.ndarray, ...]: ...

    def __getitem__(self, client: int | slice) -> np.ndarray | tuple[np.ndarray, ...]:
        return self.parts[client]


def partition_dataset(dataset: Dataset, rows: np.ndarray, federation: Federation, *, seed: int) -> Partition:
    """Returns which training record each client holds.

    Args:
        dataset: the data.
        rows: (n,) positions of the training records.
        federation: number of clients, and how records are dealt.
        seed: of the partition.

    Returns:
        The partition.

    Raises:
        DataError: see ``partition``; or the data name no sites, or no patients.
    """
    if federation.partition == "natural" and federation.by == "patient" and dataset.patients is None:
        groups = "no patients" if dataset.groups is None else "sites and no patients"
        raise DataError(
            f"{dataset.name} names {groups}, so no client can be a patient; name their column, or say by: site or "
            "partition: iid",
            setting="federation.by",
            given="patient",
            allowed="site",
        )
    return partition(
        rows,
        dataset.y[rows],
        federation,
        seed=seed,
        groups=None if dataset.groups is None else dataset.groups[rows],
        sites=None if dataset.site is None else dataset.site[rows],
    )


def partition(
    rows: np.ndarray,
    labels: np.ndarray,
    federation: Federation,
    *,
    seed: int,
    groups: np.ndarray | None = None,
    sites: np.ndarray | None = None,
) -> Partition:
    """Returns the records of each client: disjoint, and together all of ``rows``.

    If ``iid``, sizes differ by at most one record, or patient.

    Args:
        rows: (n,) positions of the records to deal.
        labels: (n,) the label of each.
        federation: number of clients, and how records are dealt.
        seed: of the partition.
        groups: (n,) the patient of each; then whole patients are dealt, and numbers of records may differ.
        sites: (n,) the site of each, where known.

    Returns:
        The partition. Unless clients are sites or patients, there are ``federation.clients`` of them.

    Raises:
        DataError: there are fewer records, or patients, than clients; clients cannot be given what the settings ask; or
            clients are to be sites, and a record has none or a patient has several.
    """
    if federation.partition == "natural":
        return _natural(rows, federation, groups, sites)
    units = _Units(rows, labels, groups)
    if len(units.labels) < federation.clients:
        raise DataError(
            f"{len(units.labels)} {units.kind} cannot be shared among {federation.clients} clients; use fewer clients",
            setting="federation.clients",
            given=federation.clients,
            allowed=len(units.labels),
        )
    order = seeds.stream(seed, "partition").permutation(len(units.labels))
    if federation.partition == "iid":
        return Partition(parts=units.records(np.array_split(order, federation.clients)))
    # Every record is of one class where only the numbers of records differ between clients.
    of_units = np.zeros_like(units.labels) if federation.partition == "quantity" else units.labels
    present, places = np.unique(of_units, return_inverse=True)
    available = np.bincount(places, minlength=len(present))
    generator, note = seeds.stream(seed, federation.partition), ""
    if federation.partition == "pathological":
        counts = pathological_counts(
            available,
            clients=federation.clients,
            classes_per_client=federation.classes_per_client,
            generator=generator,
        )
        note = "" if groups is None else "classes are those of most records of a patient; other records come with them"
    else:
        counts, note = _drawn(available, federation, units.kind, generator)
    return Partition(parts=units.records(_by_counts(order, places, counts)), note=note)


def partition_test(
    dataset: Dataset, rows: np.ndarray, training: Partition, federation: Federation, *, seed: int
) -> tuple[np.ndarray, ...]:
    """Returns the test records of each client, dealt by the same rule as its training records.

    A client that is a site has the test records of this site. If ``iid``, test records are dealt at random. Otherwise
    they are dealt such that each client has the labels that it was trained on; so are those of clients that are
    patients, since the patients of test records are others.

    Args:
        dataset: the data.
        rows: (n,) positions of the test records.
        training: the training records of each client.
        federation: how they were dealt.
        seed: of the partition.

    Returns:
        Positions of each client's test records, possibly none.

    Raises:
        DataError: there are fewer test records, or patients, than clients, and they are dealt at random.
    """
    if training.sites:
        assert dataset.site is not None
        return tuple(rows[dataset.site[rows] == site] for site in training.sites)
    groups = None if dataset.groups is None else dataset.groups[rows]
    if federation.partition == "iid":
        return partition(rows, dataset.y[rows], federation, seed=seed, groups=groups).parts
    shares = [dataset.y[part] for part in training]
    return deal_alike(rows, dataset.y[rows], shares, classes=dataset.classes, seed=seed, groups=groups)


def deal_alike(
    rows: np.ndarray,
    labels: np.ndarray,
    shares: Sequence[np.ndarray],
    *,
    classes: int,
    seed: int,
    groups: np.ndarray | None = None,
) -> tuple[np.ndarray, ...]:
    """Deals other records, such as test records, such that each client gets the labels it was trained on.

    Args:
        rows: (n,) positions of the records to deal.
        labels: (n,) the label of each.
        shares: labels of each client's training records.
        classes: number of classes.
        seed: of the distribution.
        groups: (n,) the patient of each; then whole patients are dealt.

    Returns:
        Positions of each client's records, possibly none.
    """
    fractions = np.array([np.bincount(client_labels, minlength=classes) for client_labels in shares], float)
    fractions /= np.maximum(fractions.sum(0), 1)
    units = _Units(rows, labels, groups)
    parts: list[list[np.ndarray]] = [[] for _ in shares]
    for label in range(classes):
        members = seeds.stream(seed, "deal", label).permutation(np.flatnonzero(units.labels == label))
        ends = np.rint(np.cumsum(fractions[:, label])[:-1] * len(members)).astype(int)
        for part, dealt in zip(parts, np.split(members, ends), strict=True):
            part.append(dealt)
    return units.records([np.concatenate(part) for part in parts])


class _Units:
    """What is dealt: single records, or patients with all of their records.

    Args:
        rows: (n,) positions of the records.
        labels: (n,) the label of each.
        groups: (n,) the patient of each; None to deal single records.
    """

    def __init__(self, rows: np.ndarray, labels: np.ndarray, groups: np.ndarray | None) -> None:
        self.kind = "records" if groups is None else "patients"
        self._rows = rows
        if groups is None:
            self._of_row, self.labels = np.arange(len(rows)), labels
            return
        names, self._of_row = np.unique(groups, return_inverse=True)
        counts = np.zeros((len(names), int(labels.max(initial=0)) + 1), np.int64)
        np.add.at(counts, (self._of_row, labels), 1)
        self.labels = counts.argmax(axis=1)
        """(units,) the label of each; the most common one of a patient."""

    def records(self, parts: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Returns the positions of each client's records, in increasing order, given those of its units."""
        owner = np.full(int(self._of_row.max(initial=-1)) + 1, len(parts))
        for client, part in enumerate(parts):
            owner[part] = client
        of_row = owner[self._of_row]
        order = np.lexsort((self._rows, of_row))
        ends = np.searchsorted(of_row[order], np.arange(len(parts) + 1))
        return tuple(self._rows[order[start:end]] for start, end in itertools.pairwise(ends))


def _natural(
    rows: np.ndarray, federation: Federation, groups: np.ndarray | None, sites: np.ndarray | None
) -> Partition:
    """Returns a client for each site, or for each patient."""
    owners = sites if federation.by == "site" else groups
    if owners is None:
        raise DataError(
            f"the data name no {federation.by} of a record, so no client can be one; name the column of "
            f"{federation.by}s in the settings of the data set, or use another partition",
            setting="federation.by",
            given=federation.by,
            allowed=("iid", "dirichlet", "pathological", "quantity"),
        )
    if federation.by == "site":
        _refuse_unclear_sites(owners, groups)
    names, of_row = np.unique(owners, return_inverse=True)
    unused = "" if federation.clients == len(names) else f"; clients: {federation.clients} is not used"
    return Partition(
        parts=tuple(np.sort(rows[of_row == client]) for client in range(len(names))),
        sites=tuple(str(name) for name in names) if federation.by == "site" else (),
        note=f"{len(names)} clients, one for each {federation.by}{unused}",
    )


def _refuse_unclear_sites(sites: np.ndarray, groups: np.ndarray | None) -> None:
    """Raises if a record has no site, or a patient has several."""
    unknown = int((sites == "").sum())
    if unknown:
        raise DataError(
            f"{unknown} of {len(sites)} training records name no site, so they belong to no client; complete the "
            "column of sites, or leave these records out",
            setting="federation.by",
            given=unknown,
            allowed=0,
        )
    if groups is None:
        return
    pairs = np.unique(
        np.stack([np.unique(groups, return_inverse=True)[1], np.unique(sites, return_inverse=True)[1]]), axis=1
    )
    patients, numbers = np.unique(pairs[0], return_counts=True)
    torn = int((numbers > 1).sum())
    if torn:
        raise DataError(
            f"{torn} of {len(patients)} patients have records at several sites, and a patient must be at one client "
            "alone; correct the column of sites, or use partition: iid, which deals patients whole",
            setting="federation.by",
            given=torn,
            allowed=0,
        )


def _drawn(
    available: np.ndarray, federation: Federation, kind: str, generator: np.random.Generator
) -> tuple[np.ndarray, str]:
    """Returns (clients, classes) numbers of records of a Dirichlet draw, and a note on its bias."""
    needed = federation.clients * federation.smallest_client
    drawn = None
    if needed <= available.sum():
        drawn = dirichlet_counts(
            available,
            clients=federation.clients,
            alpha=federation.alpha,
            smallest=federation.smallest_client,
            generator=generator,
        )
    if drawn is None:
        raise DataError(
            f"no Dirichlet mixture with alpha {federation.alpha:g} gives each of {federation.clients} clients "
            f"{federation.smallest_client} of {int(available.sum())} {kind}; raise alpha, or lower smallest_client or "
            "clients",
            setting="federation.alpha",
            given=federation.alpha,
        )
    if drawn.accepted == 1:
        return drawn.counts, ""
    return drawn.counts, (
        f"about {drawn.accepted:.1%} of draws with alpha {federation.alpha:g} leave each client at least "
        f"{federation.smallest_client} {kind}; the others are drawn again, so clients are more alike than the "
        "distribution makes them"
    )


def _by_counts(order: np.ndarray, places: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    """Deals units of each class, in a given order, by the numbers that clients receive.

    Args:
        order: (units,) the order in which units are dealt.
        places: (units,) the place of each unit's class.
        counts: (clients, classes) numbers of units.
    """
    parts: list[list[np.ndarray]] = [[] for _ in counts]
    for place in range(counts.shape[1]):
        members = order[places[order] == place]
        for part, dealt in zip(parts, np.split(members, np.cumsum(counts[:-1, place])), strict=True):
            part.append(dealt)
    return [np.concatenate(part) for part in parts]
