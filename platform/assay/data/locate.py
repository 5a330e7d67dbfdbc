"""Locates the files of a data set: the user's folder first, then Assay's cache, then a download where it is allowed."""

import hashlib
import os
from pathlib import Path

from assay.errors import DataError


def looked_in() -> list[Path]:
    """Returns the folders that are searched, with one subfolder for each data set: ``ASSAY_DATA``, then the cache."""
    given = os.environ.get("ASSAY_DATA", "")
    return [*([Path(given).expanduser()] if given else []), cache()]


def cache() -> Path:
    """Returns the folder of downloads and computed embeddings: ``ASSAY_CACHE``, or a folder in the user's cache."""
    given = os.environ.get("ASSAY_CACHE") or os.environ.get("XDG_CACHE_HOME", "~/.cache") + "/assay"
    return Path(given).expanduser()


def find(folder: str, *names: str) -> Path | None:
    """Returns the first existing file or folder.

    Args:
        folder: of the data set.
        names: files or folders in it, in order of preference; without any, the folder itself.

    Returns:
        The path, or None.
    """
    for root in looked_in():
        for name in names or ("",):
            if (root / folder / name).exists():
                return root / folder / name
    return None


def absent(dataset: str, *, wanted: str, obtain: str) -> DataError:
    """Returns the error for data that were not found.

    Args:
        dataset: name of the data set.
        wanted: path that was searched, below each folder.
        obtain: how a person obtains it: a command or an address.

    Returns:
        The error, to be raised.
    """
    places = ", ".join(str(root / wanted) for root in looked_in())
    return DataError(
        f"{dataset}: {wanted} is not here (looked for {places}); {obtain}, or set ASSAY_DATA to the folder that holds "
        f"{Path(wanted).parts[0]}/"
    )


def md5(path: Path) -> str:
    """Returns the MD5 of a file, as publishers give it; it detects damage, not manipulation.

    Args:
        path: of the file.

    Returns:
        The digest, hexadecimal.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def download(url: str, *, checksum: str, folder: str, name: str, dataset: str) -> Path:
    """Downloads one file into the cache, with progress, and verifies its checksum.

    Args:
        url: of the file.
        checksum: the published one, after the name of its algorithm: ``md5:…`` or ``sha256:…``.
        folder: of the data set, in the cache.
        name: of the file in the folder.
        dataset: name of the data set, for errors.

    Returns:
        Path of the file.

    Raises:
        DataError: there is no network or the file is not the published one; says where to put a copy.
    """
    import pooch

    try:
        return Path(
            pooch.retrieve(
                url,
                known_hash=checksum,
                path=cache() / folder,
                fname=name,
                progressbar=os.isatty(2),
            )
        )
    except Exception as error:  # the network or its library may raise anything
        raise absent(
            dataset,
            wanted=f"{folder}/{name}",
            obtain=f"it could not be fetched from {url} ({type(error).__name__}): download it there",
        ) from None
