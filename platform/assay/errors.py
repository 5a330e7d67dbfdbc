"""Errors, with messages that a user can act on.

A user's mistake is a ``UserError``: its message gives the value, what is allowed, and what to do. Its fields hold the
same for programs and tests. All errors survive pickling when Ray carries them between processes.
"""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class UserError(ValueError):
    """Error about something the user gave that cannot be used.

    Args:
        message: the value given, what is allowed and what to do; shown to the user unchanged.
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
    """A study file, a preset or a ``--set`` is invalid."""


class DataError(UserError):
    """A data file cannot be read, or its content cannot be evaluated."""


class CheckpointError(UserError):
    """A file of weights cannot be read, or does not fit the model."""


class StorageError(UserError):
    """A folder or a file cannot be used: full, read-only, forbidden, or another thing is in its place."""


class IncompatibleRecipeError(UserError):
    """A recipe combines two choices that exclude each other."""


class LedgerError(UserError):
    """The ledger of a data set does not allow a request, or cannot be read or written."""


class BudgetError(LedgerError):
    """The remaining budget of a ledger is too small for a request."""


class FederationError(RuntimeError):
    """A federated round lost a client or passed its deadline."""


class TooFewClientsError(UserError, FederationError):
    """A strategy waits for more clients than there are, and no more will come."""


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
"""Error numbers of the file system: the reason, and what a user can do."""
_REMOTE = re.compile(
    r"\bAWS Error\b|\bS3\b|\bbucket\b|google::cloud|\bGcs\b|\bgcs\b|Azure|\bHDFS\b|\bhdfs\b|curlCode", re.IGNORECASE
)
"""Words in pyarrow's errors about remote stores."""


def storage_error(error: OSError, *, path: str = "", setting: str = "") -> StorageError | None:
    """Converts an error of the file system to an error for the user.

    Args:
        error: as the system raised it, or pyarrow, which may give the error number only in its message.
        path: the file, used where the error does not name it.
        setting: that names the place.

    Returns:
        The user's error; None where a user cannot fix the cause.
    """
    remote = _remote(error, path, setting)
    if remote is not None:
        return remote
    in_message = re.search(r"\[errno (\d+)\]", str(error), re.IGNORECASE)
    number = error.errno or (int(in_message[1]) if in_message else None)
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
    """Converts an error of a remote store, which pyarrow describes only in its message; None for any other error."""
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
    """Converts errors of the file system inside the block to an error for the user.

    Args:
        path: that the message names.
        setting: that names the place.

    Raises:
        StorageError: the path cannot be used; the message says why and what to do.
    """
    try:
        yield
    except OSError as error:
        for_user = storage_error(error, path=path, setting=setting)
        if for_user is None:
            raise
        raise for_user from error
