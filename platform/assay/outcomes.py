"""What became of each test record, in a few bytes beside a figure, so that two recipes can be paired by record."""

import hashlib
import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

_NAME = 16
"""Bytes of the hash that names the records."""
_SINGLE, _GROUPED = b"\x01", b"\x02"


@dataclass(frozen=True)
class Outcomes:
    """How many records of each cluster were a hit; a cluster is one record where each stands for itself.

    The bytes are: one for the layout, 16 that name the records, 4 with the number of clusters (little-endian), then by
    zlib either one bit a record, or the sizes of the clusters and their hits, each as little-endian uint32.
    """

    packed: bytes

    @classmethod
    def of(cls, hits: np.ndarray, rows: np.ndarray, clusters: np.ndarray | None = None) -> "Outcomes":
        """The outcomes of some records, the same whatever their order.

        Args:
            hits: (n,) bool, whether each record counts.
            rows: (n,) int, positions of the records in the data set.
            clusters: (n,) what counts as one, such as the patient; None where each record does.

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
        units = int(place.max()) + 1
        return cls(layout + name + units.to_bytes(4, "little") + zlib.compress(content, 9))

    @property
    def records(self) -> bytes:
        """Names the records and their clusters: figures with the same name are of the same records."""
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
        """(clusters,) records of each."""
        return self._counts[0]

    @property
    def hits(self) -> np.ndarray:
        """(clusters,) how many of them were a hit."""
        return self._counts[1]
