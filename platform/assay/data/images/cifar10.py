"""CIFAR-10: small photographs in ten classes (Krizhevsky 2009)."""

import pickletools
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from assay.data.base import Dataset, Normalisation, Source
from assay.data.images.base import image_dataset, intensities, read_named_arrays
from assay.data.images.files import Decoder
from assay.data.intended_use import IntendedUse
from assay.data.locate import download, find, md5
from assay.errors import DataError
from assay.registry import register

_ARCHIVE = "cifar-10-binary.tar.gz"
_URL = f"https://www.cs.toronto.edu/~kriz/{_ARCHIVE}"
_ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
_BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
_PICKLES = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
"""MD5 of the files of the Python version, as torchvision checks them."""
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_IMAGES = 10_000
"""Number of images in each published file."""
_IN_CLASS = 5_000, 1_000
"""Number of images of each class for training and for testing."""
_PIXELS = 3 * 32 * 32


class _Part(NamedTuple):
    pixels: np.ndarray
    """(n, 32, 32, 3) uint8."""
    labels: np.ndarray
    """(n,) integers."""


@register("dataset")
class CIFAR10(Source):
    """Photographs of 32 × 32 pixels, with the official split of 50,000 and 10,000.

    In ``cifar10/`` of the data folder, the first of these is read: ``cifar-10-batches-bin/``, the published
    ``cifar-10-binary.tar.gz``, torchvision's ``cifar-10-batches-py/``, ``cifar10.npz``, or a single other ``.npz`` file
    (``x_train``, ``y_train``, ``x_test``, ``y_test``, ``class_names``). Otherwise the archive is downloaded.
    Files with a published MD5 are verified. The files of the Python version are pickles; their pixels and labels are
    extracted without unpickling.
    """

    name: Literal["cifar10"] = "cifar10"

    def load(self) -> Dataset:
        train, test, warnings = self._parts()
        return image_dataset(
            name=self.name,
            x=intensities(np.concatenate([train.pixels, test.pixels])),
            y=np.concatenate([train.labels, test.labels]).astype(np.int64),
            class_names=CLASSES,
            official=np.repeat(["train", "test"], [len(train.labels), len(test.labels)]),
            normalisation=Normalisation(mean=(0.4914, 0.4822, 0.4465), deviation=(0.2470, 0.2435, 0.2616)),
            licence="none stated; published for research",
            citation="Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images, University of Toronto",
            preprocessing="each pixel divided by 255",
            decoder=Decoder(height=32, width=32, channels=3, scaled_by_publisher=True),
            intended_use=IntendedUse(records="photographs of animals and vehicles"),
            warnings=warnings,
            stated=warnings,
        )

    def _parts(self) -> tuple[_Part, _Part, tuple[str, ...]]:
        if folder := find(self.name, "cifar-10-batches-bin"):
            return *_batches(partial(_plain, folder)), ()
        if archive := find(self.name, _ARCHIVE):
            return *_unpacked(archive), ()
        if folder := find(self.name, "cifar-10-batches-py"):
            return *_batches(partial(_python, folder)), ()
        if file := self._arrays():
            return _published_or_not(file)
        fetched = download(_URL, checksum=f"md5:{_ARCHIVE_MD5}", folder=self.name, name=_ARCHIVE, dataset=self.name)
        return *_unpacked(fetched), ()

    def _arrays(self) -> Path | None:
        if file := find(self.name, "cifar10.npz"):
            return file
        folder = find(self.name)
        files = [] if folder is None else sorted(folder.glob("*.npz"))
        if len(files) > 1:
            raise DataError(
                f"cifar10: {folder} holds {len(files)} files ({', '.join(file.name for file in files)}); "
                "call the one to read cifar10.npz"
            )
        return files[0] if files else None


def _batches(read: Callable[[str], _Part]) -> tuple[_Part, _Part]:
    *training, test = (_read(read, name) for name in _BATCHES)
    train = _Part(*(np.concatenate(both) for both in zip(*training, strict=True)))
    for part, each in zip((train, test), _IN_CLASS, strict=True):
        counts = np.bincount(part.labels, minlength=10)
        if len(counts) > 10 or (counts != each).any():
            raise DataError(
                f"cifar10: a class should have {each} images, found {counts.tolist()} by label; fetch {_URL} again"
            )
    return train, test


def _read(read: Callable[[str], _Part], name: str) -> _Part:
    try:
        return read(name)
    except (OSError, KeyError, tarfile.TarError) as error:
        raise DataError(f"cifar10: {name} cannot be read ({error}); fetch {_URL} again") from None


def _binary(source: Path, raw: bytes) -> _Part:
    """Reads one file of the binary version: a label and 3 × 32 × 32 pixels an image, one byte each."""
    if len(raw) != _IMAGES * (1 + _PIXELS):
        raise DataError(
            f"cifar10: {source} has {len(raw)} bytes instead of {_IMAGES * (1 + _PIXELS)}; fetch {_URL} again"
        )
    rows = np.frombuffer(raw, np.uint8).reshape(_IMAGES, 1 + _PIXELS)
    return _Part(_photographs(rows[:, 1:]), rows[:, 0])


def _unpacked(archive: Path) -> tuple[_Part, _Part]:
    _check_md5(archive, _ARCHIVE_MD5)

    def member(name: str) -> _Part:
        inner = f"cifar-10-batches-bin/{name}.bin"
        extracted = opened.extractfile(inner)
        if extracted is None:
            raise KeyError(f"{inner} of {archive} is no file")
        return _binary(archive / inner, extracted.read())

    with tarfile.open(archive) as opened:
        return _batches(member)


def _plain(folder: Path, name: str) -> _Part:
    path = folder / f"{name}.bin"
    return _binary(path, path.read_bytes())


def _python(folder: Path, name: str) -> _Part:
    """Reads one file of the Python version, after its MD5 is verified."""
    path = folder / name
    _check_md5(path, _PICKLES[name])
    return _searched(path, path.read_bytes())


def _searched(path: Path, raw: bytes) -> _Part:
    """Extracts pixels and labels from a pickle's operations; none of the operations is executed."""
    pixels, labels, counting = b"", bytearray(), False
    for operation, value, _ in pickletools.genops(raw):
        if isinstance(value, str) and len(value) == _IMAGES * _PIXELS:
            pixels = value.encode("latin-1")
        elif value == "labels":
            counting = True
        elif counting and operation.name == "BININT1" and len(labels) < _IMAGES:
            labels.append(int(value or 0))
    if not pixels or len(labels) != _IMAGES:
        raise DataError(f"cifar10: {path} does not hold {_IMAGES} images and labels; fetch {_URL} instead")
    return _Part(
        _photographs(np.frombuffer(pixels, np.uint8).reshape(_IMAGES, _PIXELS)), np.frombuffer(bytes(labels), np.uint8)
    )


def _photographs(rows: np.ndarray) -> np.ndarray:
    """Returns (n, 32, 32, 3) from rows of all red, then all green, then all blue pixels."""
    return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def _published_or_not(path: Path) -> tuple[_Part, _Part, tuple[str, ...]]:
    """Returns the images of an ``.npz`` file, and warnings about them."""
    arrays = read_named_arrays(path, ("x_train", "y_train", "x_test", "y_test", "class_names"), dataset="cifar10")
    if tuple(str(name) for name in arrays["class_names"].flat) != CLASSES:
        raise DataError(
            f"cifar10: class_names of {path} are {arrays['class_names'].tolist()}; they must be {', '.join(CLASSES)}"
        )
    train, test = (_Part(arrays[f"x_{part}"], arrays[f"y_{part}"].reshape(-1)) for part in ("train", "test"))
    for name, part in (("train", train), ("test", test)):
        pixels, labels = part
        if pixels.shape != (len(labels), 32, 32, 3) or pixels.dtype != np.uint8 or len(labels) == 0:
            raise DataError(
                f"cifar10: x_{name} of {path} is {pixels.dtype} of shape {pixels.shape} for {len(labels)} labels; "
                "it must be uint8 of shape (n, 32, 32, 3)"
            )
        if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= len(CLASSES):
            raise DataError(f"cifar10: y_{name} of {path} must be whole numbers from 0 to {len(CLASSES) - 1}")
    warning = "a local file, not the official one: its pixels may have been compressed again, which moves robustness"
    sizes = len(train.labels), len(test.labels)
    if sizes == (50_000, 10_000):
        return train, test, (warning,)
    subset = f"a subset of {sizes[0]} training and {sizes[1]} test images, not the official 50000 and 10000"
    return train, test, (subset, warning)


def _check_md5(path: Path, published: str) -> None:
    digest = md5(path)
    if digest != published:
        raise DataError(f"cifar10: the MD5 of {path} is {digest}, published is {published}; fetch {_URL} again")
