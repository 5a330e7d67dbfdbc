"""The chain of one writer: lines sealed by the hash of the line before, in files by day that are only appended to.

A process writes one chain, which it holds by a lock on a file of the chain's own; no writer ever waits for another. A
later process on this machine continues the chain in a new file, which says what the last one ended with.
"""

import fcntl
import os
import re
import socket
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from assay.errors import StorageError, storage_errors
from serve.audit_log import files as f
from serve.audit_log.keys import Keys
from serve.audit_log.lines import FIRST, decode, encode, hash_of

LARGEST = 64 << 20
"""Bytes after which a new file is begun."""
_MOST_WRITERS = 1000


class Chain:
    """The open chain of one writer.

    Args:
        folder: of the log.
        writer: its name.
        lock: descriptor of its lock, which this process holds.
        keys: of the log.
    """

    def __init__(self, folder: Path, writer: str, lock: int, keys: Keys) -> None:
        self.folder, self.writer, self.keys = folder, writer, keys
        self._lock = lock
        self.sequence, self.previous = 0, FIRST
        self._file: int | None = None
        self._size = 0
        self._pending = b""
        """Sealed lines that are not written yet; it may begin within a line."""
        self._head = f.head_file(folder, writer)
        own = f.files_of(folder).get(writer, [])
        self._current = f.file_at(folder, today(), writer, own[-1].number if own else 0)
        if not own and not self._head.exists():
            # Before the first file: a chain without a head is always one whose head was removed.
            f.write_head(self._head, f.Head.of(writer, 0, FIRST, keys.current))
        sealed = f.read_head(self._head) or f.Head()
        self.sequence = sealed.sequence
        torn = self._resume(own)
        self._begin_file({"sealed": [sealed.sequence, sealed.hash], **({"torn": torn} if torn else {})})

    @classmethod
    def claim(cls, folder: Path, keys: Keys) -> "Chain":
        """Takes the first chain of this machine that no other process writes, or begins a new one.

        Args:
            folder: of the log.
            keys: of the log.

        Raises:
            StorageError: the folder cannot be written.
        """
        host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())
        with storage_errors(str(folder), setting="log"):
            for number in range(_MOST_WRITERS):
                lock = lock_of(folder, f"{host}-{number}")
                if lock is not None:
                    return cls(folder, f"{host}-{number}", lock, keys)
        raise StorageError(f"{str(folder)!r} has {_MOST_WRITERS} writers; stop some, or name another folder (log)")

    @property
    def full(self) -> bool:
        """Whether the present file is large enough."""
        return self._size >= LARGEST

    @property
    def day(self) -> date:
        """Day of the present file."""
        return self._current.day

    @property
    def current(self) -> f.LogFile:
        """The present file."""
        return self._current

    def add(self, entry: Mapping[str, Any]) -> None:
        """Seals an entry; ``write`` writes it.

        Args:
            entry: JSON-able values.
        """
        line = encode({"sequence": self.sequence + 1, "previous": self.previous, **entry})
        self.sequence, self.previous = self.sequence + 1, hash_of(line)
        self._pending += line + b"\n"

    def write(self) -> None:
        """Writes the sealed lines. What the disk does not take stays, and the next call goes on from there.

        Raises:
            OSError: the disk is full, or reports an error.
        """
        if self._file is None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
            self._file = os.open(self._current.path, flags, 0o600)
            _sync_folder(self.folder)
        while self._pending:
            written = f.write_some(self._file, self._pending)
            self._size += written
            self._pending = self._pending[written:]

    def sync(self) -> None:
        """Waits until the written lines are on disk, and signs the last one as the head of the chain.

        Raises:
            OSError: the disk is full, or reports an error.
        """
        assert not self._pending and self._file is not None
        os.fsync(self._file)
        f.write_head(self._head, f.Head.of(self.writer, self.sequence, self.previous, self.keys.current))

    def rotate(self) -> None:
        """Ends the present file, whose lines must be on disk, and begins the next one.

        Raises:
            OSError: the disk is full, or reports an error.
        """
        self.sync()
        assert self._file is not None
        os.close(self._file)
        self._file = None
        self._begin_file({"sealed": [self.sequence, self.previous]})

    def close(self) -> None:
        """Lets the chain go; another process may continue it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        os.close(self._lock)

    def _begin_file(self, about: Mapping[str, Any]) -> None:
        self._current = f.file_at(self.folder, today(), self.writer, self._current.number + 1)
        self._size = 0
        self.add({"event": "file", "time": now(), "file": self._current.name, **about})

    def _resume(self, own: list[f.LogFile]) -> list[dict[str, Any]]:
        """Continues after the last whole line; returns the ends of files at which a crash cut a line."""
        torn = []
        for file in reversed(own):
            last: bytes | None = None
            for line, whole in file.lines():
                if whole:
                    last = line
                else:
                    torn.append({"file": file.name, "bytes": len(line), "hash": hash_of(line)})
            if last is not None:
                entry = decode(last)
                # The last line of a sound chain is an entry; of another, ``verify`` says what is wrong.
                self.sequence = self.sequence if entry is None else entry["sequence"]
                self.previous = hash_of(last)
                break
        return torn


def lock_of(folder: Path, writer: str) -> int | None:
    """Takes the lock of a chain, which ends with the process.

    Args:
        folder: of the log.
        writer: of the chain.

    Returns:
        Its descriptor; None where another process writes the chain.
    """
    lock = os.open(folder / f"{writer}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def today() -> date:
    """Returns the day in UTC."""
    return datetime.now(UTC).date()


def now() -> str:
    """Returns the time in UTC, as lines have it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _sync_folder(folder: Path) -> None:
    """Makes the name of a new file durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
