"""The image files of a folder, with their classes and parts, and the files that are not images."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assay.data.images.files import IMAGE_SUFFIXES, is_image
from assay.data.spellings import refuse_alike
from assay.errors import DataError

_NAMED = 10
"""Greatest number of files that a message names; further ones are counted."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The images of a folder, in an order that depends on their names alone."""

    root: Path
    names: tuple[str, ...]
    """Paths of the files below the folder, with ``/`` between folders."""
    y: np.ndarray
    """(n,) int64."""
    classes: tuple[str, ...]
    official: np.ndarray | None
    """(n,) the part of each file; None if there are no parts."""
    skipped: tuple[str, ...] = ()
    """Files below the folder that are not images or are in no class folder."""

    def only(self, kept: np.ndarray) -> "Listing":
        """Returns the listing of some files.

        Args:
            kept: positions of the files.

        Returns:
            The listing.

        Raises:
            DataError: a class, or a class of a part, has no file left.
        """
        rest = Listing(
            root=self.root,
            names=tuple(self.names[position] for position in kept),
            y=self.y[kept],
            classes=self.classes,
            official=None if self.official is None else self.official[kept],
            skipped=self.skipped,
        )
        for gone in sorted(self._cells() - rest._cells()):
            raise DataError(f"{self.root}: no image of {' '.join(gone).strip()} can be decoded; repair the files")
        return rest

    def _cells(self) -> set[tuple[str, str]]:
        parts = [""] * len(self.y) if self.official is None else self.official.tolist()
        return {(part, self.classes[label]) for part, label in zip(parts, self.y.tolist(), strict=True)}


def listed(root: Path, parts: Mapping[str, str], *, dataset: str, classes: Sequence[str] = ()) -> Listing:
    """Lists the images of a folder.

    Args:
        root: the folder.
        parts: part of the official split by folder below ``root``; empty if class folders are directly below.
        dataset: name of the data set, for errors.
        classes: class folders in the order of their labels; sorted by name if none are given.

    Returns:
        The images, with classes and parts.

    Raises:
        DataError: there are fewer than two classes, a class has no images, or the parts differ in their classes.
    """
    by_part = {folder: folders_in(root / folder) for folder in parts or ("",)}
    folders = list(next(iter(by_part.values())))
    for folder, names_here in by_part.items():
        if set(names_here) != set(folders):
            first = next(iter(by_part))
            raise DataError(
                f"{dataset}: {first}/ and {folder}/ of {root} have different classes: only {first}/ has "
                f"{few(sorted(set(folders) - set(names_here)))}, only {folder}/ has "
                f"{few(sorted(set(names_here) - set(folders)))}; every part needs the same class folders"
            )
    if len(folders) < 2:
        raise DataError(
            f"{dataset}: {root} has {len(folders)} class folder{'s' * (len(folders) != 1)} ({few(folders)}); "
            "classification needs at least two, each with the images of one class"
        )
    if not classes:
        refuse_alike(folders, where=f"{dataset}: {root}", setting="classes", what="class folders")
    if classes and set(classes) != set(folders):
        raise DataError(f"{dataset}: classes are {few(classes)}, but {root} has the folders {few(folders)}")
    names: list[str] = []
    skipped = [name for folder in sorted({"", *by_part}) for name in _loose(root, folder)]
    labels: list[int] = []
    belongs: list[str] = []
    for folder in by_part:
        for label, name in enumerate(classes or folders):
            images, others = _images(root, f"{folder}/{name}" if folder else name, dataset)
            names, skipped = names + images, skipped + others
            labels += [label] * len(images)
            belongs += [parts[folder] if folder else ""] * len(images)
    official = np.array(belongs) if parts else None
    return Listing(
        root=root,
        names=tuple(names),
        y=np.array(labels, np.int64),
        classes=tuple(classes or folders),
        official=official,
        skipped=tuple(skipped),
    )


def folders_in(path: Path) -> list[str]:
    """Returns the names of the folders in a folder, sorted, without hidden ones and leftovers of archives.

    Args:
        path: of the folder.

    Returns:
        The names.
    """
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__")))


def _images(root: Path, folder: str, dataset: str) -> tuple[list[str], list[str]]:
    """Returns the images in and below a folder, and the other files, without hidden files."""
    every = [path for path in _files_below(root / folder, dataset) if not path.name.startswith(".")]
    images = [path for path in every if is_image(path)]
    if not images:
        kinds = sorted({path.suffix.lower() or "no extension" for path in every})
        raise DataError(
            f"{dataset}: class folder {folder}/ of {root} holds no image ({', '.join(IMAGE_SUFFIXES)})"
            f"{', but ' + few(kinds) if kinds else ' and no other file'}; fill or remove it",
            setting="path",
            given=kinds,
            allowed=IMAGE_SUFFIXES,
        )
    return _names(root, images), _names(root, set(every) - set(images))


def _files_below(folder: Path, dataset: str) -> Iterator[Path]:
    """Yields all files in and below a folder, links included.

    Raises:
        DataError: a link leads back to a folder above it, which would never end.
    """
    for place, inner, files in os.walk(folder, followlinks=True):
        here = Path(place).resolve()
        for name in inner:
            path = Path(place) / name
            if path.is_symlink() and here.is_relative_to(path.resolve()):
                raise DataError(
                    f"{dataset}: the link {str(path)!r} leads back to {str(path.resolve())!r}, in which it lies; "
                    "remove it",
                    setting="path",
                    given=str(path),
                    allowed="links to folders elsewhere",
                )
        yield from (Path(place) / name for name in files)


def _names(root: Path, paths: Iterable[Path]) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in paths)


def _loose(root: Path, folder: str) -> list[str]:
    """Returns files beside class folders."""
    return _names(root, (path for path in (root / folder).iterdir() if path.is_file() and path.name[0] != "."))


def few(names: Iterable[str]) -> str:
    """Returns a phrase that names the first few of many names.

    Args:
        names: all names.

    Returns:
        The phrase.
    """
    every = list(names)
    rest = f" and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return (", ".join(every[:_NAMED]) or "none") + rest
