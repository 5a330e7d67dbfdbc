"""Errors carry what was given and what is allowed, survive pickling, and say what a disk did in a user's words."""

import errno
import pickle

import pytest

from assay.errors import BudgetError, DataError, StorageError, UserError, storage_error, storage_errors


@pytest.mark.parametrize("kind", [UserError, DataError, BudgetError, StorageError])
def test_fields_survive_pickling(kind: type[UserError]) -> None:
    error = pickle.loads(pickle.dumps(kind("too many", setting="epochs", given=9, allowed=(1, 5))))
    assert type(error) is kind
    assert (str(error), error.setting, error.given, error.allowed) == ("too many", "epochs", 9, (1, 5))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOTDIR, errno.EIO])
def test_a_disk_that_refuses_is_a_users_error_with_the_path(number: int) -> None:
    told = storage_error(OSError(number, "as the system says", "/results/trials"), setting="results")
    assert told is not None
    assert (told.setting, told.given) == ("results", "/results/trials")


def test_the_number_of_an_error_is_also_read_from_words() -> None:
    told = storage_error(OSError("Error writing bytes to file. Detail: [errno 28] No space left on device"), path="/r")
    assert told is not None
    assert told.given == "/r"


@pytest.mark.parametrize("error", [OSError(errno.ECONNREFUSED, "refused"), FileNotFoundError(errno.ENOENT, "x", "y")])
def test_other_errors_of_the_system_keep_their_traceback(error: OSError) -> None:
    assert storage_error(error) is None


def test_a_block_turns_errors_of_files_into_users_errors() -> None:
    with pytest.raises(StorageError) as caught, storage_errors("/results", setting="results"):
        raise OSError(errno.ENOSPC, "full")
    assert caught.value.given == "/results"
    with pytest.raises(ConnectionRefusedError), storage_errors("/results", setting="results"):
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")


@pytest.mark.parametrize(
    ("said", "path", "given"),
    [
        ("When listing objects under key 'f/' in bucket 'b': AWS Error NETWORK_CONNECTION: curlCode: 7", "", "b"),
        ("When getting information for key 'k' in bucket 'b': AWS Error ACCESS_DENIED", "s3://b/k", "s3://b/k"),
        ("google::cloud::Status(UNAVAILABLE: no connection)", "", "a remote store"),
    ],
)
def test_a_store_that_cannot_be_reached_is_a_users_error(said: str, path: str, given: str) -> None:
    told = storage_error(OSError(said), path=path, setting="results")
    assert told is not None
    assert (told.setting, told.given) == ("results", given)
