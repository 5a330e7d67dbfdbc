"""Deletion of files that are older than the retention, with a signed note in the chain, so that it stays verifiable."""

from datetime import date, timedelta
from pathlib import Path

from serve.audit_log.chain import Chain, lock_of, now, today
from serve.audit_log.files import LogFile, files_of
from serve.audit_log.keys import Keys
from serve.audit_log.lines import decode, hash_of

DAYS = 183
"""Default retention: six months (EU AI Act, Art. 19 and 26(6))."""


def expire(chain: Chain, days: int) -> list[str]:
    """Deletes the files of a chain that are older than the retention.

    First a note is written to the chain and is on disk: the names of the files, the last line in them and its hash,
    signed with a key of the log.

    Args:
        chain: open, with nothing left to write.
        days: retention.

    Returns:
        Names of the deleted files.

    Raises:
        OSError: the disk is full, or reports an error; nothing is then deleted.
    """
    own = files_of(chain.folder).get(chain.writer, [])
    old = [file for file in own if _too_old(file, days, today()) and file.number < chain.current.number]
    if not old:
        return []
    names = [file.name for file in old]
    last = _last_line(old)
    if last is not None:
        key = chain.keys.current
        sequence, hashed = last
        chain.add(
            {
                "event": "deleted",
                "time": now(),
                "files": names,
                "days": days,
                "last": sequence,
                "hash": hashed,
                "key": key.name,
                "signature": key.signature(*deletion(chain.writer, names, sequence, hashed)),
            }
        )
        chain.write()
        chain.sync()
    for file in old:
        file.path.unlink()
    return names


def expire_others(folder: Path, keys: Keys, own: str, days: int) -> None:
    """Does the same for chains that no process writes any more, all of whose files are too old.

    Args:
        folder: of the log.
        keys: of the log.
        own: writer of this process.
        days: retention.

    Raises:
        OSError: the disk is full, or reports an error.
    """
    for writer, files in files_of(folder).items():
        # All of them: a writer on another machine, whose lock may not be seen here, has a file of today.
        if writer == own or not all(_too_old(file, days, today()) for file in files):
            continue
        if len(files) == 1 and _only_a_note(files[0]):
            continue
        lock = lock_of(folder, writer)
        if lock is None:
            continue
        chain = Chain(folder, writer, lock, keys)
        try:
            chain.write()
            expire(chain, days)
        finally:
            chain.close()


def deletion(writer: str, names: list[str], last: int, hashed: str) -> tuple[object, ...]:
    """Returns the statement that a note of deletion signs.

    Args:
        writer: of the chain.
        names: of the deleted files.
        last: sequence number of the last line in them.
        hashed: its hash.
    """
    return ("deleted", writer, names, last, hashed)


def _too_old(file: LogFile, days: int, day: date) -> bool:
    return file.day + timedelta(days=days) < day


def _last_line(files: list[LogFile]) -> tuple[int, str] | None:
    for file in reversed(files):
        last: bytes | None = None
        for line, whole in file.lines():
            last = line if whole else last
        entry = None if last is None else decode(last)
        if last is not None and entry is not None:
            return entry["sequence"], hash_of(last)
    return None


def _only_a_note(file: LogFile) -> bool:
    """Returns whether a file holds nothing but what its chain needs: it would be replaced by another such file."""
    entries = [decode(line) for line, _ in file.lines()]
    return all(entry is not None and entry["event"] in ("file", "deleted") for entry in entries)
