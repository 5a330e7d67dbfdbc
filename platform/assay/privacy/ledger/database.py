"""The file of one ledger: SQLite in WAL mode, whole transactions, one writer at a time and others who wait."""

import re
import socket
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from assay.errors import LedgerError
from assay.privacy.unit import NEIGHBOURS

PATIENCE = 120.0
"""Seconds that a writer waits for another: composing a long plan takes some."""
_FIND_AGAIN = (
    "Name its folder with --ledger or ASSAY_LEDGER (ledger=FOLDER where a model is served), run on that machine, or, "
    "while no job uses it, move its file here"
)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value NOT NULL);
CREATE TABLE IF NOT EXISTS budgets (at TEXT NOT NULL, epsilon REAL NOT NULL, delta REAL NOT NULL, reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS processing (
    id INTEGER PRIMARY KEY, purpose TEXT NOT NULL, legal_basis TEXT NOT NULL, until TEXT NOT NULL,
    UNIQUE (purpose, legal_basis, until));
CREATE TABLE IF NOT EXISTS parts (id TEXT PRIMARY KEY, roles BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS experiments (
    trial TEXT NOT NULL, results TEXT NOT NULL, label TEXT NOT NULL, noise TEXT NOT NULL, at TEXT NOT NULL,
    error TEXT NOT NULL, parts TEXT NOT NULL, processing INTEGER NOT NULL, erased TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (trial, results));
CREATE TABLE IF NOT EXISTS charges (
    trial TEXT NOT NULL, artefact TEXT NOT NULL, label TEXT NOT NULL, mechanisms TEXT NOT NULL, state TEXT NOT NULL,
    plan TEXT NOT NULL, reserved TEXT NOT NULL, released TEXT NOT NULL, processing INTEGER,
    PRIMARY KEY (trial, artefact));
CREATE TABLE IF NOT EXISTS departures (
    trial TEXT NOT NULL, artefact TEXT NOT NULL, how TEXT NOT NULL, at TEXT NOT NULL,
    PRIMARY KEY (trial, artefact, how));
CREATE TABLE IF NOT EXISTS erasures (at TEXT NOT NULL, asked TEXT NOT NULL, erased TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS trainings (
    trial TEXT NOT NULL, results TEXT NOT NULL, number INTEGER NOT NULL, artefact TEXT NOT NULL,
    mechanisms TEXT NOT NULL, objection TEXT NOT NULL, ended TEXT NOT NULL, PRIMARY KEY (trial, results, number));
"""


@dataclass(frozen=True, kw_only=True)
class Collection:
    """The records that one ledger guards."""

    digest: str
    """Hash of their content, ``Dataset.identity``: names the ledger."""
    name: str
    records: int
    licence: str = "unknown"
    patients: bytes = b""
    """``PATIENT_BYTES`` a record, compressed: ``patient_hash`` of name and patient's ID; empty where they have none."""
    most_of_a_patient: int = 1
    """Records of the patient who has the most."""

    @property
    def file(self) -> str:
        """Name of its ledger: readable, and told from others by the content."""
        return f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', self.name).strip('-.') or 'data'}-{self.digest[:8]}.sqlite"


@dataclass(frozen=True, kw_only=True)
class Mark:
    """By which whoever used a ledger finds it again, and takes no other for it."""

    id: str
    """The ledger's own, wherever its file is moved."""
    place: str
    """Where its file was: path and machine."""


class Database:
    """One file, opened for each transaction: it survives forks and kills, and a reader never waits for a writer.

    Args:
        path: of a ledger that exists; ``create`` makes one.

    Raises:
        LedgerError: there is none, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise LedgerError(f"there is no ledger {str(path)!r}; a study makes one when its first trial is run")
        with self._reading() as rows:
            self._about = {str(row["key"]): row["value"] for row in rows.execute("SELECT key, value FROM about")}

    @classmethod
    def create(cls, folder: Path, collection: Collection, known: Mark | None = None) -> Self:
        """The ledger of a data set in a folder, made if it is not there yet.

        Args:
            known: of the ledger that was used before: then it must be that one, and none is made.

        Raises:
            LedgerError: the folder cannot be written, or holds the ledger of other data under this name; or the ledger
                that was used before is not there.
        """
        # By content: the same records under another name have the same account.
        lying = sorted(folder.glob(f"*-{collection.digest[:8]}.sqlite"))
        known_here = [path for path in lying if known is not None and cls(path)._about.get("id") == known.id]
        path = next(iter(known_here or lying), folder / collection.file)
        if known is not None and not path.is_file():
            raise LedgerError(
                f"the ledger of {collection.name} was {known.place}, and there is none in {_on_machine(folder)}; a new "
                f"one would forget what was spent. {_FIND_AGAIN}"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerError(f"the ledger cannot be kept in {str(folder)!r}: {error}; name another folder") from None
        _make(path, collection)
        made = cls(path)
        if made.about("digest") != collection.digest:
            raise LedgerError(f"ledger {str(path)!r} belongs to other data, {made.about('digest')}; move it away")
        if known is not None and made.about("id") != known.id:
            raise LedgerError(
                f"the ledger of {collection.name} was {known.place}, and {_on_machine(path)} is another one, which "
                f"knows nothing of what was spent there. {_FIND_AGAIN}"
            )
        return made

    def mark(self) -> Mark:
        """By which it is found again."""
        return Mark(id=self.about("id"), place=_on_machine(self.path))

    def about(self, key: str) -> str:
        return str(self._about[key])

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self.about("name")

    @property
    def records(self) -> int:
        return int(self.about("records"))

    @contextmanager
    def _writing(self, *, undone: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction that sees and changes everything alone, whole or not at all.

        Args:
            undone: change nothing in the end: to see what would be refused.
        """
        with _connected(self.path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("ROLLBACK" if undone else "COMMIT")

    @contextmanager
    def _folder_locked(self) -> Iterator[None]:
        """Alone among all who release from any ledger of the folder: one may be another account of the same people."""
        import fcntl

        with (self.path.parent / ".releasing").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with _connected(self.path) as connection:
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")


def _on_machine(path: Path) -> str:
    return f"{path} on {socket.gethostname()}"


def now() -> str:
    """The moment, as the ledger writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _make(path: Path, collection: Collection) -> None:
    about = {
        # Entropy of the machine, not a seed: no two ledgers may share it.
        "id": uuid.uuid4().hex,
        "digest": collection.digest,
        "name": collection.name,
        "records": collection.records,
        "licence": collection.licence,
        "patients": collection.patients,
        # By the name, which all ledgers of these people share: those of an earlier version hashed by their digest.
        "salt": collection.name,
        "most_of_a_patient": collection.most_of_a_patient,
        "neighbours": " or ".join(NEIGHBOURS.values()),
        "made": now(),
    }
    with _connected(path) as connection:
        # Of one that an earlier version made, what is missing is added.
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'trainings'").fetchone():
            return
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.executemany("INSERT OR IGNORE INTO about VALUES (?, ?)", about.items())
        connection.execute("COMMIT")


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)) as connection:
            connection.row_factory = sqlite3.Row
            _set_up(connection)
            yield connection
    except sqlite3.Error as error:
        raise LedgerError(
            f"ledger {str(path)!r}: {error}; it must lie in a folder that we may write, on a disk of this machine, or "
            "on a shared one of which a single cluster's actor writes it"
        ) from None


def _set_up(connection: sqlite3.Connection) -> None:
    """WAL, and every commit on the disk. Two who switch a new file to WAL at once are told so, and not made to wait."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
    connection.execute("PRAGMA synchronous = FULL")
