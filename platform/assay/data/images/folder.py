"""Folders of images: one sub-folder a class, below the folder itself or below train/, val/ and test/."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import field_validator

from assay.data.base import Dataset, Lazy, Source
from assay.data.images.base import RADII, image_dataset
from assay.data.images.files import SUFFIXES, Decoder, ImageFiles, WrongChannelsError, in_threads
from assay.data.images.patients import patients_in
from assay.errors import DataError
from assay.registry import register

PARTS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
"""Folders that are parts of an official split, in lower case, and the parts that they are."""
_MOST_IN_MEMORY = 4 * 2**30
"""Bytes of records above which a folder must be streamed: they are copied when they are split."""
_NAMED = 10
"""Files that a message names; of more it gives the number."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Which images there are, in an order that depends on their names alone."""

    root: Path
    names: tuple[str, ...]
    """Paths of the files below the folder, with ``/`` between folders."""
    y: np.ndarray
    """(n,) int64."""
    classes: tuple[str, ...]
    official: np.ndarray | None
    """(n,) the part of each file where there are parts."""

    def only(self, kept: np.ndarray) -> "Listing":
        """The files at the given positions.

        Raises:
            DataError: a class, or a class of a part, has none left.
        """
        rest = Listing(
            root=self.root,
            names=tuple(self.names[position] for position in kept),
            y=self.y[kept],
            classes=self.classes,
            official=None if self.official is None else self.official[kept],
        )
        for gone in sorted(self._cells() - rest._cells()):
            raise DataError(f"{self.root}: no image of {' '.join(gone).strip()} can be decoded; repair the files")
        return rest

    def _cells(self) -> set[tuple[str, str]]:
        parts = [""] * len(self.y) if self.official is None else self.official.tolist()
        return {(part, self.classes[label]) for part, label in zip(parts, self.y.tolist(), strict=True)}


def listed(root: Path, parts: Mapping[str, str], *, dataset: str, classes: Sequence[str] = ()) -> Listing:
    """The images of a folder.

    Args:
        parts: which folder below ``root`` is which part of the official split; empty if classes lie directly below.
        classes: the class folders in the order of their labels; sorted by name if none are given.

    Raises:
        DataError: there are fewer than two classes, a class has no images, or the parts differ in their classes.
    """
    found = {folder: _folders(root / folder) for folder in parts or ("",)}
    known = list(next(iter(found.values())))
    for folder, own in found.items():
        if set(own) != set(known):
            first = next(iter(found))
            raise DataError(
                f"{dataset}: {first}/ and {folder}/ of {root} have different classes: only {first}/ has "
                f"{_few(sorted(set(known) - set(own)))}, only {folder}/ has {_few(sorted(set(own) - set(known)))}; "
                "every part needs the same class folders"
            )
    if len(known) < 2:
        raise DataError(
            f"{dataset}: {root} has {len(known)} class folder{'s' * (len(known) != 1)} ({_few(known)}); "
            "classification needs at least two, each with the images of one class"
        )
    if classes and set(classes) != set(known):
        raise DataError(f"{dataset}: classes are {_few(classes)}, but {root} has the folders {_few(known)}")
    names: list[str] = []
    labels: list[int] = []
    belongs: list[str] = []
    for folder in found:
        for label, name in enumerate(classes or known):
            own = _images(root, f"{folder}/{name}" if folder else name, dataset)
            names += own
            labels += [label] * len(own)
            belongs += [parts[folder] if folder else ""] * len(own)
    official = np.array(belongs) if parts else None
    return Listing(
        root=root, names=tuple(names), y=np.array(labels, np.int64), classes=tuple(classes or known), official=official
    )


class ImageSource(Source):
    """Settings and steps that all folders of images share."""

    on_corrupt: Literal["fail", "skip"] = "fail"
    """What becomes of files that cannot be decoded: an error, or they are left out, counted and named beside the
    accuracy."""
    check: bool = True
    """Whether a stream looks at the header of every file before anything is trained. False trusts them: a corrupt one
    is then an error in the middle of the work."""

    def gathered(
        self, listing: Listing, decoder: Decoder, *, stream: bool, groups: str | None = None, **about: Any
    ) -> Dataset:
        """The data set of a listing.

        Args:
            stream: decode each image whenever it is asked for, instead of all of them now.
            groups: a pattern whose first group is the patient, searched in the name of each file.
            about: what else a ``Dataset`` holds, its name first.

        Raises:
            DataError: a file cannot be decoded or has wrong channels, or there are too many to keep in memory.
        """
        name, n = str(about["name"]), len(listing.names)
        weight = n * int(np.prod(decoder.shape)) * 4
        if not stream and weight > _MOST_IN_MEMORY:
            raise DataError(
                f"{name}: {n} images of {decoder.shape} take {weight / 2**30:.1f} GiB in memory; "
                "set stream: true to decode them as they are needed, or a smaller size"
            )
        seen = _stream(listing, decoder, check=self.check) if stream else _memory(listing, decoder)
        warnings = tuple(about.pop("warnings", ()))
        if seen.wrong:
            raise DataError(
                f"{name}: {len(seen.wrong)} of {n} images have other than {decoder.channels} "
                f"channel{'s' * (decoder.channels > 1)}: {_told(listing, seen.wrong)}; set channels to what they have, "
                f"or convert: true to make all of them {'grey' if decoder.channels == 1 else 'RGB'}"
            )
        if seen.corrupt:
            told = f"{len(seen.corrupt)} of {n} images cannot be decoded"
            if self.on_corrupt == "fail":
                raise DataError(
                    f"{name}: {told}: {_told(listing, seen.corrupt)}; repair or remove them, or set on_corrupt: skip "
                    "to leave them out"
                )
            warnings = (*warnings, f"{told} and are left out: {_told(listing, seen.corrupt)}")
            kept = np.setdiff1d(np.arange(n), list(seen.corrupt))
            listing = listing.only(kept)
            seen = seen._replace(x=None if seen.x is None else seen.x[kept])
        x: np.ndarray | Lazy = ImageFiles(listing.root, listing.names, decoder) if seen.x is None else seen.x
        return image_dataset(
            x=x,
            y=listing.y,
            class_names=listing.classes,
            official=listing.official,
            groups=patients_in(listing.root, listing.names, name) if groups is None else _groups(listing, groups, name),
            preprocessing=decoder.describe(),
            warnings=warnings,
            **about,
        )


@register("dataset")
class ImageFolder(ImageSource):
    """Your own images: JPEG, PNG, BMP, TIFF or DICOM, one folder a class.

    With class folders directly below ``path`` there is no official split; with ``train/``, ``test/`` and, if you like,
    ``val/`` or ``validation/`` below it, each with the same class folders, their split is official.
    """

    name: Literal["image_folder"] = "image_folder"
    path: str
    size: int | tuple[int, int] = 224
    """Height and width of a record, or one side of a square; the whole image is scaled to it."""
    channels: Literal[1, 3] = 3
    """1 for grey, 3 for colour: what every file must have."""
    convert: bool = False
    """Take files with other channels too, and make them grey or RGB as ``channels`` says. Off by default: a file that
    is not what you think it is, such as a screenshot among X-rays, should be looked at first."""
    classes: tuple[str, ...] = ()
    """The class folders in the order of their labels; by name if not given. Of two, the last is the one to detect."""
    group_pattern: str = ""
    """A regular expression, searched in the name of each file (without its folder), whose first group is the patient;
    without it patients are those of a table in the folder that names them (``metadata.csv`` with columns ``file`` and
    ``patient_id``), and if there is none every image is taken for another patient's."""
    stream: bool = False
    """Decode images as they are needed, for folders that do not fit into memory."""
    epsilons: tuple[float, ...] = RADII
    licence: str = "unknown"
    citation: str = ""

    @field_validator("size")
    @classmethod
    def _has_pixels(cls, size: int | tuple[int, int]) -> int | tuple[int, int]:
        if min(size if isinstance(size, tuple) else (size,)) < 1:
            raise ValueError(f"{size} has no pixels; give one side, or [height, width]")
        return size

    @field_validator("group_pattern")
    @classmethod
    def _has_a_group(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        if pattern and groups < 1:
            raise ValueError(f"{pattern!r} has no group; put the patient in parentheses, such as ^(patient\\d+)_")
        return pattern

    def load(self) -> Dataset:
        root = Path(self.path).expanduser()
        if not root.is_dir():
            raise DataError(
                f"image folder {self.path!r} does not exist; path must be a folder with one sub-folder a class, or "
                "with train/ and test/, each with one sub-folder a class"
            )
        name = root.resolve().name
        height, width = self.size if isinstance(self.size, tuple) else (self.size, self.size)
        return self.gathered(
            listed(root, self._parts(root, name), dataset=name, classes=self.classes),
            Decoder(height=height, width=width, channels=self.channels, convert=self.convert),
            stream=self.stream,
            groups=self.group_pattern or None,
            name=name,
            epsilons=self.epsilons,
            licence=self.licence,
            citation=self.citation,
        )

    def _parts(self, root: Path, dataset: str) -> dict[str, str]:
        folders = _folders(root)
        parts = {folder: part for name, part in PARTS.items() for folder in folders if folder.lower() == name}
        if not parts:
            return {}
        strange = [folder for folder in folders if folder not in parts]
        absent = sorted({"train", "test"} - set(parts.values()))
        if strange or absent:
            raise DataError(
                f"{dataset}: {root} has the folders {_few(folders)}: an official split needs train/ and test/, may "
                "have val/ or validation/, and has no class folders beside them"
            )
        return parts


class _Seen(NamedTuple):
    """What came of looking at every file; positions in the listing, and why."""

    x: np.ndarray | None
    corrupt: dict[int, str]
    wrong: dict[int, str]


def _memory(listing: Listing, decoder: Decoder) -> _Seen:
    x = np.zeros((len(listing.names), *decoder.shape), np.float32)

    def decode(position: int) -> None:
        x[position] = decoder.read(listing.root / listing.names[position])

    return _Seen(x, *_faults(decode, len(x)))


def _stream(listing: Listing, decoder: Decoder, *, check: bool) -> _Seen:
    def look(position: int) -> None:
        decoder.check(listing.root / listing.names[position])

    return _Seen(None, *_faults(look, len(listing.names))) if check else _Seen(None, {}, {})


def _faults(look: Any, n: int) -> tuple[dict[int, str], dict[int, str]]:
    def fault(position: int) -> DataError | None:
        try:
            look(position)
        except DataError as error:
            return error
        return None

    corrupt: dict[int, str] = {}
    wrong: dict[int, str] = {}
    for position, error in enumerate(in_threads(fault, range(n))):
        if error is not None:
            (wrong if isinstance(error, WrongChannelsError) else corrupt)[position] = str(error)
    return corrupt, wrong


def _groups(listing: Listing, pattern: str, dataset: str) -> np.ndarray:
    found = [re.search(pattern, name.rpartition("/")[2]) for name in listing.names]
    unnamed = [name for name, match in zip(listing.names, found, strict=True) if match is None or match[1] is None]
    if unnamed:
        raise DataError(
            f"{dataset}: group_pattern {pattern!r} finds no patient in {len(unnamed)} of {len(found)} file names: "
            f"{_few(unnamed)}"
        )
    return np.array([match[1] for match in found if match is not None])


def _folders(path: Path) -> list[str]:
    """Names of the folders in a folder, sorted, without hidden ones and what archives leave behind."""
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__")))


def _images(root: Path, folder: str, dataset: str) -> list[str]:
    """The images in a folder and below it, as paths below ``root``."""
    found = [
        (Path(place) / file).relative_to(root).as_posix()
        for place, _, files in os.walk(root / folder, followlinks=True)
        for file in files
        if not file.startswith(".") and file.lower().endswith(SUFFIXES)
    ]
    if not found:
        raise DataError(
            f"{dataset}: class folder {folder}/ of {root} holds no image ({', '.join(SUFFIXES)}); fill or remove it"
        )
    return sorted(found)


def _told(listing: Listing, faults: Mapping[int, str]) -> str:
    return _few([f"{listing.names[position]} ({why})" for position, why in faults.items()])


def _few(names: Iterable[str]) -> str:
    every = list(names)
    rest = f" and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return (", ".join(every[:_NAMED]) or "none") + rest
