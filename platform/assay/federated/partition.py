"""Which client holds which record."""

import numpy as np

from assay import seeds
from assay.errors import DataError
from assay.recipes import Federation


def partition(
    rows: np.ndarray, federation: Federation, *, seed: int, groups: np.ndarray | None = None
) -> list[np.ndarray]:
    """The records of each client: disjoint, together all of ``rows``, of sizes that differ by at most one.

    Args:
        rows: positions of the records to deal out.
        groups: (len(rows),) the patient of each: whole patients are dealt, so sizes differ as patients do.

    Raises:
        DataError: fewer records, or patients, than clients.
    """
    if len(rows) < federation.clients:
        raise DataError(f"{len(rows)} records cannot be shared among {federation.clients} clients; use fewer clients")
    order = seeds.stream(seed, "partition")
    if groups is None:
        return [np.sort(part) for part in np.array_split(order.permutation(rows), federation.clients)]
    patients = order.permutation(np.unique(groups))
    if len(patients) < federation.clients:
        raise DataError(
            f"{len(patients)} patients cannot be shared among {federation.clients} clients; use fewer clients"
        )
    return [np.sort(rows[np.isin(groups, part)]) for part in np.array_split(patients, federation.clients)]
