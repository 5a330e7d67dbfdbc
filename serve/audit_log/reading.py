"""Reads a decision log: its entries in the order of time, and those of a known input."""

import heapq
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.audit_log.decision import rows_of
from serve.audit_log.files import LogFile, files_of, no_log
from serve.audit_log.keys import Keys
from serve.audit_log.lines import decode


@dataclass(frozen=True)
class Found:
    """One entry with its place."""

    file: str
    line: int
    entry: dict[str, Any]


def entries(folder: Path) -> Iterator[Found]:
    """Returns the entries of all writers in the order of time; lines that are none are passed over.

    Args:
        folder: of the log.

    Raises:
        UserError: there is no log.
    """
    chains = files_of(folder)
    if not chains:
        raise no_log(folder)
    return heapq.merge(*map(_of_chain, chains.values()), key=lambda one: str(one.entry.get("time", "")))


def _of_chain(files: list[LogFile]) -> Iterator[Found]:
    for file in files:
        for number, (line, whole) in enumerate(file.lines(), 1):
            entry = decode(line) if whole else None
            if entry is not None:
                yield Found(file.name, number, entry)


class Input:
    """A known input, which is found again by its keyed hashes under all keys of a log.

    Args:
        path: a body as it was sent; also its records where it is a ``.npy`` array, or JSON with ``instances`` of
            numbers in the form that the model takes.
        keys: of the log.

    Raises:
        StorageError: the file cannot be read.
    """

    def __init__(self, path: Path, keys: Keys) -> None:
        content = path.read_bytes()
        records = _records(path, content)
        self._bodies = {key.name: key.body(content) for key in keys.all()}
        self._records = {key.name: {key.record(row) for row in records} for key in keys.all()}

    def within(self, entry: dict[str, Any]) -> bool:
        """Returns whether an entry is of a call with this body, or with one of these records.

        Args:
            entry: of the log.
        """
        key = entry.get("key")
        if entry["event"] != "answer" or key not in self._bodies:
            return False
        return entry.get("body") == self._bodies[key] or not self._records[key].isdisjoint(entry.get("inputs", ()))


def _records(path: Path, content: bytes) -> list[bytes]:
    """Returns the bytes of the records of a file; none where it holds none that could be read without a model."""
    import numpy as np

    try:
        if path.suffix == ".npy":
            return rows_of(np.load(path, allow_pickle=False))
        said = json.loads(content)
        given = said["instances"] if isinstance(said, dict) else said
        array = np.asarray(given, np.float32)
        return rows_of(array) if array.ndim > 1 else []
    except (ValueError, KeyError, TypeError):
        return []
