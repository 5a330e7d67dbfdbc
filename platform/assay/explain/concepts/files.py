"""Examples that the user gives: a folder of images, or an array."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from assay.data.base import Modality
from assay.data.images.files import Decoder, is_image
from assay.errors import DataError, UserError
from assay.explain.concepts.base import Concept, Pool, refuse_few
from assay.registry import register


@register("concept")
class Files(Concept):
    """Images of a folder, scaled to the records, or the records of an array (``.npy``) as the network takes them."""

    name: Literal["files"] = "files"
    modalities: ClassVar[tuple[Modality, ...]] = ("image", "signal")
    path: Path
    """A folder of images (PNG, JPEG, DICOM; read as by ``image_folder``), or a ``.npy`` file of (n, ...) records."""

    @property
    def shown(self) -> str:
        return self.label or self.path.stem.replace("_", " ")

    @property
    def described(self) -> str:
        return f"examples in {self.path.name}"

    def examples(self, pool: Pool, most: int, draw: np.random.Generator) -> Tensor:
        found = self._images(pool) if self.path.is_dir() else self._array(pool)
        self._check_bounds(found, pool)
        refuse_few(len(found), f"examples in {str(self.path)!r}")
        chosen = np.sort(draw.permutation(len(found))[:most])
        return torch.from_numpy(np.ascontiguousarray(found[chosen], np.float32)).to(pool.x)

    def fingerprint(self) -> str:
        """Returns a hash of the files, all of which can be read.

        Raises:
            UserError: there is no such file, or one cannot be read. A study asks for the hash before it trains.
        """
        digest = hashlib.blake2b(digest_size=16)
        for path in self._files():
            self._check_readable(path)
            digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()

    def _check_readable(self, path: Path) -> None:
        about = path.stat()
        why = _why_unreadable(path, image=self.path.is_dir(), changed=(about.st_mtime_ns, about.st_size))
        if why:
            raise self._refused(why)

    def _check_bounds(self, found: np.ndarray, pool: Pool) -> None:
        """Refuses values outside the valid bounds of a record."""
        low, high = (np.broadcast_to(end.cpu().double().numpy(), pool.x.shape[1:]) for end in (pool.low, pool.high))
        slack = 1e-6 * np.maximum(1.0, np.where(np.isfinite(high - low), high - low, 1.0))
        outside = (found < low - slack) | (found > high + slack)
        if not outside.any():
            return
        first = tuple(int(place) for place in np.argwhere(outside)[0])
        value, (least, greatest) = float(found[first]), (float(end[first[1:]]) for end in (low, high))
        fix = "scale the examples as the records are"
        if least == 0 and greatest == 1 and found.min() >= 0 and 1 < found.max() <= 255:
            fix += ", such as by array / 255"
        if self.path.is_dir():
            fix = "images are read from 0 (black) to 1 (white); give a .npy file of records as the network takes them"
        raise self._refused(
            f"{str(self.path)!r} holds {value:g} (record {first[0]}, entry {first[1:]}), and valid values there are "
            f"{least:g} to {greatest:g}: {fix}"
        )

    def _files(self) -> list[Path]:
        if not self.path.exists():
            raise UserError(
                f"concept {self.shown!r}: there is no {str(self.path)!r}: give a folder of images or a .npy file",
                setting="path",
                given=str(self.path),
            )
        if self.path.is_dir():
            return sorted(path for path in self.path.iterdir() if path.is_file() and is_image(path))
        return [self.path]

    def _images(self, pool: Pool) -> np.ndarray:
        if pool.modality != "image":
            raise self._refused("a folder holds images, and these records are none: give a .npy file")
        channels, height, width = pool.x.shape[1:]
        decoder = Decoder(height=height, width=width, channels=channels, convert=True)
        files = self._files()
        for path in files:
            self._check_readable(path)
        read = [decoder.read(path) for path in files]
        return np.stack(read) if read else np.empty((0, *pool.x.shape[1:]), np.float32)

    def _array(self, pool: Pool) -> np.ndarray:
        (path,) = self._files()
        self._check_readable(path)
        found: np.ndarray = np.load(path, allow_pickle=False)
        shape = tuple(pool.x.shape[1:])
        if found.dtype.kind not in "fiu" or found.shape[1:] != shape or not np.isfinite(found).all():
            raise self._refused(
                f"{str(path)!r} holds {found.dtype} of shape {found.shape}: give finite numbers, (n, "
                f"{', '.join(map(str, shape))})"
            )
        return found

    def _refused(self, why: str) -> UserError:
        return UserError(f"concept {self.shown!r}: {why}", setting="path", given=str(self.path))


@lru_cache(maxsize=4096)
def _why_unreadable(path: Path, *, image: bool, changed: tuple[int, int]) -> str:
    """Returns why a file cannot be used as an example; empty where it can.

    Args:
        path: of the file.
        image: whether it must be an image; else an array.
        changed: time of its last change and its size: a file that has changed is looked at again.
    """
    if image:
        try:
            Decoder(height=1, width=1, channels=1, convert=True).check(path)
        except DataError as error:
            return (
                f"the file {str(path)!r} cannot be read as an image: {error}; repair it, or take it out of the folder"
            )
        return ""
    fix = "write finite numbers, (n, ...) records, by numpy.save"
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError):
        return f"the file {str(path)!r} cannot be read as an array of numbers (.npy): {fix}"
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu" or not found.ndim:
        return f"the file {str(path)!r} holds no array of numbers (.npy): {fix}"
    return "" if np.isfinite(found).all() else f"the file {str(path)!r} holds NaN or infinity: {fix}"
