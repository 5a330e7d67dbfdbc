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
from assay.ledger import chain
from assay.privacy.unit import NEIGHBOURS

WRITE_TIMEOUT = 120.0
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
class LedgerMark:
    """By which whoever used a ledger finds it again, and takes no other for it."""

    id: str
    """The ledger's own, wherever its file is moved."""
    place: str
    """Where its file was: path and machine."""


class LedgerFile:
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
        with connected(path) as rows:
            self.facts = {str(row["key"]): row["value"] for row in rows.execute("SELECT key, value FROM about")}
        """What is noted of the data set when its ledger is made."""

    @classmethod
    def create(cls, folder: Path, collection: Collection, known: LedgerMark | None = None) -> Self:
        """The ledger of a data set in a folder, made if it is not there yet.

        Args:
            known: of the ledger that was used before: then it must be that one, and none is made.

        Raises:
            LedgerError: the folder cannot be written, or holds the ledger of other data under this name; or the ledger
                that was used before is not there.
        """
        # By content: the same records under another name have the same account.
        lying = sorted(folder.glob(f"*-{collection.digest[:8]}.sqlite"))
        known_here = [path for path in lying if known is not None and cls(path).facts.get("id") == known.id]
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

    def mark(self) -> LedgerMark:
        """By which it is found again."""
        return LedgerMark(id=self.about("id"), place=_on_machine(self.path))

    def about(self, key: str) -> str:
        return str(self.facts[key])

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self.about("name")

    @property
    def records(self) -> int:
        return int(self.about("records"))

    def verify(self, head: str = "") -> str:
        """Check that every row is as it was written, and that none was added or deleted by another hand.

        Args:
            head: what an earlier call returned and was kept elsewhere; the ledger must go on from there.

        Returns:
            The hash of the last seal, to be kept elsewhere; empty of a ledger of an earlier version, whose rows are
            sealed when it is next written to.

        Raises:
            LedgerError: names the first row that is not as it was written; or ``head`` is none of this ledger.
        """
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
        """A transaction that sees and changes everything alone, whole or not at all.

        Args:
            undone: change nothing in the end: to see what would be refused.
            verified: refuse at once if another hand has changed the ledger.
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
        """Alone among all who release from any ledger of the folder: one may be another account of the same people."""
        with locked(self.path.parent / ".releasing"):
            yield

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        with connected(self.path) as connection:
            connection.execute("BEGIN")
            self._require_same_file(connection)
            yield connection
            connection.execute("COMMIT")

    def _require_same_file(self, db: sqlite3.Connection) -> None:
        """Raises LedgerError unless the file is still the one that was opened."""
        found = db.execute("SELECT value FROM about WHERE key = 'id'").fetchone()
        if found is not None and found["value"] != self.facts.get("id", found["value"]):
            raise LedgerError(
                f"ledger {str(self.path)!r} is not the one that was opened: another was put in its place, which knows "
                f"nothing of what was spent. {_FIND_AGAIN}"
            )

    def _require_unbroken(self, db: sqlite3.Connection) -> None:
        """Raises LedgerError unless all rows are as they were sealed.

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
    with locked(path.parent / ".making"):
        if path.exists():
            with connected(path) as connection:
                if not _is_sealed(connection):
                    _seal_earlier(connection, path, about)
            return
        # Under another name first: a ledger that is there is whole, so one without content has lost it.
        draft = path.with_name(f".{path.name}.{about['id']}")
        with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            _lay_out(connection, about)
        draft.replace(path)


def _seal_earlier(connection: sqlite3.Connection, path: Path, about: dict[str, object]) -> None:
    """Add what an earlier version did not write to a ledger, and seal its rows as they are.

    Raises:
        LedgerError: it had seals, and another hand has taken them away.
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
    """Whether a ledger without seals once had them."""
    return connection.execute("SELECT 1 FROM about WHERE key = 'sealed'").fetchone() is not None


def _lay_out(connection: sqlite3.Connection, about: dict[str, object]) -> None:
    for statement in (*_SCHEMA.split(";"), chain.CHAIN_SCHEMA):
        connection.execute(statement)
    connection.executemany("INSERT OR IGNORE INTO about VALUES (?, ?)", {**about, "sealed": now()}.items())
    # An earlier version kept what had begun under the name of what had not.
    connection.execute(
        """UPDATE OR IGNORE charges SET state = 'trained', artefact = (SELECT artefact FROM trainings
        WHERE trainings.trial = charges.trial ORDER BY trainings.rowid DESC LIMIT 1)
        WHERE state = 'reserved' AND artefact = '' AND plan = ''
        AND EXISTS (SELECT 1 FROM trainings WHERE trainings.trial = charges.trial)"""
    )
    chain.seal_all(connection)


def _is_sealed(connection: sqlite3.Connection) -> bool:
    """Whether its rows have seals; those of an earlier version have none."""
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'seals'").fetchone() is not None


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Alone among all processes of this machine that lock the same file."""
    import fcntl

    try:
        held = file.open("w")
    except OSError as error:
        raise LedgerError(
            f"ledgers in {str(file.parent)!r} cannot be written: {error}; let us write there, or name another folder "
            "with --ledger",
            setting="--ledger",
            given=str(file.parent),
        ) from None
    with held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


@contextmanager
def connected(path: Path, *, writing: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection to a ledger that is there; none is made.

    Args:
        writing: rows may be written, and are to be sealed; a ledger of an earlier version gets its seals first.

    Raises:
        LedgerError: it is gone, empty, damaged or no ledger, or cannot be written; says what to do.
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
    """What to do about what SQLite says of a file."""
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
    """WAL, and every commit on the disk. Two who switch a new file to WAL at once are told so, and not made to wait."""
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
