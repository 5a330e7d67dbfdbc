"""The file of one ledger: SQLite in WAL mode, with whole transactions and one writer at a time."""

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
from assay.ledger import chain
from assay.privacy.unit import NEIGHBOURS

WRITE_TIMEOUT = 120.0
"""Seconds that a writer waits for another one: the composition of a long plan takes some time."""
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
    """The data set of one ledger."""

    digest: str
    """Hash of the records, ``Dataset.identity``; part of the file name of the ledger."""
    name: str
    records: int
    licence: str = "unknown"
    patients: bytes = b""
    """``patient_hash`` of each record, ``PATIENT_BYTES`` long, compressed; empty where records name no patients."""
    most_of_a_patient: int = 1
    """Greatest number of records of one patient."""

    @property
    def file(self) -> str:
        """File name of the ledger: the name of the data set and a hash of its content."""
        return f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', self.name).strip('-.') or 'data'}-{self.digest[:8]}.sqlite"


@dataclass(frozen=True, kw_only=True)
class LedgerMark:
    """Identity and place of a ledger, by which a study finds it again."""

    id: str
    """Identifier of the ledger; it stays the same when the file is moved."""
    place: str
    """Path and machine of the file when it was last used."""


class LedgerFile:
    """A ledger file, opened for each transaction. So it survives forks and kills, and readers never wait for writers.

    Args:
        path: of an existing ledger; ``create`` makes a new one.

    Raises:
        LedgerError: there is none, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise LedgerError(f"there is no ledger {str(path)!r}; a study makes one when its first trial is run")
        with connected(path) as rows:
            self.facts = {str(row["key"]): row["value"] for row in rows.execute("SELECT key, value FROM about")}
        """Facts about the data set, stored when the ledger is created."""

    @classmethod
    def create(cls, folder: Path, collection: Collection, known: LedgerMark | None = None) -> Self:
        """Opens the ledger of a data set in a folder, or creates it.

        Args:
            folder: of the ledgers.
            collection: the data set.
            known: mark of the ledger that was used before: the ledger must be that one, and no new one is created.

        Returns:
            The ledger.

        Raises:
            LedgerError: the folder cannot be written, or holds a ledger of other data under this name; or the ledger
                that was used before is missing.
        """
        # By content: the same records under another name have the same account.
        existing = sorted(folder.glob(f"*-{collection.digest[:8]}.sqlite"))
        used_before = [path for path in existing if known is not None and cls(path).facts.get("id") == known.id]
        path = next(iter(used_before or existing), folder / collection.file)
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
        ledger = cls(path)
        if ledger.about("digest") != collection.digest:
            raise LedgerError(f"ledger {str(path)!r} belongs to other data, {ledger.about('digest')}; move it away")
        if known is not None and ledger.about("id") != known.id:
            raise LedgerError(
                f"the ledger of {collection.name} was {known.place}, and {_on_machine(path)} is another one, which "
                f"knows nothing of what was spent there. {_FIND_AGAIN}"
            )
        return ledger

    def mark(self) -> LedgerMark:
        """Returns identity and place of the ledger; see ``LedgerProtocol.mark``."""
        return LedgerMark(id=self.about("id"), place=_on_machine(self.path))

    def about(self, key: str) -> str:
        """Returns a fact that was stored when the ledger was created; see ``LedgerProtocol.about``."""
        return str(self.facts[key])

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self.about("name")

    @property
    def records(self) -> int:
        """Number of records of the data set."""
        return int(self.about("records"))

    def verify(self, head: str = "") -> str:
        """Checks that every row is as it was written; see ``LedgerProtocol.verify``."""
        with self.reading() as db:
            if not _is_sealed(db) and not _lost_seals(db):
                return ""
            self._require_unbroken(db)
            if head and not chain.holds(db, head):
                raise LedgerError(
                    f"ledger {str(self.path)!r} does not go on from {head}: it is another one, or an older copy, which "
                    "has forgotten what was spent since. Put the right file back, from a backup if need be",
                    setting="--head",
                    given=head,
                    allowed="a head that this ledger has had",
                )
            return chain.head(db)

    @contextmanager
    def writing(self, *, undone: bool = False, verified: bool = False) -> Iterator[sqlite3.Connection]:
        """Opens an exclusive write transaction, which is committed whole or not at all.

        Args:
            undone: roll back at the end: shows which errors a change would raise.
            verified: raise an error at once if another program changed the ledger.

        Returns:
            Context manager; its value is the connection.

        Raises:
            LedgerError: another program changed the ledger, or the file cannot be written.
        """
        with connected(self.path, writing=True) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                self._require_same_file(connection)
                if verified:
                    self._require_unbroken(connection)
                yield connection
                chain.seal(connection)
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("ROLLBACK" if undone else "COMMIT")

    @contextmanager
    def folder_locked(self) -> Iterator[None]:
        """Locks the folder of the ledgers against other releases: another ledger may concern the same patients."""
        with locked(self.path.parent / ".releasing"):
            yield

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Opens a read transaction.

        Returns:
            Context manager; its value is the connection.
        """
        with connected(self.path) as connection:
            connection.execute("BEGIN")
            self._require_same_file(connection)
            yield connection
            connection.execute("COMMIT")

    def _require_same_file(self, db: sqlite3.Connection) -> None:
        """Raises an error if another file has replaced the one that was opened."""
        row = db.execute("SELECT value FROM about WHERE key = 'id'").fetchone()
        if row is not None and row["value"] != self.facts.get("id", row["value"]):
            raise LedgerError(
                f"ledger {str(self.path)!r} is not the one that was opened: another was put in its place, which knows "
                f"nothing of what was spent. {_FIND_AGAIN}"
            )

    def _require_unbroken(self, db: sqlite3.Connection) -> None:
        """Raises an error if a row differs from its seal.

        Raises:
            LedgerError: names the first that is not.
        """
        if (wrong := chain.broken(db)) is not None:
            raise LedgerError(
                f"ledger {str(self.path)!r} was changed by another hand: {wrong}. What it counts is no longer what was "
                "spent, so nothing is charged to it: put a backup in its place, or begin a new account under another "
                "name of the data, with a budget less all that may have been spent (jobs.ledger verify tells whether a "
                "file is whole)",
                setting=wrong.place,
                given=wrong.key,
                allowed="the row as it was written",
            )


def _on_machine(path: Path) -> str:
    return f"{path} on {socket.gethostname()}"


def now() -> str:
    """Returns the current time in the format of the ledger.

    Returns:
        UTC time in ISO 8601, to the second.
    """
    return datetime.now(UTC).isoformat(timespec="seconds")


def _make(path: Path, collection: Collection) -> None:
    about = {
        # Random, not derived from a seed: every ledger needs its own.
        "id": uuid.uuid4().hex,
        "digest": collection.digest,
        "name": collection.name,
        "records": collection.records,
        "licence": collection.licence,
        "patients": collection.patients,
        # The name of the data, which all ledgers of these patients share. Earlier versions used the digest.
        "salt": collection.name,
        "most_of_a_patient": collection.most_of_a_patient,
        "neighbours": " or ".join(NEIGHBOURS.values()),
        "made": now(),
    }
    with locked(path.parent / ".making"):
        if path.exists():
            with connected(path) as connection:
                if not _is_sealed(connection):
                    _seal_earlier(connection, path, about)
            return
        # Written under another name first: an existing ledger is complete, so an empty one has lost its content.
        draft = path.with_name(f".{path.name}.{about['id']}")
        with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            _lay_out(connection, about)
        draft.replace(path)


def _seal_earlier(connection: sqlite3.Connection, path: Path, about: dict[str, object]) -> None:
    """Adds the tables that an earlier version did not have, and seals its rows as they are.

    Raises:
        LedgerError: it had seals, and another program removed them.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _is_sealed(connection):
            if _lost_seals(connection):
                raise LedgerError(
                    f"ledger {str(path)!r} was changed by another hand: its table seals is gone. Put a backup in its "
                    "place, or begin a new account under another name of the data, with a budget less all that may "
                    "have been spent",
                    setting="seals",
                    given="no table",
                    allowed="the table as it was written",
                )
            _lay_out(connection, about)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _lost_seals(connection: sqlite3.Connection) -> bool:
    """Returns whether a ledger without seals once had them."""
    return connection.execute("SELECT 1 FROM about WHERE key = 'sealed'").fetchone() is not None


def _lay_out(connection: sqlite3.Connection, about: dict[str, object]) -> None:
    for statement in (*_SCHEMA.split(";"), chain.CHAIN_SCHEMA):
        connection.execute(statement)
    connection.executemany("INSERT OR IGNORE INTO about VALUES (?, ?)", {**about, "sealed": now()}.items())
    # An earlier version kept a training that had begun as a reservation.
    connection.execute(
        """UPDATE OR IGNORE charges SET state = 'trained', artefact = (SELECT artefact FROM trainings
        WHERE trainings.trial = charges.trial ORDER BY trainings.rowid DESC LIMIT 1)
        WHERE state = 'reserved' AND artefact = '' AND plan = ''
        AND EXISTS (SELECT 1 FROM trainings WHERE trainings.trial = charges.trial)"""
    )
    chain.seal_all(connection)


def _is_sealed(connection: sqlite3.Connection) -> bool:
    """Returns whether the rows have seals; those of an earlier version have none."""
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'seals'").fetchone() is not None


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Holds a lock on a file within the block, against all processes of this machine.

    Args:
        file: created if it is missing.

    Raises:
        LedgerError: the folder cannot be written.
    """
    import fcntl

    try:
        handle = file.open("w")
    except OSError as error:
        raise LedgerError(
            f"ledgers in {str(file.parent)!r} cannot be written: {error}; let us write there, or name another folder "
            "with --ledger",
            setting="--ledger",
            given=str(file.parent),
        ) from None
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def connected(path: Path, *, writing: bool = False) -> Iterator[sqlite3.Connection]:
    """Opens a connection to an existing ledger.

    Args:
        path: of the ledger.
        writing: whether rows may be written, and will be sealed; a ledger of an earlier version is sealed first.

    Returns:
        Context manager; its value is the connection.

    Raises:
        LedgerError: the ledger is missing, empty, damaged or not a ledger, or cannot be written; says what to do.
    """
    try:
        size = path.stat().st_size
    except OSError:
        size = -1
    if size <= 0:
        what = "is empty (0 bytes): whatever it held is lost" if size == 0 else "is not there any more"
        raise LedgerError(
            f"ledger {str(path)!r} {what}, and a new one would forget what was spent. Put it back, from a backup if "
            "need be; if nothing was ever released of these data, delete what is left, and a study makes a new one",
            setting=str(path),
            given=f"{max(size, 0)} bytes",
            allowed="the ledger that was kept",
        )
    try:
        uri = f"{path.resolve().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, timeout=WRITE_TIMEOUT, isolation_level=None)) as connection:
            connection.row_factory = sqlite3.Row
            if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'about'").fetchone() is None:
                raise sqlite3.DatabaseError("no such table: about")
            _set_up(connection)
            if writing:
                if not _is_sealed(connection):
                    _seal_earlier(connection, path, {})
                chain.note_writes(connection)
            yield connection
    except sqlite3.Error as error:
        raise LedgerError(
            f"ledger {str(path)!r}: {error}; {_remedy(error)}", setting=str(path), given=str(error)
        ) from None


def _remedy(error: sqlite3.Error) -> str:
    """Returns what a user can do about an error of SQLite."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")) or "no such table" in str(error):
        return (
            "the file is damaged, cut short or no ledger: put a backup in its place. A new ledger would forget what "
            "was spent, so delete the file only if nothing was ever released of these data"
        )
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return "we may not write there: let us write the file and its folder, or name another folder with --ledger"
    return (
        "it must lie in a folder that we may write, on a disk of this machine, or on a shared one of which a single "
        "cluster's actor writes it"
    )


def _set_up(connection: sqlite3.Connection) -> None:
    """Switches to WAL, and syncs every commit. It retries, since SQLite refuses simultaneous switches of a new file."""
    until = time.monotonic() + WRITE_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
    connection.execute("PRAGMA synchronous = FULL")
