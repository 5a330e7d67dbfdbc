"""Tokens: long random words, of which a file keeps only hashes, with what each allows and until when.

A token has 256 random bits, so that one SHA-256 of it tells nobody the token: slow hashes are for passwords, which can
be guessed. The file is one JSON object; it is replaced as a whole, and read again when it, its mode or its owner has
changed. Sessions of browsers are signed by the hashes, so that a file which others can read, or could have put there,
lets nobody in.
"""

import fcntl
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from assay.errors import UserError, storage_errors
from serve.auth.settings import SCOPES

logger = logging.getLogger(__name__)

PREFIX = "assay_"
"""Beginning of every token, by which scanners of code find one that was published."""
_MODE = 0o600
_AGAIN = 10.0
"""Seconds after which a file is read again that seems unchanged: who may write its folder is not seen by it."""


@dataclass(frozen=True)
class Identity:
    """A caller whose token was accepted."""

    name: str
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        """Returns whether the caller may do something.

        Args:
            scope: of ``SCOPES``; empty: what every caller may.
        """
        return not scope or scope in self.scopes or "admin" in self.scopes


@dataclass(frozen=True, kw_only=True)
class StoredToken:
    """What the file keeps of a token."""

    name: str
    hash: str
    scopes: tuple[str, ...]
    created: str
    expires: str | None = None

    def is_valid(self, now: datetime) -> bool:
        """Returns whether the token is accepted at a time."""
        return self.expires is None or now < datetime.fromisoformat(self.expires)

    @property
    def days(self) -> float | None:
        """Days from its making to its end; None without an end."""
        if self.expires is None:
            return None
        return (datetime.fromisoformat(self.expires) - datetime.fromisoformat(self.created)) / timedelta(days=1)

    @property
    def identity(self) -> Identity:
        """The caller that has this token."""
        return Identity(self.name, frozenset(self.scopes))


class TokenFile:
    """Tokens of a file, as a service reads them.

    Args:
        path: of the file. Without it, or if it cannot be read, no token is accepted.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._read_at: tuple[int, ...] | None = None
        self._until = 0.0
        self._tokens: Sequence[StoredToken] = ()
        self._told = ""

    def find(self, token: str, now: datetime | None = None) -> StoredToken | None:
        """Finds a token that a caller sent.

        Args:
            token: as sent.
            now: time; by default the present.

        Returns:
            What is kept of it; None if it is unknown or has expired.
        """
        digest = hash_of(token)
        found = None
        # All are compared, each in constant time, so that the time tells nothing of the hashes.
        for one in self.tokens():
            if hmac.compare_digest(one.hash, digest):
                found = one
        return found if found is not None and found.is_valid(now or datetime.now(UTC)) else None

    def tokens(self) -> Sequence[StoredToken]:
        """Returns all tokens of the file, as it is now."""
        try:
            status = self._path.stat()
            # The last one changes with mode and owner too.
            state = status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns
            if state != self._read_at or time.monotonic() > self._until:
                self._tokens = _read(self._path)
                self._read_at, self._told, self._until = state, "", time.monotonic() + _AGAIN
        except (OSError, UserError) as error:
            if str(error) != self._told:
                logger.error("no token is accepted: %s", error)
            self._tokens, self._read_at, self._told = (), None, str(error)
        return self._tokens


def hash_of(token: str) -> str:
    """Returns the hash under which a token is kept.

    Args:
        token: as callers send it.

    Returns:
        SHA-256 in hexadecimal digits.
    """
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def add_token(path: str | Path, name: str, *, scopes: Iterable[str], days: float | None) -> str:
    """Makes a token and writes its hash to a file.

    Args:
        path: of the file; it is made if absent.
        name: of the caller, for lists and the log of decisions.
        scopes: what it allows, of ``SCOPES``.
        days: after which it expires; None: never.

    Returns:
        The token. It is kept nowhere.

    Raises:
        UserError: name, scopes or days cannot be used, the name is taken, or the file cannot be read.
    """
    chosen = _checked(name, scopes, days)
    with _changing(path) as tokens:
        if any(one.name == name for one in tokens):
            raise UserError(f"there is a token {name!r} already; rotate or revoke it, or choose another name")
        token, stored = _make(name, chosen, days)
        tokens.append(stored)
    return token


def rotate_token(path: str | Path, name: str, *, keep_hours: float, days: float | None = None) -> str:
    """Makes a new token for a caller; the old one expires soon.

    Args:
        path: of the file.
        name: of the caller.
        keep_hours: how long the old token is accepted still.
        days: after which the new token expires; None: as long after its making as the old one.

    Returns:
        The new token, which allows what the old one allowed.

    Raises:
        UserError: there is no token of that name, or a duration cannot be used.
    """
    _require_duration("keep_hours", keep_hours, least=0)
    end = datetime.now(UTC) + timedelta(hours=keep_hours)
    with _changing(path) as tokens:
        old = _named(tokens, name)
        days = old[-1].days if days is None else days
        scopes = _checked(name, sorted({scope for one in old for scope in one.scopes}), days)
        for place, one in enumerate(tokens):
            if one.name == name and one.is_valid(end):
                tokens[place] = replace(one, expires=end.isoformat())
        token, stored = _make(name, scopes, days)
        tokens.append(stored)
    return token


def revoke_token(path: str | Path, name: str) -> None:
    """Removes all tokens of a caller; running services refuse them from their next call on.

    Args:
        path: of the file.
        name: of the caller.

    Raises:
        UserError: there is no token of that name.
    """
    with _changing(path) as tokens:
        _named(tokens, name)
        tokens[:] = [one for one in tokens if one.name != name]


def start_token(path: str | Path, name: str = "this start") -> str:
    """Makes the token whose address a start of the service prints; that of the last start is revoked.

    Args:
        path: of the file.
        name: under which it is kept.

    Returns:
        The token, which allows everything.
    """
    with _changing(path) as tokens:
        token, stored = _make(name, SCOPES, None)
        tokens[:] = [*(one for one in tokens if one.name != name), stored]
    return token


def read_tokens(path: str | Path) -> Sequence[StoredToken]:
    """Returns the tokens of a file.

    Args:
        path: of the file.

    Raises:
        UserError: the file is absent, no file of tokens, open to others, or another user's.
    """
    if not Path(path).exists():
        raise UserError(f"there is no file of tokens {str(path)!r}; python -m jobs.tokens add NAME makes it")
    return _read(Path(path))


def _make(name: str, scopes: Sequence[str], days: float | None) -> tuple[str, StoredToken]:
    token, now = PREFIX + secrets.token_urlsafe(32), datetime.now(UTC).replace(microsecond=0)
    expires = None if days is None else (now + timedelta(days=days)).isoformat()
    stored = StoredToken(name=name, hash=hash_of(token), scopes=tuple(scopes), created=now.isoformat(), expires=expires)
    return token, stored


def _checked(name: str, scopes: Iterable[str], days: float | None) -> list[str]:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}", name):
        raise UserError(
            "the name of a token has 1 to 64 letters, digits, spaces, '.', '_' or '-', the first a letter or a digit",
            setting="name",
        )
    chosen = sorted(set(scopes), key=list(SCOPES).index if set(scopes) <= set(SCOPES) else None)
    if not chosen or not set(chosen) <= set(SCOPES):
        raise UserError(
            f"scopes {', '.join(chosen) or 'none'}: give one or more of {', '.join(SCOPES)}",
            setting="scopes",
            given=chosen,
            allowed=SCOPES,
        )
    if days is not None:
        _require_duration("days", days, least=0.001)
    return chosen


def _require_duration(name: str, value: float, *, least: float) -> None:
    if not least <= value <= 36500:
        raise UserError(f"{name} must be from {least:g} to 36500, not {value:g}", setting=name, given=value)


def _named(tokens: Sequence[StoredToken], name: str) -> list[StoredToken]:
    found = [one for one in tokens if one.name == name]
    if not found:
        known = ", ".join(sorted({one.name for one in tokens})) or "none"
        raise UserError(f"there is no token {name!r}; there are: {known}", setting="name", given=name)
    return found


@contextmanager
def _changing(path: str | Path) -> Iterator[list[StoredToken]]:
    """Reads tokens, and writes what the block has made of them; one process at a time."""
    file = Path(path)
    with storage_errors(str(file), setting="file"):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(file.with_name(file.name + ".lock"), os.O_CREAT | os.O_RDWR, _MODE)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            tokens = list(_read(file)) if file.exists() else []
            yield tokens
            _write(file, tokens)
        finally:
            os.close(lock)


def _read(file: Path) -> Sequence[StoredToken]:
    _require_own_place(file)
    with file.open("rb") as opened:
        # Of the opened file: another one may lie there in the next moment.
        _require_private(file, os.fstat(opened.fileno()))
        content = opened.read()
    try:
        given: Any = json.loads(content)
        tokens = [StoredToken(**{**one, "scopes": tuple(one["scopes"])}) for one in given["tokens"]]
        for one in tokens:
            if not re.fullmatch(r"[0-9a-f]{64}", one.hash) or not set(one.scopes) <= set(SCOPES):
                raise ValueError
            one.is_valid(datetime.now(UTC))
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{str(file)!r} is no file of tokens; restore it, or make a new one", setting="file") from None
    return tokens


def _require_private(file: Path, status: os.stat_result) -> None:
    """Refuses a file that others can read, or that another user has made."""
    _require_owner(file, status)
    # A secret that Kubernetes mounts belongs to root, and to the group of the pod, which may read it.
    mounted = status.st_uid == 0 != os.getuid() and not status.st_mode & 0o037
    if status.st_mode & 0o077 and not mounted:
        raise UserError(f"{str(file)!r} can be read by others than its owner: chmod 600 it", setting="file")


def _require_own_place(file: Path) -> None:
    """Refuses a link that another user has made, and a folder in which everybody can replace the file.

    In a sticky folder, such as /tmp, only the owner of a file can.
    """
    if file.is_symlink():
        _require_owner(file, file.lstat())
    for folder in {file.parent, file.resolve().parent}:
        mode = folder.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise UserError(
                f"everybody can replace files in {str(folder)!r}, where {file.name!r} lies: chmod o-w it, or put the "
                "file into a folder of its own",
                setting="file",
            )


def _require_owner(file: Path, status: os.stat_result) -> None:
    if status.st_uid not in (0, os.getuid()):
        raise UserError(
            f"{str(file)!r} belongs to the user {status.st_uid}, who could let anyone in, and not to {os.getuid()}, "
            "who runs this: make the file as this user, or chown it",
            setting="file",
        )


def _write(file: Path, tokens: Sequence[StoredToken]) -> None:
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    content = json.dumps({"tokens": [asdict(one) for one in tokens]}, indent=1)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE), "w") as written:
        written.write(content)
        written.flush()
        os.fsync(written.fileno())
    temporary.replace(file)
