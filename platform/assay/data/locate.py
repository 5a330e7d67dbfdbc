"""Where the files of a data set lie: the user's folder first, then Assay's cache, then, if it may, the network."""

import hashlib
import os
from pathlib import Path

from assay.errors import DataError


def looked_in() -> list[Path]:
    """The folders in which data sets are looked for, each as a folder of its own: ``ASSAY_DATA``, then the cache."""
    given = os.environ.get("ASSAY_DATA", "")
    return [*([Path(given).expanduser()] if given else []), cache()]


def cache() -> Path:
    """Where downloads and computed embeddings are kept: ``ASSAY_CACHE``, or a folder of the user's cache."""
    given = os.environ.get("ASSAY_CACHE") or os.environ.get("XDG_CACHE_HOME", "~/.cache") + "/assay"
    return Path(given).expanduser()


def find(folder: str, *names: str) -> Path | None:
    """The first of the named files or folders below ``folder`` that exists; with no name, ``folder`` itself."""
    for root in looked_in():
        for name in names or ("",):
            if (root / folder / name).exists():
                return root / folder / name
    return None


def absent(dataset: str, *, wanted: str, obtain: str) -> DataError:
    """The error for data that are nowhere.

    Args:
        wanted: what was looked for, below each folder.
        obtain: the command or the address with which a person gets it.
    """
    places = ", ".join(str(root / wanted) for root in looked_in())
    return DataError(
        f"{dataset}: {wanted} is not here (looked for {places}); {obtain}, or set ASSAY_DATA to the folder that holds "
        f"{Path(wanted).parts[0]}/"
    )


def md5(path: Path) -> str:
    """MD5 of a file, as publishers give it; against damage, not against malice."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def download(url: str, *, checksum: str, folder: str, name: str, dataset: str) -> Path:
    """Fetch one file into the cache, with progress, and check it.

    Args:
        checksum: the published one, behind the name of its algorithm: ``md5:…`` or ``sha256:…``.

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
    except Exception as error:  # whatever the network or its library raises
        raise absent(
            dataset,
            wanted=f"{folder}/{name}",
            obtain=f"it could not be fetched from {url} ({type(error).__name__}): download it there",
        ) from None
