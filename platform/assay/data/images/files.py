"""Images that lie in files: how one becomes a record, and many that are decoded only when they are asked for."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import torch

from assay.data.images import dicom
from assay.data.images.dicom import UnreadableImageError, Window
from assay.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = (".bmp", ".dcm", ".dicom", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Files that are taken for images, in any case, as are DICOM files of other names; the rest of a folder is listed."""
_WHITE_IS_ZERO = 262, 0
"""Tag of TIFF, and its value where 0 is white: Pillow turns images of 8 bits, not of 16."""
_CHANNELS = {
    **dict.fromkeys(("1", "L", "I;16", "I;16B", "I;16L"), 1),
    "LA": 2,
    **dict.fromkeys(("P", "RGB", "YCbCr", "LAB", "HSV"), 3),
    **dict.fromkeys(("RGBA", "CMYK", "PA", "RGBX"), 4),
}
"""Greatest value of every mode in which Pillow opens a file, where it is known."""
_R = TypeVar("_R")


class WrongChannelsError(DataError):
    """An image has other channels than were declared."""


class Seen(NamedTuple):
    """An image that was decoded."""

    record: np.ndarray
    """(channels, height, width) float32 from 0 to 1."""
    greatest: int | None
    """The greatest stored value of a grey image of 16 bits that is no DICOM; None of others."""


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """From a file to a record (channels, height, width), float32 from 0 (black) to 1 (white).

    Each value is divided by the greatest that its bits can hold; DICOM is read as ``assay.data.images.dicom`` says. A
    photograph is turned upright as its EXIF tag asks. Scaling is bilinear, over all pixels that fall on one. A file of
    several images, as pages or an animation, is an error.
    """

    height: int
    width: int
    channels: int
    convert: bool = False
    """Take files with other channels too: grey is repeated, colour is weighed to grey (ITU-R 601), transparency and
    palettes are dropped. Otherwise such a file is an error."""
    window: Window = "file"
    """Of grey DICOM files: centre and width, what each file says, or the range of its bits."""
    bits: int | None = None
    """How many bits of a grey image of 16 hold its values: cameras and detectors of 12 bits write such files. All by
    default."""
    shorter: int | None = None
    """Scale the shorter side to this and cut the record out of the middle; None scales the whole image to the record,
    whatever its proportions."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a record."""
        return self.channels, self.height, self.width

    def describe(self) -> str:
        """What is done to every image, for the record of a data set."""
        size = f"{self.height} × {self.width} pixels"
        scaled = (
            f"scaled to {size}"
            if self.shorter is None
            else f"scaled to {self.shorter} pixels on the shorter side and cut to the middle {size}"
        )
        made = f", made {'grey' if self.channels == 1 else 'RGB'} where it is not" if self.convert else ""
        window = {"file": "", "full": "; DICOM without its window"}.get(
            str(self.window), f"; DICOM in a window of centre and width {self.window}"
        )
        bits = "" if self.bits is None else f"; grey of 16 bits divided by 2^{self.bits} - 1"
        return f"each image {scaled}{made}, from 0 (black) to 1 (white){window}{bits}"

    def check(self, path: Path) -> int | None:
        """Find whether ``look`` would decode a file: by decoding it, with less work where the format allows.

        Returns:
            ``Seen.greatest``.

        Raises:
            UnreadableImageError: the file cannot be decoded.
            WrongChannelsError: it has other channels than declared.
        """
        if taken_for_dicom(path):
            return self.look(path).greatest  # neither checksums nor an end: only decoding shows what is there
        with _opened(path) as image:
            self._check_channels(_channels(image))
            _refuse_several(image)
            if image.mode.startswith("I;16"):
                return int(self._stored(image).max())
            # A JPEG at an eighth of its size: all of it is unpacked, little of it computed.
            image.draft(image.mode, (1, 1))
            image.load()
        return None

    def read(self, path: Path) -> np.ndarray:
        """The record of a file; see ``look``."""
        return self.look(path).record

    def look(self, path: Path) -> Seen:
        """Decode a file.

        Raises:
            UnreadableImageError: the file cannot be decoded.
            WrongChannelsError: it has other channels than declared.
        """
        if taken_for_dicom(path):
            image = dicom.read_dicom(path, self.window)
            self._check_channels(len(image.getbands()))
            return Seen(self._record(image), None)
        from PIL import Image, ImageOps

        with _opened(path) as image:
            self._check_channels(_channels(image))
            _refuse_several(image)
            upright = ImageOps.exif_transpose(image)
            if not image.mode.startswith("I;16"):
                return Seen(self._record(upright), None)
            stored = self._stored(upright)
            white = 2 ** (self.bits or 16) - 1
            shown = stored.astype(np.float32) / white
            return Seen(self._record(Image.fromarray(1 - shown if _white_is_zero(image) else shown)), int(stored.max()))

    def _stored(self, image: "Image") -> np.ndarray:
        """(height, width): the values of a grey image of 16 bits.

        Raises:
            UnreadableImageError: they do not fit into ``bits``.
        """
        stored = np.asarray(image)
        if self.bits is not None and stored.max() >= 2**self.bits:
            raise UnreadableImageError(f"a value of {stored.max()}, which {self.bits} bits cannot hold")
        return stored

    def _check_channels(self, found: int) -> None:
        if found != self.channels and not self.convert:
            raise WrongChannelsError(f"{found} channel{'s' * (found > 1)}")

    def _record(self, image: "Image") -> np.ndarray:
        from PIL import Image

        if image.mode != "F":
            if "transparency" in image.info:
                image = image.convert("RGBA")
            image = image.convert("L" if self.channels == 1 else "RGB")
        scaled = image.resize((self.width, self.height), Image.Resampling.BILINEAR, box=self._box(*image.size))
        pixels = np.asarray(scaled, np.float32)
        pixels = np.clip(pixels if image.mode == "F" else pixels / 255, 0, 1)
        channels_first = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
        return np.ascontiguousarray(np.broadcast_to(channels_first, self.shape))

    def _box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part of an image that becomes the record: left, upper, right, lower."""
        if self.shorter is None:
            return 0, 0, width, height
        scale = min(width, height) / self.shorter
        wide, high = min(width, self.width * scale), min(height, self.height * scale)
        left, upper = (width - wide) / 2, (height - high) / 2
        return left, upper, left + wide, upper + high


class ImageFiles:
    """Records that are decoded from files when they are asked for. Picklable; any number of threads may ask.

    Args:
        root: the folder; every process that asks must see it at this path.
        names: of the files, below ``root``, with ``/`` between folders.
        decoder: makes each a record.
    """

    dtype = np.dtype(np.float32)
    ndim = 4

    def __init__(self, root: Path, names: Sequence[str], decoder: Decoder) -> None:
        self.root, self.decoder = root, decoder
        # One array of bytes: a million Python strings would weigh more than the images of many batches.
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
        """(len(rows), channels, height, width); one record without the first axis for a single position.

        Raises:
            DataError: a file is gone or can no longer be decoded; names it.
        """
        positions = np.arange(len(self))[rows]
        if positions.ndim == 0:
            return self._decoded(int(positions))
        found = np.empty((len(positions), *self.decoder.shape), np.float32)
        for place, record in enumerate(in_threads(self._decoded, positions.tolist())):
            found[place] = record
        return found

    def name(self, position: int) -> str:
        """The file of a record, below the folder."""
        return os.fsdecode(self._names[position])

    def sizes(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows),) bytes of the files of some records, as they were when the folder was looked through."""
        return self._sizes[rows]

    def digest(self, position: int) -> bytes:
        """Hash of the file of a record, undecoded."""
        with (self.root / self.name(position)).open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    def fingerprint(self) -> str:
        """Hash of the names and sizes of the files, wherever the folder lies, and of how they are decoded."""
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
    """The work on each item, in order, by as many threads as PyTorch was given: decoders let go of the lock."""
    threads = min(torch.get_num_threads(), len(items))
    if threads <= 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(work, items)


def is_image(path: Path) -> bool:
    """Whether a file is taken for an image."""
    return path.suffix.lower() in IMAGE_SUFFIXES or dicom.is_dicom(path)


def taken_for_dicom(path: Path) -> bool:
    """Whether a file is read as DICOM: by its name, or by its content where the name is that of no image."""
    suffix = path.suffix.lower()
    return suffix in dicom.DICOM_SUFFIXES or (suffix not in IMAGE_SUFFIXES and dicom.is_dicom(path))


@contextmanager
def _opened(path: Path) -> Iterator["Image"]:
    """An open image; whatever Pillow raises on it, then or later, becomes one error."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            yield image
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a decoder raises almost anything on bytes that are no image
        told = re.sub(r":? '.*", "", str(error), flags=re.DOTALL)
        raise UnreadableImageError(told or type(error).__name__) from None


def _channels(image: "Image") -> int:
    if image.mode not in _CHANNELS:
        raise UnreadableImageError(f"pixels of kind {image.mode}, whose greatest value is not known")
    return _CHANNELS[image.mode]


def _refuse_several(image: "Image") -> None:
    """Refuse a file of several images; a camera's JPEG may hold a preview behind the one that it is (MPO)."""
    frames = int(getattr(image, "n_frames", 1))
    if frames > 1 and image.format != "MPO":
        raise UnreadableImageError(f"{frames} pages or frames: give each as an image of its own")


def _white_is_zero(image: "Image") -> bool:
    tag, value = _WHITE_IS_ZERO
    return image.format == "TIFF" and getattr(image, "tag_v2", {}).get(tag) == value
