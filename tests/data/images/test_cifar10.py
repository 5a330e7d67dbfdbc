"""CIFAR-10 from each form in which it is found: the same images, nothing unpickled, and nothing unpublished unsaid."""

import hashlib
import io
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.data.base import Dataset
from assay.data.images import cifar10
from assay.data.images.cifar10 import CLASSES
from assay.errors import DataError
from assay.registry import build

EACH = 20
NAMES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the files are looked for; a published file is taken to hold 20 images instead of 10,000."""
    monkeypatch.setenv("ASSAY_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cifar10, "_IMAGES", EACH)
    monkeypatch.setattr(cifar10, "_IN_CLASS", (5 * EACH // 10, EACH // 10))
    (tmp_path / "data/cifar10").mkdir(parents=True)
    return tmp_path / "data/cifar10"


def contents(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows (20, 3072) of red, green and blue pixels, and labels, of one file."""
    generator = np.random.default_rng(NAMES.index(name))
    labels = np.arange(EACH) % 10
    return generator.integers(0, 256, (EACH, 3072), dtype=np.uint8), generator.permutation(labels).astype(np.uint8)


def binary(name: str) -> bytes:
    rows, labels = contents(name)
    return np.hstack([labels[:, None], rows]).tobytes()


def python(name: str) -> bytes:
    """A dictionary as Python 2 pickled it at protocol 2, operation by operation."""

    def text(said: bytes) -> bytes:
        return pickle.SHORT_BINSTRING + bytes([len(said)]) + said

    def numbers(values: np.ndarray) -> bytes:
        return b"".join(pickle.BININT1 + bytes([value]) for value in values.tolist())

    rows, labels = contents(name)
    raw = rows.tobytes()
    array = pickle.BINSTRING + len(raw).to_bytes(4, "little") + raw
    listed = pickle.EMPTY_LIST + pickle.MARK + numbers(labels) + pickle.APPENDS
    return b"".join(
        [
            pickle.PROTO + b"\x02" + pickle.EMPTY_DICT + pickle.MARK,
            text(b"batch_label") + text(b"batch 1 of 1"),
            text(b"data") + b"cos\nabort\n" + pickle.MARK + numbers(np.array([7, 9])) + array + pickle.TUPLE,
            text(b"labels") + listed,
            text(b"more") + numbers(np.array([3])),
            pickle.SETITEMS + pickle.STOP,
        ]
    )


def write_binaries(folder: Path) -> None:
    (folder / "cifar-10-batches-bin").mkdir()
    for name in NAMES:
        (folder / f"cifar-10-batches-bin/{name}.bin").write_bytes(binary(name))


def write_pickles(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "cifar-10-batches-py").mkdir()
    for name in NAMES:
        (folder / f"cifar-10-batches-py/{name}").write_bytes(python(name))
    published = {name: hashlib.md5(python(name)).hexdigest() for name in NAMES}
    monkeypatch.setattr(cifar10, "_PICKLES", published)


def write_archive(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name in NAMES:
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            member.size = len(binary(name))
            archive.addfile(member, io.BytesIO(binary(name)))
    monkeypatch.setattr(cifar10, "_ARCHIVE_MD5", hashlib.md5(path.read_bytes()).hexdigest())


def arrays(n: int = 30, **changes: Any) -> dict[str, Any]:
    labels = np.arange(n) % 10
    images = np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    held = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels, "class_names": np.array(CLASSES)}
    return {**held, **changes}


def load() -> Dataset:
    return build("dataset", "cifar10").load()


def refusal() -> str:
    with pytest.raises(DataError) as caught:
        load()
    return str(caught.value)


def is_the_published_set(data: Dataset) -> bool:
    """Whether every pixel and label is where the published format says."""
    rows, labels = (np.concatenate(both) for both in zip(*(contents(name) for name in NAMES), strict=True))
    assert data.official is not None
    return (
        np.array_equal(data.x[:], rows.reshape(-1, 3, 32, 32) / np.float32(255))
        and np.array_equal(data.y, labels)
        and data.official.tolist() == ["train"] * 5 * EACH + ["test"] * EACH
        and data.warnings == ()
    )


def test_the_binary_version_is_read(folder: Path) -> None:
    write_binaries(folder)
    data = load()
    assert is_the_published_set(data)
    assert data.class_names == CLASSES
    assert data.normalisation is not None
    assert data.normalisation.mean == (0.4914, 0.4822, 0.4465)


def test_the_published_archive_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_archive(folder / "cifar-10-binary.tar.gz", monkeypatch)
    assert is_the_published_set(load())


def test_an_archive_of_another_md5_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_archive(folder / "cifar-10-binary.tar.gz", monkeypatch)
    monkeypatch.setattr(cifar10, "_ARCHIVE_MD5", "0" * 32)
    assert "published is 00000000000000000000000000000000; fetch https://" in refusal()


def test_the_archive_is_downloaded_where_nothing_lies(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_archive(tmp_path / "elsewhere/cifar.tar.gz", monkeypatch)
    asked: dict[str, Any] = {}

    def retrieve(url: str, **how: Any) -> str:
        asked.update(how, url=url)
        return str(tmp_path / "elsewhere/cifar.tar.gz")

    monkeypatch.setattr("pooch.retrieve", retrieve)
    assert is_the_published_set(load())
    assert asked["url"] == "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    assert asked["known_hash"] == f"md5:{cifar10._ARCHIVE_MD5}"


def test_without_files_and_network_the_error_says_where_to_get_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(url: str, **how: Any) -> str:
        raise OSError("no network")

    monkeypatch.setattr("pooch.retrieve", offline)
    message = refusal()
    assert "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz" in message
    assert "ASSAY_DATA" in message


def test_torchvisions_files_are_searched_and_never_unpickled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The files name os.abort, as an attacker's would: whoever carries their operations out ends here.
    write_pickles(folder, monkeypatch)
    assert is_the_published_set(load())


def test_torchvisions_files_of_another_md5_are_not_even_searched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def searched(raw: bytes) -> None:
        raise AssertionError("searched before its MD5 was known")

    write_pickles(folder, monkeypatch)
    (folder / "cifar-10-batches-py/data_batch_1").write_bytes(python("data_batch_1") + b"\0")
    monkeypatch.setattr("pickletools.genops", searched)
    assert f"the MD5 of {folder / 'cifar-10-batches-py/data_batch_1'} is " in refusal()


def test_torchvisions_files_without_images_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pickles(folder, monkeypatch)
    empty = pickle.dumps({"labels": list(range(20)), "data": b"short"}, protocol=2)
    (folder / "cifar-10-batches-py/data_batch_1").write_bytes(empty)
    monkeypatch.setitem(cifar10._PICKLES, "data_batch_1", hashlib.md5(empty).hexdigest())
    assert "data_batch_1 does not hold 20 images and labels" in refusal()


@pytest.mark.parametrize("lost", ["data_batch_2", "test_batch"])
def test_a_lost_file_is_named(folder: Path, lost: str) -> None:
    write_binaries(folder)
    (folder / f"cifar-10-batches-bin/{lost}.bin").unlink()
    assert f"cifar10: {lost} cannot be read" in refusal()


def test_a_truncated_file_is_named(folder: Path) -> None:
    write_binaries(folder)
    (folder / "cifar-10-batches-bin/data_batch_4.bin").write_bytes(binary("data_batch_4")[:-1])
    assert "data_batch_4.bin has 61459 bytes instead of 61460" in refusal()


def test_labels_that_are_not_the_published_ones_are_refused(folder: Path) -> None:
    write_binaries(folder)
    (folder / "cifar-10-batches-bin/data_batch_4.bin").write_bytes(bytes(20 * 3073))
    assert "a class should have 10 images, found [28, 8," in refusal()


def test_a_subset_says_so_beside_its_figures(folder: Path) -> None:
    np.savez(folder / "some.npz", **arrays())
    data = load()
    assert data.x.shape == (60, 3, 32, 32)
    assert data.warnings[0] == "a subset of 30 training and 30 test images, not the official 50000 and 10000"
    assert "may have been compressed again, which moves robustness" in data.warnings[1]


def test_of_several_files_one_must_be_named(folder: Path) -> None:
    for name in ("a.npz", "b.npz"):
        np.savez(folder / name, **arrays())
    assert "holds 2 files (a.npz, b.npz); call the one to read cifar10.npz" in refusal()
    np.savez(folder / "cifar10.npz", **arrays(40))
    assert len(load()) == 80


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"x_test": np.zeros((30, 3, 32, 32), np.uint8)}, "must be uint8 of shape (n, 32", id="axes"),
        pytest.param({"x_train": np.zeros((30, 32, 32, 3))}, "x_train of {path} is float64", id="no pixels"),
        pytest.param({"x_train": np.zeros((29, 32, 32, 3), np.uint8)}, "for 30 labels", id="too few images"),
        pytest.param({"y_test": np.full(30, 10)}, "y_test of {path} must be whole numbers from 0 to 9", id="label"),
        pytest.param({"y_test": np.linspace(0, 1, 30)}, "y_test of {path} must be whole numbers", id="fractions"),
        pytest.param({"class_names": np.array(["cat"] * 10)}, "they must be airplane, automobile", id="classes"),
        pytest.param({"class_names": np.array([{}], object)}, "holds Python objects or ragged rows", id="objects"),
    ],
)
def test_arrays_of_another_form_are_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    np.savez(folder / "cifar10.npz", **arrays(**changes))
    assert message.format(path=folder / "cifar10.npz") in refusal()


@pytest.mark.skipif(
    not Path(os.environ.get("ASSAY_DATA", ""), "cifar10").is_dir(), reason="ASSAY_DATA names no folder with cifar10/"
)
def test_real_photographs_look_like_the_published_ones() -> None:
    data = load()
    assert data.x.shape == (4000, 3, 32, 32)
    assert data.normalisation is not None
    assert np.allclose(data.x[:].mean((0, 2, 3)), data.normalisation.mean, atol=0.01)
    assert np.allclose(data.x[:].std((0, 2, 3)), data.normalisation.deviation, atol=0.01)
    assert np.bincount(data.y).tolist() == [400] * 10
