"""Outcomes of the test records in compact form, stored with a figure so that two recipes can be paired by record."""

import hashlib
import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

_NAME = 16
"""Length in bytes of the hash that identifies the records."""
_SINGLE, _GROUPED = b"\x01", b"\x02"


@dataclass(frozen=True)
class Outcomes:
    """Number of hits in each cluster of records; a cluster is one record where records are independent.

    The bytes are: one for the layout, 16 that identify the records, 4 with the number of clusters (little-endian), then
    compressed by zlib either one bit per record, or the sizes of the clusters and their hits, each as little-endian
    uint32.
    """

    packed: bytes

    @classmethod
    def of(cls, hits: np.ndarray, rows: np.ndarray, clusters: np.ndarray | None = None) -> "Outcomes":
        """Packs the outcomes of records; their order does not matter.

        Args:
            hits: (n,) bool, whether each record counts.
            rows: (n,) int, positions of the records in the data set.
            clusters: (n,) cluster of each record, such as the patient; None where records are independent.

        Returns:
            The outcomes.

        Raises:
            ValueError: the lengths differ, or there are no records.
        """
        if len(hits) != len(rows) or not len(rows) or (clusters is not None and len(clusters) != len(rows)):
            told = len(rows) if clusters is None else len(clusters)
            raise ValueError(f"{len(hits)} outcomes, {len(rows)} records and {told} clusters: give one each a record")
        order = np.argsort(rows, kind="stable")
        hits, rows = np.asarray(hits, bool)[order], np.asarray(rows, "<i8")[order]
        if clusters is None:
            place, layout, content = np.arange(len(rows)), _SINGLE, np.packbits(hits, bitorder="little").tobytes()
        else:
            _, place = np.unique(np.asarray(clusters)[order], return_inverse=True)
            counts = np.stack([np.bincount(place), np.bincount(place, hits)])
            layout, content = _GROUPED, counts.astype("<u4").tobytes()
        name = hashlib.sha256(rows.tobytes() + place.astype("<i8").tobytes()).digest()[:_NAME]
        units = len(np.unique(place))
        return cls(layout + name + units.to_bytes(4, "little") + zlib.compress(content, 9))

    @property
    def records(self) -> bytes:
        """Identifier of the records and their clusters: figures with the same identifier are of the same records."""
        return self.packed[: 1 + _NAME]

    @cached_property
    def _counts(self) -> tuple[np.ndarray, np.ndarray]:
        units = int.from_bytes(self.packed[1 + _NAME : 5 + _NAME], "little")
        content = zlib.decompress(self.packed[5 + _NAME :])
        if self.packed[:1] == _SINGLE:
            bits = np.unpackbits(np.frombuffer(content, np.uint8), count=units, bitorder="little")
            return np.ones(units), bits.astype(float)
        sizes, hits = np.frombuffer(content, "<u4").reshape(2, units).astype(float)
        return sizes, hits

    @property
    def sizes(self) -> np.ndarray:
        """(clusters,) number of records of each cluster."""
        return self._counts[0]

    @property
    def hits(self) -> np.ndarray:
        """(clusters,) number of hits in each cluster."""
        return self._counts[1]
