"""Examples that the user gives: a folder of images, or an array."""

import hashlib
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from assay.data.base import Modality
from assay.data.images.files import Decoder, is_image
from assay.errors import UserError
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
        refuse_few(len(found), f"examples in {str(self.path)!r}")
        chosen = np.sort(draw.permutation(len(found))[:most])
        return torch.from_numpy(np.ascontiguousarray(found[chosen], np.float32)).to(pool.x)

    def fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for path in self._files():
            digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()

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
        read = [decoder.read(path) for path in self._files()]
        return np.stack(read) if read else np.empty((0, *pool.x.shape[1:]), np.float32)

    def _array(self, pool: Pool) -> np.ndarray:
        (path,) = self._files()
        try:
            found: np.ndarray = np.load(path, allow_pickle=False)
        except (ValueError, OSError) as error:
            raise self._refused(f"{str(path)!r} cannot be read as an array: {error}") from None
        shape = tuple(pool.x.shape[1:])
        if found.dtype.kind not in "fiu" or found.shape[1:] != shape or not np.isfinite(found).all():
            raise self._refused(
                f"{str(path)!r} holds {found.dtype} of shape {found.shape}: give finite numbers, (n, "
                f"{', '.join(map(str, shape))})"
            )
        return found

    def _refused(self, why: str) -> UserError:
        return UserError(f"concept {self.shown!r}: {why}", setting="path", given=str(self.path))
