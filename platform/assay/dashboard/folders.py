"""Finds the folders of results below the folders that a user names."""

import os
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs

from assay.errors import StorageError, UserError, storage_errors

MARKS = ("trials", "index", "study.yaml", "progress.json")
"""A folder that has one of these holds results."""
INNER = frozenset(
    {"trials", "superseded", "artefacts", "checkpoints", "answers", "unfinished", "rungs", "index", "ray_train"}
)
"""Folders within results, in which nobody stores other results."""
DEPTH = 4
"""Levels below a named folder that are searched."""
MOST = 500
"""Greatest number of folders that one page shows."""


@dataclass(frozen=True)
class Folder:
    """One folder of results."""

    name: str
    """As the page shows it: the path below the folder that the user named."""
    location: str
    """Full path or URI."""


def find_folders(named: Sequence[str]) -> list[Folder]:
    """Returns all folders of results at and below some folders.

    Args:
        named: folders, or URIs such as ``s3://bucket/folder``.

    Returns:
        The folders, each once, in the order of their paths; none where there are no results yet.

    Raises:
        UserError: there are more than ``MOST``.
        StorageError: a folder that was named does not exist, or cannot be read.
    """
    found: dict[str, str] = {}
    for root in named:
        for location in _below(root):
            found.setdefault(location, _name(location, root))
            if len(found) > MOST:
                raise UserError(
                    f"more than {MOST} folders of results lie below {', '.join(named)}; name fewer with --results",
                    setting="--results", given=len(found), allowed=MOST,
                )  # fmt: skip
    taken = list(found.values())
    # Where two names are the same, the full path tells them apart.
    return [Folder(name if taken.count(name) == 1 else location, location) for location, name in found.items()]


def _name(location: str, root: str) -> str:
    if "://" in root:
        return location.removeprefix(root.rstrip("/")).strip("/") or root.rstrip("/").rpartition("/")[2]
    top = Path(root).expanduser().resolve()
    below = Path(location).relative_to(top)
    return top.name if below == Path() else below.as_posix()


def _below(root: str) -> Iterator[str]:
    with storage_errors(root, setting="--results"):
        if "://" in root:
            yield from _below_uri(root)
            return
        top = Path(root).expanduser().resolve()
        if not top.is_dir():
            raise StorageError(
                f"{root!r} is no folder; give --results the folder of a study's results, or one that holds several",
                setting="--results", given=root,
            )  # fmt: skip
        yield from _walk(str(top), DEPTH)


def _walk(folder: str, depth: int) -> Iterator[str]:
    """Returns a folder if it holds results, and those below it. Links are not followed: they may lead in a circle."""
    try:
        with os.scandir(folder) as entries:
            inside = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
    except PermissionError:
        return
    if any(mark in inside for mark in MARKS):
        yield folder
    if depth:
        for name in sorted(name for name, is_folder in inside.items() if is_folder):
            if name not in INNER and not name.startswith("."):
                yield from _walk(str(Path(folder) / name), depth - 1)


def _below_uri(root: str) -> Iterator[str]:
    """Returns a folder of an object store if it holds results, and the folders directly in it that do."""
    system, path = fs.FileSystem.from_uri(root)
    inside = sorted(name for name in _names(system, path) if not name.startswith("."))
    for below in ("", *inside):
        if any(name in MARKS for name in _names(system, posixpath.join(path, below), files=True)):
            yield posixpath.join(root.rstrip("/"), below).rstrip("/")


def _names(system: fs.FileSystem, path: str, *, files: bool = False) -> list[str]:
    listed = system.get_file_info(fs.FileSelector(path.rstrip("/"), allow_not_found=True))
    return [posixpath.basename(info.path) for info in listed if files or info.type == fs.FileType.Directory]
