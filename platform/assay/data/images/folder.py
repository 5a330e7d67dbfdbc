"""Folders of images: one sub-folder a class, below the folder itself or below train/, val/ and test/."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, field_validator

from assay.data.base import Dataset, Lazy, Source
from assay.data.classes import counted_classes, guessed_positive
from assay.data.identifiers import as_groups
from assay.data.images.base import RADII, image_dataset
from assay.data.images.contrast import low_contrast
from assay.data.images.depth import refuse_few_bits
from assay.data.images.dicom import Window
from assay.data.images.files import IMAGE_SUFFIXES, Decoder, ImageFiles, WrongChannelsError, in_threads
from assay.data.images.listing import Listing, few, folders_in, listed
from assay.data.images.patients import Patients, patients_of, subgroups_in
from assay.errors import DataError
from assay.registry import register

FOLDER_PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Parts of an official split by the name of the folder, in lower case."""
_MOST_IN_MEMORY = 4 * 2**30
"""Size of all records, in bytes, above which a folder must be streamed: splitting copies them."""
_OTHER_IMAGES = (".avif", ".gz", ".heic", ".heif", ".j2k", ".jp2", ".mha", ".nii", ".nrrd", ".raw", ".svs", ".zip")
"""Extensions of files that probably contain images, of formats that are not read."""


class ImageSource(Source):
    """Settings and steps that all folders of images share."""

    on_corrupt: Literal["fail", "skip"] = "fail"
    """Whether files that cannot be decoded are an error, or are left out and reported beside the accuracy."""
    check: bool = True
    """Whether a streamed folder is checked before training, so that corrupt files are found at once. If False, a
    corrupt file is an error when it is read."""

    def gathered(
        self, listing: Listing, decoder: Decoder, *, stream: bool, groups: str | None = None, **about: Any
    ) -> Dataset:
        """Returns the data set of a listing.

        Args:
            listing: the files.
            decoder: converts each file to a record.
            stream: decode each image on access, instead of all of them now.
            groups: a pattern whose first group is the patient, searched in each path below its class folder.
            about: further fields of ``Dataset``, including its name.

        Returns:
            The data set.

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
            other = {1: 3, 3: 1}[decoder.channels]
            fits = set(seen.wrong.values()) == {f"{other} channel{'s' * (other > 1)}"} and len(seen.wrong) == n
            kind = "grey" if decoder.channels == 1 else "RGB"
            raise DataError(
                f"{name}: {len(seen.wrong)} of {n} images have other than {decoder.channels} "
                f"channel{'s' * (decoder.channels > 1)}: {_told(listing, seen.wrong)}; "
                f"{f'set channels: {other}, or' if fits else 'set'} convert: true to make all of them {kind}",
                setting="channels",
                given=decoder.channels,
                allowed=other if fits else "convert: true",
            )
        listing, seen, left_out = self._without_corrupt(listing, seen, name)
        warnings = (*warnings, *left_out)
        refuse_few_bits(name, decoder, seen.greatest)
        x: np.ndarray | Lazy = ImageFiles(listing.root, listing.names, decoder) if seen.x is None else seen.x
        warnings = (*warnings, *(low_contrast(x) if self.check or seen.x is not None else ()))
        patients = (
            patients_of(listing.root, listing.names, name)
            if groups is None
            else Patients(_groups(listing, groups, name))
        )
        return image_dataset(
            x=x,
            y=listing.y,
            class_names=listing.classes,
            official=listing.official,
            groups=patients.groups,
            subgroups=subgroups_in(listing.root, listing.names, name),
            preprocessing=decoder.describe(),
            decoder=decoder,
            warnings=(*warnings, *_unread(listing), *patients.warnings),
            reading=(
                f"{len(listing.names):,} of {n:,} images in {len(listing.classes)} classes{_two_classes(listing)}",
                *(_deep(listing) if patients.groups is None else ()),
                *patients.reading,
                *_skipped(listing),
            ),
            **about,
        )

    def _without_corrupt(self, listing: Listing, seen: "_Seen", name: str) -> tuple[Listing, "_Seen", tuple[str, ...]]:
        """Returns the files that can be decoded, and a warning about the others if they may be left out.

        Raises:
            DataError: some cannot, and must not be left out.
        """
        if not seen.corrupt:
            return listing, seen, ()
        n = len(listing.names)
        problem = f"{len(seen.corrupt)} of {n} images cannot be decoded"
        if self.on_corrupt == "fail":
            raise DataError(
                f"{name}: {problem}: {_told(listing, seen.corrupt)}; repair or remove them, or set on_corrupt: skip "
                "to leave them out"
            )
        kept = np.setdiff1d(np.arange(n), list(seen.corrupt))
        left_out = (f"{problem} and are left out: {_told(listing, seen.corrupt)}",)
        return listing.only(kept), seen._replace(x=None if seen.x is None else seen.x[kept]), left_out


@register("dataset")
class ImageFolder(ImageSource):
    """Your own images: JPEG, PNG, BMP, TIFF, GIF, WebP or DICOM, one folder a class.

    With class folders directly below ``path`` there is no official split. With ``train/``, ``test/`` and optionally
    ``val/`` or ``validation/`` below it, each with the same class folders, their split is official.
    """

    name: Literal["image_folder"] = "image_folder"
    path: str
    size: int | tuple[int, int] = 224
    """Height and width of a record in pixels, or one side of a square; the whole image is scaled to it."""
    channels: Literal[1, 3] = 3
    """1 for grey, 3 for colour; every file must have this number."""
    convert: bool = False
    """Accept files with other channels too, and convert them to grey or RGB as ``channels`` says. Off by default: an
    unexpected file, such as a screenshot among X-rays, should be looked at first."""
    classes: tuple[str, ...] = ()
    """Class folders in the order of their labels; by name if not given. Of two classes, the last is the one to detect.
    """
    group_pattern: str = ""
    """A regular expression whose first group is the patient. It is searched in the name of each file and, if not found
    there, in the path below the class folder, such as ``patient3/0.png``; ``(.*)`` takes each file name for a
    patient. Without a pattern, patients are those of a table in the folder that names them (``metadata.csv`` with
    columns ``file`` and ``patient_id``), or of the tag PatientID where all files are DICOM and have one; otherwise
    every image counts as another patient."""
    stream: bool = False
    """Decode images on access, for folders that do not fit into memory."""
    window: Window = "file"
    """For grey DICOM files: ``[centre, width]`` in units of the modality (Hounsfield units for CT), ``file`` for each
    file's own window, or ``full`` for the range of its bits."""
    bits: int | None = Field(default=None, ge=8, le=16)
    """Number of bits that grey 16-bit PNG and TIFF files use, such as 12."""
    epsilons: tuple[float, ...] = RADII
    licence: str = "unknown"
    citation: str = ""

    @field_validator("size")
    @classmethod
    def _has_pixels(cls, size: int | tuple[int, int]) -> int | tuple[int, int]:
        if min(size if isinstance(size, tuple) else (size,)) < 1:
            raise ValueError(f"{size} has no pixels; give one side, or [height, width]")
        return size

    @field_validator("window")
    @classmethod
    def _has_a_width(cls, window: Window) -> Window:
        if isinstance(window, tuple) and not window[1] > 0:
            raise ValueError(f"{window} has no width; give [centre, width] with a width above 0")
        return window

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
        listing = listed(root, self._parts(root, name), dataset=name, classes=self.classes)
        guessed = () if self.classes else guessed_positive(listing.classes, remedy="classes: [OTHER, NAME]")
        data = self.gathered(
            listing,
            Decoder(
                height=height,
                width=width,
                channels=self.channels,
                convert=self.convert,
                window=self.window,
                bits=self.bits,
            ),
            stream=self.stream,
            groups=self.group_pattern or None,
            name=name,
            epsilons=self.epsilons,
            licence=self.licence,
            citation=self.citation,
        )
        return replace(data, warnings=(*data.warnings, *guessed), stated=(*data.stated, *guessed))

    def _parts(self, root: Path, dataset: str) -> dict[str, str]:
        folders = folders_in(root)
        parts = {folder: part for name, part in FOLDER_PARTS.items() for folder in folders if folder.lower() == name}
        if not parts:
            _refuse_same_folders(root, folders, dataset)
            return {}
        strange = [folder for folder in folders if folder not in parts]
        absent = sorted({"train", "test"} - set(parts.values()))
        twice = len(set(parts.values())) < len(parts)
        if strange or absent or twice:
            raise DataError(
                f"{dataset}: {root} has the folders {few(folders)}: an official split needs train/ and test/, may "
                "have val/ or validation/, each once (training, testing and valid are names too), and has no class "
                "folders beside them",
                setting="path",
                given=folders,
                allowed=sorted(FOLDER_PARTS),
            )
        return parts


def _refuse_same_folders(root: Path, folders: list[str], dataset: str) -> None:
    """Raises if all class folders have the same sub-folders, two or more: the sub-folders are probably the classes."""
    inner = [folders_in(root / folder) for folder in folders]
    if len(folders) > 1 and len(inner[0]) > 1 and all(subfolders == inner[0] for subfolders in inner):
        raise DataError(
            f"{dataset}: the folders {few(folders)} of {root} all have the same sub-folders {few(inner[0])}, which "
            "look like the classes; call the parts of a split train/, val/ and test/, or put the images of each class "
            "into one folder",
            setting="path",
            given=folders,
            allowed=sorted(FOLDER_PARTS),
        )


class _Seen(NamedTuple):
    """Result of reading or checking every file; problems by position in the listing."""

    x: np.ndarray | None
    greatest: int | None
    """Greatest stored value of all grey 16-bit images."""
    corrupt: dict[int, str]
    wrong: dict[int, str]


def _memory(listing: Listing, decoder: Decoder) -> _Seen:
    x = np.zeros((len(listing.names), *decoder.shape), np.float32)

    def decode(position: int) -> int | None:
        seen = decoder.look(listing.root / listing.names[position])
        x[position] = seen.record
        return seen.greatest if seen.bits == 16 else None

    return _Seen(x, *_faults(decode, len(x)))


def _stream(listing: Listing, decoder: Decoder, *, check: bool) -> _Seen:
    def look(position: int) -> int | None:
        return decoder.check(listing.root / listing.names[position])

    return _Seen(None, *_faults(look, len(listing.names))) if check else _Seen(None, None, {}, {})


def _faults(look: Callable[[int], int | None], n: int) -> tuple[int | None, dict[int, str], dict[int, str]]:
    """Returns the greatest value, the files that cannot be decoded, and those with other channels."""

    def fault(position: int) -> DataError | int | None:
        try:
            return look(position)
        except DataError as error:
            return error

    greatest: int | None = None
    corrupt: dict[int, str] = {}
    wrong: dict[int, str] = {}
    for position, result in enumerate(in_threads(fault, range(n))):
        if isinstance(result, DataError):
            (wrong if isinstance(result, WrongChannelsError) else corrupt)[position] = str(result)
        elif result is not None:
            greatest = max(result, greatest or 0)
    return greatest, corrupt, wrong


def _two_classes(listing: Listing) -> str:
    """Returns the counts of two classes, and which is the one to detect."""
    return f": {counted_classes(listing.classes, listing.y)}" if len(listing.classes) == 2 else ""


def _skipped(listing: Listing) -> tuple[str, ...]:
    if not listing.skipped:
        return ()
    return (f"{len(listing.skipped):,} files are no images that are read: {few(listing.skipped)}",)


def _unread(listing: Listing) -> tuple[str, ...]:
    """Returns a warning if skipped files are images of other formats, or are outside the class folders."""
    lost = [name for name in listing.skipped if name.lower().endswith((*_OTHER_IMAGES, *IMAGE_SUFFIXES))]
    return (f"{len(lost):,} images were not read: {few(lost)}",) if lost else ()


def _deep(listing: Listing) -> tuple[str, ...]:
    """Returns a line about images in sub-folders of a class folder, which may be patients."""
    deep = [name for name, below in zip(listing.names, _below_class(listing), strict=True) if "/" in below]
    if not deep:
        return ()
    line = f"{len(deep):,} images lie in sub-folders of a class folder, such as {deep[0]}"
    return (f"{line}: if these are patients, say so by group_pattern, such as ^([^/]+)/",)


def _below_class(listing: Listing) -> list[str]:
    """Returns the path of each image below its class folder."""
    above = 1 if listing.official is None else 2
    return [name.split("/", above)[above] for name in listing.names]


def _groups(listing: Listing, pattern: str, dataset: str) -> np.ndarray:
    # The file name is searched first, so that ^ matches its beginning in any folder.
    matches = [
        re.search(pattern, below.rpartition("/")[2]) or re.search(pattern, below) for below in _below_class(listing)
    ]
    unnamed = [name for name, match in zip(listing.names, matches, strict=True) if match is None or match[1] is None]
    if unnamed:
        raise DataError(
            f"{dataset}: group_pattern {pattern!r} finds no patient in {len(unnamed)} of {len(matches)} file names: "
            f"{few(unnamed)}"
        )
    names = np.array([match[1] for match in matches if match is not None])
    return as_groups(names, where=dataset, column="group_pattern")


def _told(listing: Listing, faults: Mapping[int, str]) -> str:
    return few([f"{listing.names[position]} ({why})" for position, why in faults.items()])
