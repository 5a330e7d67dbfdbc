"""Secret keys of a decision log: an input can be found again by its keyed hash, and cannot be guessed without the key.

The same keys sign what vouches for a chain from outside it: its head, and the notes of deleted files.
"""

import hmac
import json
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from assay.errors import StorageError, storage_errors

FILE = "keys"
_MODE = 0o600
_INPUT = 32
"""Hexadecimal digits of the keyed hash of an input: 128 of its 256 bits, the least that RFC 2104 advises."""


@dataclass(frozen=True)
class Key:
    """One key."""

    name: str
    """Stands in each line that was made with it."""
    made: str
    secret: bytes

    def body(self, content: bytes) -> str:
        """Returns the keyed hash of the body of a request.

        Args:
            content: as it was sent.
        """
        return hmac.digest(self._for_bodies, content, "sha256").hex()[:_INPUT]

    def record(self, content: bytes) -> str:
        """Returns the keyed hash of one record.

        Args:
            content: its bytes in the form that the model takes.
        """
        return hmac.digest(self._for_records, content, "sha256").hex()[:_INPUT]

    def signature(self, *said: object) -> str:
        """Signs a statement about a chain.

        Args:
            said: its parts.
        """
        return hmac.digest(self._for_statements, json.dumps(said).encode(), "sha256").hex()

    # A key of its own for each purpose: no hash of an input is the signature of a statement.
    @cached_property
    def _for_bodies(self) -> bytes:
        return hmac.digest(self.secret, b"body of a request", "sha256")

    @cached_property
    def _for_records(self) -> bytes:
        return hmac.digest(self.secret, b"record", "sha256")

    @cached_property
    def _for_statements(self) -> bytes:
        return hmac.digest(self.secret, b"statement about a chain", "sha256")


class Keys:
    """The keys of a log, in a file that its owner alone can read. The last one is in use.

    Args:
        folder: of the log.

    Raises:
        StorageError: there is no file of keys, others can read it, or it holds no key.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._stamp = (-1, -1)
        self._keys: tuple[Key, ...] = ()
        self._read()

    @classmethod
    def of(cls, folder: Path) -> "Keys | None":
        """Opens the keys of a log.

        Args:
            folder: of the log.

        Returns:
            None where there is no file of keys, as in a copy of a log for somebody who verifies it.
        """
        return cls(folder) if (folder / FILE).exists() else None

    @classmethod
    def create(cls, folder: Path) -> "Keys":
        """Opens the keys of a log, and makes the first one where there is none.

        Args:
            folder: of the log.
        """
        path = folder / FILE
        if not path.exists():
            temporary = folder / f".{FILE}.{os.getpid()}.{secrets.token_hex(4)}"
            with storage_errors(str(path), setting="log"):
                _write(temporary, os.O_CREAT | os.O_EXCL)
                try:
                    os.link(temporary, path)  # fails where another writer was first: then its key holds
                except FileExistsError:
                    pass
                finally:
                    temporary.unlink()
        return cls(folder)

    @property
    def current(self) -> Key:
        """The key in use; one that was made meanwhile is found."""
        self._read()
        return self._keys[-1]

    def all(self) -> tuple[Key, ...]:
        """Returns all keys, the earliest first."""
        self._read()
        return self._keys

    def signed(self, name: str, signature: str, *said: object) -> bool:
        """Returns whether a statement was signed with a key of this log.

        Args:
            name: of the key.
            signature: of the statement.
            said: its parts.
        """
        return any(key.name == name and hmac.compare_digest(key.signature(*said), signature) for key in self.all())

    def rotate(self) -> Key:
        """Makes a new key, which running writers use within a second; earlier ones stay, to find earlier inputs.

        Returns:
            The new key.
        """
        with storage_errors(str(self._path), setting="log"):
            _write(self._path, 0)
        return self.current

    def _read(self) -> None:
        with storage_errors(str(self._path), setting="log"):
            stat = self._path.stat()
            if (stat.st_mtime_ns, stat.st_size) == self._stamp:
                return
            if stat.st_mode & 0o077:
                mode = f"{stat.st_mode & 0o777:o}"
                raise StorageError(
                    f"{str(self._path)!r} has mode {mode}, and others can read the keys of the log; chmod 600 it, and "
                    "make a new key: python -m jobs.log rotate-key FOLDER",
                    setting="log", given=mode, allowed="600",
                )  # fmt: skip
            lines = self._path.read_bytes().splitlines()
        try:
            read = [json.loads(line) for line in lines]
            self._keys = tuple(Key(one["key"], one["made"], bytes.fromhex(one["secret"])) for one in read)
        except (ValueError, KeyError, TypeError):
            self._keys = ()
        if not self._keys:
            raise StorageError(
                f"{str(self._path)!r} holds no keys of a decision log; restore it from a copy",
                setting="log", given=str(self._path),
            )  # fmt: skip
        self._stamp = (stat.st_mtime_ns, stat.st_size)


def _write(path: Path, flags: int) -> None:
    """Appends a new key as one line."""
    made = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    line = json.dumps({"key": secrets.token_hex(4), "made": made, "secret": secrets.token_hex(32)}) + "\n"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | flags, _MODE)
    try:
        os.write(file, line.encode())
        os.fsync(file)
    finally:
        os.close(file)
