"""Hashes of single records, for finding exact copies."""

import hashlib
from typing import Any

import numpy as np

_AT_ONCE = 1024
"""Number of records that are decoded together."""


class Fingerprints:
    """Hashes of the records of a data set, each computed on first use, in each process anew.

    Args:
        x: (n, ...) records, an array or ``Lazy``.
    """

    def __init__(self, x: Any) -> None:
        self._x = x
        self._known = np.zeros(len(x), bool)
        self._hashes = np.zeros(len(x), "S16")

    def __reduce__(self) -> tuple[type["Fingerprints"], tuple[Any]]:
        """Leaves out what is known so far: in another process, arrays of shared memory cannot be written."""
        return Fingerprints, (self._x,)

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Returns the hashes of some records, equal where records are equal in every input.

        Args:
            rows: positions of the records.

        Returns:
            (len(rows),) 16 bytes each.
        """
        missing = np.unique(rows[~self._known[rows]])
        for start in range(0, len(missing), _AT_ONCE):
            part = missing[start : start + _AT_ONCE]
            for row, record in zip(part, np.ascontiguousarray(self._x[part]), strict=True):
                # Adding 0 turns -0.0 into 0.0, which are equal for every model.
                self._hashes[row] = hashlib.blake2b((record + record.dtype.type(0)).tobytes(), digest_size=16).digest()
        self._known[missing] = True
        return self._hashes[rows]
