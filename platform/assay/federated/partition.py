"""Which client holds which record."""

import numpy as np

from assay import seeds
from assay.errors import DataError
from assay.recipes import Federation


def partition(rows: np.ndarray, federation: Federation, *, seed: int) -> list[np.ndarray]:
    """The records of each client: disjoint, together all of ``rows``, of sizes that differ by at most one.

    Raises:
        DataError: fewer records than clients.
    """
    if len(rows) < federation.clients:
        raise DataError(f"{len(rows)} records cannot be shared among {federation.clients} clients; use fewer clients")
    shuffled = seeds.stream(seed, "partition").permutation(rows)
    return [np.sort(part) for part in np.array_split(shuffled, federation.clients)]
