"""Seals on the rows of a ledger, chained by hash, so that a row changed, added or deleted by another hand is noticed.

Every transaction of ours seals the rows that it wrote: table, key, hash of the content, empty where the row is gone. A
seal's hash covers the seal before it. Temporary triggers tell which rows a transaction wrote, so what another program
writes has no seal.

Whoever rewrites the whole chain consistently is not caught by the file alone: keep the head that ``jobs.ledger verify``
prints elsewhere, and hand it to the next call.
"""

import hashlib
import json
import sqlite3
from dataclasses import dataclass

CHAIN_SCHEMA = """
CREATE TABLE IF NOT EXISTS seals (
    number INTEGER PRIMARY KEY AUTOINCREMENT, place TEXT NOT NULL, key TEXT NOT NULL, content TEXT NOT NULL,
    hash TEXT NOT NULL)
"""
KEYS = {
    "about": ("key",),
    "budgets": ("rowid",),
    "processing": ("id",),
    "parts": ("id",),
    "experiments": ("trial", "results"),
    "charges": ("trial", "artefact"),
    "departures": ("trial", "artefact", "how"),
    "erasures": ("rowid",),
    "trainings": ("trial", "results", "number"),
}
"""What names a row of each table."""
_FIRST = "0" * 64


@dataclass(frozen=True, kw_only=True)
class Broken:
    """The first row that is not as it was sealed."""

    place: str
    """Its table; ``seals`` where the chain itself is broken."""
    key: tuple[object, ...]
    what: str
    """What is wrong with it, in words."""

    def __str__(self) -> str:
        return f"row {', '.join(map(str, self.key))} of table {self.place} {self.what}"


def note_writes(connection: sqlite3.Connection) -> None:
    """Let this connection note which rows it writes, for ``seal``."""
    connection.execute("CREATE TEMP TABLE written (place TEXT, key TEXT, PRIMARY KEY (place, key))")
    for place, columns in KEYS.items():
        for event, row in (("INSERT", "NEW"), ("UPDATE", "OLD"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
            key = f"json_array({', '.join(f'{row}.{column}' for column in columns)})"
            connection.execute(
                f"CREATE TEMP TRIGGER seal_{place}_{event}_{row} AFTER {event} ON main.{place} BEGIN "
                f"INSERT OR IGNORE INTO written VALUES ('{place}', {key}); END"
            )


def seal(connection: sqlite3.Connection) -> None:
    """Seal the rows that this transaction wrote."""
    written = [
        (str(row[0]), str(row[1])) for row in connection.execute("SELECT place, key FROM written ORDER BY rowid")
    ]
    _append(connection, written)
    connection.execute("DELETE FROM written")


def seal_all(connection: sqlite3.Connection) -> None:
    """Seal every row as it stands, for a ledger that has no seals yet."""
    _append(connection, [(place, key) for place in KEYS for key in _contents(connection, place)])


def head(connection: sqlite3.Connection) -> str:
    """Returns the hash of the last seal."""
    last = connection.execute("SELECT hash FROM seals ORDER BY number DESC LIMIT 1").fetchone()
    return _FIRST if last is None else str(last[0])


def holds(connection: sqlite3.Connection, hashed: str) -> bool:
    """Whether a hash is that of some seal: the ledger goes on from the state of which it was the head."""
    return connection.execute("SELECT 1 FROM seals WHERE hash = ?", (hashed,)).fetchone() is not None


def broken(connection: sqlite3.Connection) -> Broken | None:
    """Returns the first row, in the order of sealing, that another hand has changed, added or deleted; None if none."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'seals'").fetchone() is None:
        return Broken(place="seals", key=(1,), what="is missing")
    sealed: dict[tuple[str, str], tuple[int, str]] = {}
    before, count = _FIRST, 0
    for number, place, key, content, hashed in connection.execute(
        "SELECT number, place, key, content, hash FROM seals ORDER BY number"
    ):
        count += 1
        if number != count:
            return Broken(place="seals", key=(count,), what="is missing")
        if hashed != _hash(before, place, key, content):
            return Broken(place="seals", key=(number,), what="is not the one that was written")
        sealed[place, key] = (number, content)
        before = hashed
    last = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'seals'").fetchone()
    if last is None or int(last[0]) != count:
        return Broken(place="seals", key=(count + 1,), what="is missing")
    found = {(place, key): content for place in KEYS for key, content in _contents(connection, place).items()}
    wrong = [
        (number, one, "is missing" if one not in found else "was changed" if content else "was put back")
        for one, (number, content) in sealed.items()
        if found.get(one, "") != content
    ]
    wrong += [(count + 1, one, "was added") for one in found if one not in sealed]
    if not wrong:
        return None
    _, (place, key), what = min(wrong)
    return Broken(place=place, key=tuple(json.loads(key)), what=f"{what} by another hand")


def _append(connection: sqlite3.Connection, rows: list[tuple[str, str]]) -> None:
    before = head(connection)
    for place, key in rows:
        content = _content(connection, place, key)
        before = _hash(before, place, key, content)
        connection.execute(
            "INSERT INTO seals (place, key, content, hash) VALUES (?, ?, ?, ?)", (place, key, content, before)
        )


def _content(connection: sqlite3.Connection, place: str, key: str) -> str:
    """Hash of a row; empty if there is none."""
    where = " AND ".join(f"{column} IS ?" for column in KEYS[place])
    row = connection.execute(f"SELECT * FROM {place} WHERE {where}", json.loads(key)).fetchone()
    return "" if row is None else _hash_of_row(tuple(row))


def _contents(connection: sqlite3.Connection, place: str) -> dict[str, str]:
    """Hash of every row of a table, by its key."""
    columns = KEYS[place]
    rows = connection.execute(f"SELECT json_array({', '.join(columns)}), * FROM {place}")
    return {str(row[0]): _hash_of_row(tuple(row)[1:]) for row in rows}


def _hash_of_row(values: tuple[object, ...]) -> str:
    plain = [value.hex() if isinstance(value, bytes) else value for value in values]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()


def _hash(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
