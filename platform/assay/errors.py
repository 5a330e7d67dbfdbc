"""What can go wrong, in words a user can act on.

A user's mistake is a ``UserError``: its message names the value given, what is allowed, and what to do, and its fields
hold the same for programs and tests. All of it survives pickling when Ray carries an error between processes.
"""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class UserError(ValueError):
    """Something the user gave cannot be used as it is.

    Args:
        message: the value given, what is allowed and what to do; shown to the user as it stands.
        setting: name of the setting, option, column, feature or file that the message is about.
        given: the value that was refused, or the figure that passed a limit.
        allowed: the limit, or the values that would be accepted.
    """

    def __init__(self, message: str, *, setting: str = "", given: Any = None, allowed: Any = None) -> None:
        super().__init__(message)
        self.setting = setting
        self.given = given
        self.allowed = allowed


class SpecError(UserError):
    """A study file, a preset or a ``--set`` says something that no study can mean."""


class DataError(UserError):
    """A data file cannot be read, or what it holds cannot be evaluated."""


class CheckpointError(UserError):
    """A file of weights cannot be read, or does not fit the model."""


class StorageError(UserError):
    """A folder or a file cannot be used: full, read-only, forbidden, or another thing is in its place."""


class IncompatibleRecipeError(UserError):
    """A recipe asks for two things that exclude each other."""


class LedgerError(UserError):
    """The ledger of a data set does not allow what is asked of it, or cannot be read or written."""


class BudgetError(LedgerError):
    """The budget of a ledger does not hold what was asked."""


class FederationError(RuntimeError):
    """A federated round lost a client or passed its deadline."""


class TrainingError(RuntimeError):
    """Training cannot go on: the loss or the weights are no longer finite."""


_REASONS = {
    errno.ENOSPC: ("the disk is full", "free some space"),
    errno.EDQUOT: ("the disk quota is used up", "free some space"),
    errno.EFBIG: ("the file would be larger than the system allows", "raise the limit"),
    errno.EROFS: ("the file system is read-only", "choose a folder that can be written"),
    errno.EACCES: ("permission is denied", "change its permissions, or choose another place"),
    errno.EPERM: ("the operation is not permitted", "change its permissions, or choose another place"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "move that file, or choose another place"),
    errno.EEXIST: ("a file of that name is in the way", "move that file, or choose another place"),
    errno.ENOENT: ("there is no such place, and it cannot be made", "choose another place"),
    errno.EISDIR: ("it is a folder, not a file", "name a file"),
    errno.ENAMETOOLONG: ("the name is too long", "choose a shorter one"),
    errno.EIO: ("the disk reports an input or output error", "check the disk"),
}
"""What the system says of files, and what a user can do about it."""
_REMOTE = re.compile(
    r"\bAWS Error\b|\bS3\b|\bbucket\b|google::cloud|\bGcs\b|\bgcs\b|Azure|\bHDFS\b|\bhdfs\b|curlCode", re.IGNORECASE
)
"""Words of pyarrow's errors about stores that are reached by network."""


def storage_error(error: OSError, *, path: str = "", setting: str = "") -> StorageError | None:
    """The user's error that an error of the file system is; None where it is none that a user can mend.

    Args:
        error: as the system raised it, or pyarrow, which may tell its number in words alone.
        path: what was read or written, where the error does not say.
        setting: that names the place.
    """
    remote = _remote(error, path, setting)
    if remote is not None:
        return remote
    told = re.search(r"\[errno (\d+)\]", str(error), re.IGNORECASE)
    number = error.errno or (int(told[1]) if told else None)
    if number not in _REASONS or (number == errno.ENOENT and not path):
        return None
    reason, mend = _REASONS[number]
    where = path or str(error.filename or "a file")
    named = f" ({setting})" if setting else ""
    return StorageError(
        f"{where!r} cannot be read or written: {reason}; {mend}{named}. What was finished before is kept",
        setting=setting,
        given=where,
    )


def _remote(error: OSError, path: str, setting: str) -> StorageError | None:
    """The error of a store that is reached by network, which pyarrow tells in words alone; None of any other."""
    said = str(error)
    if error.errno is not None or re.search(r"\[errno \d+\]", said, re.IGNORECASE) or not _REMOTE.search(said):
        return None
    named = re.search(r"bucket '([^']+)'", said) or re.search(r"'([^']+)'", said)
    where = path or (named[1] if named else "a remote store")
    return StorageError(
        f"{where!r} cannot be reached, read or written: {said}; check the address, the credentials and the network"
        + (f" ({setting})" if setting else ""),
        setting=setting,
        given=where,
    )


@contextmanager
def storage_errors(path: str, *, setting: str) -> Iterator[None]:
    """Turn errors of the file system inside the block into the user's error that names the path and the mend."""
    try:
        yield
    except OSError as error:
        told = storage_error(error, path=path, setting=setting)
        if told is None:
            raise
        raise told from error
