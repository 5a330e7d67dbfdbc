"""Image files: decoding one file to a record, and records that are decoded on access."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
import torch

from assay.data.images import dicom
from assay.data.images.dicom import UnreadableImageError, Window
from assay.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = (".bmp", ".dcm", ".dicom", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Extensions of image files, in upper or lower case. DICOM files may have other names; all other files are reported."""
_WHITE_IS_ZERO = 262, 0
"""TIFF tag, and its value where 0 is white: Pillow inverts such images of 8 bits, but not of 16."""
_CHANNELS = {
    **dict.fromkeys(("1", "L", "I;16", "I;16B", "I;16L"), 1),
    "LA": 2,
    **dict.fromkeys(("P", "RGB", "YCbCr", "LAB", "HSV"), 3),
    **dict.fromkeys(("RGBA", "CMYK", "PA", "RGBX"), 4),
}
"""Number of channels of each mode in which Pillow opens a file and whose greatest value is known."""
_R = TypeVar("_R")


class WrongChannelsError(DataError):
    """An image has another number of channels than declared."""


class Seen(NamedTuple):
    """A decoded image."""

    record: np.ndarray
    """(channels, height, width) float32 from 0 to 1."""
    greatest: int | None = None
    """Greatest stored value of a grey image of 8 or 16 bits that is not DICOM; None for others."""
    bits: int | None = None
    """Number of bits of a stored value, where the greatest is given."""


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """Decodes a file to a record (channels, height, width), float32 from 0 (black) to 1 (white).

    Each value is divided by the greatest that its bits can represent; ``assay.data.images.dicom`` describes how DICOM
    is read. A photograph is turned upright by its EXIF tag. Scaling is bilinear, over all pixels that fall on one. A
    file with several images, such as pages or an animation, is an error.
    """

    height: int
    width: int
    channels: int
    convert: bool = False
    """Accept files with other channels: grey is repeated, colour is converted to grey (ITU-R 601), transparency and
    palettes are dropped. Otherwise such a file is an error."""
    window: Window = "file"
    """For grey DICOM files: centre and width, each file's own, or the range of its bits."""
    bits: int | None = None
    """Number of bits that grey 16-bit images use: cameras and detectors with 12 bits write such files. All by default.
    """
    shorter: int | None = None
    """Scale the shorter side to this number of pixels and cut the record out of the middle; None scales the whole image
    to the record, whatever its proportions."""
    scaled_by_publisher: bool = field(default=False, repr=False)
    """Whether the records of the data set came scaled: an image of another size is then scaled by this rule, which may
    differ from the publisher's. Not in ``repr``, which names trials, for no record of the data set is scaled here."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a record."""
        return self.channels, self.height, self.width

    def describe(self) -> str:
        """Returns a line that describes the preprocessing of every image."""
        size = f"{self.height} × {self.width} pixels"
        scaled = (
            f"scaled to {size}"
            if self.shorter is None
            else f"scaled to {self.shorter} pixels on the shorter side and cut to the middle {size}"
        )
        converted = f", made {'grey' if self.channels == 1 else 'RGB'} where it is not" if self.convert else ""
        window = {"file": "", "full": "; DICOM without its window"}.get(
            str(self.window), f"; DICOM in a window of centre and width {self.window}"
        )
        bits = "" if self.bits is None else f"; grey of 16 bits divided by 2^{self.bits} - 1"
        return f"each image {scaled}{converted}, from 0 (black) to 1 (white){window}{bits}"

    def check(self, path: Path) -> int | None:
        """Checks whether ``look`` can decode a file; cheaper than decoding where the format allows.

        Args:
            path: of the file.

        Returns:
            The greatest stored value of a grey 16-bit image that is not DICOM; None for others.

        Raises:
            UnreadableImageError: the file cannot be decoded.
            WrongChannelsError: it has other channels than declared.
        """
        if taken_for_dicom(path):
            self.look(path)  # DICOM has no checksum or end mark: only decoding finds damage
            return None
        with _opened(path) as image:
            self._check_channels(_channels(image))
            _refuse_several(image)
            if image.mode.startswith("I;16"):
                return int(self._stored(image).max())
            # A JPEG at an eighth of its size: all of the file is read, little is computed.
            image.draft(image.mode, (1, 1))
            image.load()
        return None

    def read(self, path: Path) -> np.ndarray:
        """Returns the record of a file; see ``look``.

        Args:
            path: of the file.

        Returns:
            (channels, height, width) float32.
        """
        return self.look(path).record

    def look(self, path: Path) -> Seen:
        """Decodes a file.

        Args:
            path: of the file.

        Returns:
            The record, with its greatest stored value.

        Raises:
            UnreadableImageError: the file cannot be decoded.
            WrongChannelsError: it has other channels than declared.
        """
        return self.decode(path, as_dicom=taken_for_dicom(path))

    def decode(self, file: Path | BinaryIO, *, as_dicom: bool, formats: Sequence[str] | None = None) -> Seen:
        """Decodes a file whose format is known.

        Args:
            file: its path, or the opened file.
            as_dicom: whether it is DICOM.
            formats: of Pillow, that another file may have; all by default.

        Returns:
            The record, with its greatest stored value.

        Raises:
            UnreadableImageError: the file cannot be decoded.
            WrongChannelsError: it has other channels than declared.
        """
        if as_dicom:
            image = dicom.read_dicom(file, self.window)
            self._check_channels(len(image.getbands()))
            return Seen(self._record(image))
        from PIL import Image, ImageOps

        with _opened(file, formats) as image:
            self._check_channels(_channels(image))
            _refuse_several(image)
            upright = ImageOps.exif_transpose(image)
            if not image.mode.startswith("I;16"):
                grey = upright.mode == "L" and "transparency" not in upright.info
                greatest = int(upright.getextrema()[1]) if grey else None
                return Seen(self._record(upright), greatest, 8 if grey else None)
            stored = self._stored(upright)
            white = 2 ** (self.bits or 16) - 1
            shown = stored.astype(np.float32) / white
            shown = 1 - shown if _white_is_zero(image) else shown
            return Seen(self._record(Image.fromarray(shown)), int(stored.max()), 16)

    def _stored(self, image: "Image") -> np.ndarray:
        """Returns the values of a grey 16-bit image, (height, width).

        Raises:
            UnreadableImageError: they do not fit into ``bits``.
        """
        stored = np.asarray(image)
        if self.bits is not None and stored.max() >= 2**self.bits:
            raise UnreadableImageError(f"a value of {stored.max()}, which {self.bits} bits cannot hold")
        return stored

    def _check_channels(self, found: int) -> None:
        if found != self.channels and not self.convert:
            raise WrongChannelsError(
                f"{found} channel{'s' * (found > 1)}", setting="channels", given=found, allowed=self.channels
            )

    def _record(self, image: "Image") -> np.ndarray:
        from PIL import Image

        if image.mode != "F":
            if "transparency" in image.info:
                image = image.convert("RGBA")
            image = image.convert("L" if self.channels == 1 else "RGB")
        scaled = image.resize((self.width, self.height), Image.Resampling.BILINEAR, box=self.box(*image.size))
        pixels = np.asarray(scaled, np.float32)
        pixels = np.clip(pixels if image.mode == "F" else pixels / 255, 0, 1)
        channels_first = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
        return np.ascontiguousarray(np.broadcast_to(channels_first, self.shape))

    def box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Returns the part of an image that becomes the record.

        Args:
            width: of the image, upright, in pixels.
            height: of it.

        Returns:
            Left, upper, right and lower end, in pixels.
        """
        if self.shorter is None:
            return 0, 0, width, height
        scale = min(width, height) / self.shorter
        wide, high = min(width, self.width * scale), min(height, self.height * scale)
        left, upper = (width - wide) / 2, (height - high) / 2
        return left, upper, left + wide, upper + high


class ImageFiles:
    """``Lazy`` records that are decoded from files on access. Picklable, and safe for any number of threads.

    Args:
        root: the folder; it must have this path in every process that reads records.
        names: of the files, below ``root``, with ``/`` between folders.
        decoder: converts each file to a record.
    """

    dtype = np.dtype(np.float32)
    ndim = 4

    def __init__(self, root: Path, names: Sequence[str], decoder: Decoder) -> None:
        self.root, self.decoder = root, decoder
        # One array of bytes: a million Python strings would take more memory than the images of many batches.
        self._names = np.array([os.fsencode(name) for name in names], dtype=bytes)
        self.shape: tuple[int, ...] = (len(names), *decoder.shape)
        sizes = self._sizes = np.array([(root / name).stat().st_size for name in names], np.int64)
        sha = hashlib.sha256(repr(decoder).encode())
        sha.update(b"\0".join(self._names.tolist()))
        sha.update(sizes.tobytes())
        self._fingerprint = sha.hexdigest()

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Returns (len(rows), channels, height, width); one record without the first axis for a single position.

        Raises:
            DataError: a file is missing or can no longer be decoded; names it.
        """
        positions = np.arange(len(self))[rows]
        if positions.ndim == 0:
            return self._decoded(int(positions))
        records = np.empty((len(positions), *self.decoder.shape), np.float32)
        for place, record in enumerate(in_threads(self._decoded, positions.tolist())):
            records[place] = record
        return records

    def name(self, position: int) -> str:
        """Returns the file of a record, below the folder.

        Args:
            position: of the record.

        Returns:
            The path, with ``/`` between folders.
        """
        return os.fsdecode(self._names[position])

    def sizes(self, rows: np.ndarray) -> np.ndarray:
        """Returns the sizes of the files of some records, as they were when the folder was listed.

        Args:
            rows: positions of the records.

        Returns:
            (len(rows),) bytes.
        """
        return self._sizes[rows]

    def digest(self, position: int) -> bytes:
        """Returns the SHA-256 of the undecoded file of a record.

        Args:
            position: of the record.

        Returns:
            The digest.
        """
        with (self.root / self.name(position)).open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    def fingerprint(self) -> str:
        """Returns a hash of the names and sizes of the files, wherever the folder is, and of the decoding settings."""
        return self._fingerprint

    def _decoded(self, position: int) -> np.ndarray:
        path = self.root / self.name(position)
        try:
            return self.decoder.read(path)
        except DataError as error:
            raise DataError(
                f"image {path} cannot be used ({error}): it has changed since the folder was looked through, or was "
                "never checked; repair or remove it, and start again"
            ) from None


def in_threads(work: Callable[[Any], _R], items: Sequence[Any]) -> Iterator[_R]:
    """Applies a function to each item, in order, in as many threads as PyTorch uses.

    Decoders release the interpreter lock, so threads run in parallel.

    Args:
        work: the function.
        items: its arguments.

    Yields:
        The results, in order.
    """
    threads = min(torch.get_num_threads(), len(items))
    if threads <= 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(work, items)


def is_image(path: Path) -> bool:
    """Returns whether a file is treated as an image.

    Args:
        path: of the file.

    Returns:
        True for a known extension, or for DICOM.
    """
    return path.suffix.lower() in IMAGE_SUFFIXES or dicom.is_dicom(path)


def taken_for_dicom(path: Path) -> bool:
    """Returns whether a file is read as DICOM, by its extension or by its content.

    The content decides where the extension is not that of an image.

    Args:
        path: of the file.

    Returns:
        True if it is.
    """
    suffix = path.suffix.lower()
    return suffix in dicom.DICOM_SUFFIXES or (suffix not in IMAGE_SUFFIXES and dicom.is_dicom(path))


@contextmanager
def _opened(path: Path | BinaryIO, formats: Sequence[str] | None = None) -> Iterator["Image"]:
    """Opens an image within the context, and converts all errors of Pillow to one error."""
    from PIL import Image

    try:
        with Image.open(path, formats=formats) as image:
            yield image
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a decoder may raise anything on a file that is not an image
        message = re.sub(r":? '.*", "", str(error), flags=re.DOTALL)
        raise UnreadableImageError(message or type(error).__name__) from None


def _channels(image: "Image") -> int:
    if image.mode not in _CHANNELS:
        raise UnreadableImageError(f"pixels of kind {image.mode}, whose greatest value is not known")
    return _CHANNELS[image.mode]


def _refuse_several(image: "Image") -> None:
    """Raises for a file with several images; a camera's JPEG may contain a preview after the image (MPO)."""
    frames = int(getattr(image, "n_frames", 1))
    if frames > 1 and image.format != "MPO":
        raise UnreadableImageError(f"{frames} pages or frames: give each as an image of its own")


def _white_is_zero(image: "Image") -> bool:
    tag, value = _WHITE_IS_ZERO
    return image.format == "TIFF" and getattr(image, "tag_v2", {}).get(tag) == value
