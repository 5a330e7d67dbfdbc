"""Hash-chained seals on the rows of a ledger, which reveal rows that another program changed, added or deleted.

Every transaction of this library seals the rows that it wrote: table, key, and hash of the content (empty for a deleted
row). The hash of a seal covers the previous seal. Temporary triggers record which rows a transaction wrote, so rows of
another program have no seal.

The file alone does not reveal a consistent rewrite of the whole chain. Keep the head that ``jobs.ledger verify`` prints
in another place, and pass it to the next call.
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
"""Key columns of each table."""
_FIRST = "0" * 64


@dataclass(frozen=True, kw_only=True)
class Broken:
    """The first row that differs from its seal."""

    place: str
    """Table of the row; ``seals`` where the chain itself is broken."""
    key: tuple[object, ...]
    what: str
    """What is wrong with the row, as text."""

    def __str__(self) -> str:
        return f"row {', '.join(map(str, self.key))} of table {self.place} {self.what}"


def note_writes(connection: sqlite3.Connection) -> None:
    """Makes this connection record which rows it writes, for ``seal``.

    Args:
        connection: to the ledger.
    """
    connection.execute("CREATE TEMP TABLE written (place TEXT, key TEXT, PRIMARY KEY (place, key))")
    for place, columns in KEYS.items():
        for event, row in (("INSERT", "NEW"), ("UPDATE", "OLD"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
            key = f"json_array({', '.join(f'{row}.{column}' for column in columns)})"
            connection.execute(
                f"CREATE TEMP TRIGGER seal_{place}_{event}_{row} AFTER {event} ON main.{place} BEGIN "
                f"INSERT OR IGNORE INTO written VALUES ('{place}', {key}); END"
            )


def seal(connection: sqlite3.Connection) -> None:
    """Seals the rows that this transaction wrote.

    Args:
        connection: with an open transaction; see ``note_writes``.
    """
    written = [
        (str(row[0]), str(row[1])) for row in connection.execute("SELECT place, key FROM written ORDER BY rowid")
    ]
    _append(connection, written)
    connection.execute("DELETE FROM written")


def seal_all(connection: sqlite3.Connection) -> None:
    """Seals every row in its present state, for a ledger without seals.

    Args:
        connection: with an open transaction.
    """
    _append(connection, [(place, key) for place in KEYS for key in _contents(connection, place)])


def head(connection: sqlite3.Connection) -> str:
    """Returns the hash of the last seal.

    Args:
        connection: to the ledger.

    Returns:
        The hash in hexadecimal.
    """
    last = connection.execute("SELECT hash FROM seals ORDER BY number DESC LIMIT 1").fetchone()
    return _FIRST if last is None else str(last[0])


def holds(connection: sqlite3.Connection, hashed: str) -> bool:
    """Returns whether a hash is that of a seal of this ledger: then the ledger continues from that state.

    Args:
        connection: to the ledger.
        hashed: an earlier result of ``head``.

    Returns:
        True if there is such a seal.
    """
    return connection.execute("SELECT 1 FROM seals WHERE hash = ?", (hashed,)).fetchone() is not None


def broken(connection: sqlite3.Connection) -> Broken | None:
    """Returns the first row, in the order of sealing, that another program changed, added or deleted.

    Args:
        connection: to the ledger.

    Returns:
        The row; None if all rows match their seals.
    """
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
    present = {(place, key): content for place in KEYS for key, content in _contents(connection, place).items()}
    wrong = [
        (number, row, "is missing" if row not in present else "was changed" if content else "was put back")
        for row, (number, content) in sealed.items()
        if present.get(row, "") != content
    ]
    wrong += [(count + 1, row, "was added") for row in present if row not in sealed]
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
    """Returns the hash of a row; empty if there is none."""
    where = " AND ".join(f"{column} IS ?" for column in KEYS[place])
    row = connection.execute(f"SELECT * FROM {place} WHERE {where}", json.loads(key)).fetchone()
    return "" if row is None else _hash_of_row(tuple(row))


def _contents(connection: sqlite3.Connection, place: str) -> dict[str, str]:
    """Returns the hash of every row of a table, by its key."""
    columns = KEYS[place]
    rows = connection.execute(f"SELECT json_array({', '.join(columns)}), * FROM {place}")
    return {str(row[0]): _hash_of_row(tuple(row)[1:]) for row in rows}


def _hash_of_row(values: tuple[object, ...]) -> str:
    plain = [value.hex() if isinstance(value, bytes) else value for value in values]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()


def _hash(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
