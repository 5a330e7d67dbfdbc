"""Which files of a folder are read: no image is passed over without a word, and none is read in part."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from assay.data.base import Dataset
from assay.data.images.dicom import UnreadableImageError
from assay.data.images.files import Decoder
from assay.data.images.listing import listed
from assay.errors import DataError
from assay.registry import build
from tests.mistakes import refused

RAMP = np.linspace(0, 255, 80).astype(np.uint8).reshape(8, 10)
GREY = Decoder(height=8, width=10, channels=1)


def save(path: Path, **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RAMP).save(path, **how)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("ill", "well"):
        for number in range(2):
            save(tmp_path / "xray" / name / f"{number}.png")
    return tmp_path / "xray"


CLASSES = ["well", "ill"]


@pytest.fixture
def load(folder: Path) -> Callable[..., Dataset]:
    settings = {"name": "image_folder", "path": str(folder), "size": [8, 10], "channels": 1, "classes": CLASSES}
    return lambda **more: build("dataset", {**settings, **more}).load()


def nameless(path: Path) -> Path:
    """A DICOM file without an extension."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = SecondaryCaptureImageStorage
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID = "1.2.3"
    file.Rows, file.Columns, file.SamplesPerPixel, file.PhotometricInterpretation = 8, 10, 1, "MONOCHROME2"
    file.BitsAllocated = file.BitsStored = 8
    file.HighBit, file.PixelRepresentation, file.PixelData = 7, 0, RAMP.tobytes()
    file["PixelData"].VR = "OB"
    file.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("name", ["IM000001", "1.2.840.113619.2.5", "slice.ima"])
def test_dicom_is_known_by_its_preamble_whatever_its_name(
    folder: Path, load: Callable[..., Dataset], name: str
) -> None:
    nameless(folder / "ill" / name)
    data = load()
    assert len(data) == 5
    assert data.reading == ("5 of 5 images in 2 classes: well (2), ill (3); ill is the one to detect",)
    assert all(np.allclose(record[0], RAMP / 255, atol=1e-6) for record in data.x[:])


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".jfif"])
def test_other_formats_of_pillow_are_read(folder: Path, load: Callable[..., Dataset], suffix: str) -> None:
    save(folder / "ill" / f"a{suffix}", **({"format": "JPEG"} if suffix == ".jfif" else {}))
    data = load(convert=True)
    assert len(data) == 5
    assert np.abs(data.x[:] - RAMP / 255).max() < 0.05


def test_every_file_that_is_not_read_is_listed(folder: Path, load: Callable[..., Dataset]) -> None:
    for name in ("ill/notes.txt", "well/scan.nii.gz", "well/photo.heic", "readme", "ill/.DS_Store"):
        (folder / name).write_bytes(b"no image that is read")
    save(folder / "beside.png")
    data = load()
    assert data.reading == (
        "4 of 4 images in 2 classes: well (2), ill (2); ill is the one to detect",
        "5 files are no images that are read: beside.png, readme, well/photo.heic, well/scan.nii.gz, ill/notes.txt",
    )
    assert data.warnings == ("3 images were not read: beside.png, well/photo.heic, well/scan.nii.gz",)


def test_a_class_of_unread_files_says_what_it_holds(folder: Path, load: Callable[..., Dataset]) -> None:
    for path in (folder / "ill").iterdir():
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(DataError) as caught:
        load()
    assert caught.value.given == [".heic"]


@pytest.mark.parametrize("suffix", [".tif", ".gif", ".webp", ".png"])
def test_a_file_of_several_images_is_refused(tmp_path: Path, suffix: str) -> None:
    others = [Image.fromarray(RAMP[::-1]), Image.fromarray(255 - RAMP)]
    path = save(tmp_path / f"a{suffix}", save_all=True, append_images=others)
    decoder = replace(GREY, convert=True)
    for look in (decoder.check, decoder.read):
        with pytest.raises(UnreadableImageError, match="3 pages or frames: give each as an image of its own"):
            look(path)


def test_what_was_left_out_is_counted(folder: Path, load: Callable[..., Dataset]) -> None:
    (folder / "ill" / "broken.png").write_bytes(b"no image")
    data = load(on_corrupt="skip")
    assert data.reading == ("4 of 5 images in 2 classes: well (2), ill (2); ill is the one to detect",)
    assert data.warnings[0].startswith("1 of 5 images cannot be decoded and are left out: ill/broken.png")


@pytest.mark.parametrize("target", ["..", "../..", "."])
def test_a_link_that_leads_back_is_refused(tmp_path: Path, target: str) -> None:
    for name in ("a", "b"):
        (tmp_path / "x" / name / "in").mkdir(parents=True)
        (tmp_path / "x" / name / "1.png").touch()
    link = tmp_path / "x" / "a" / "in" / "loop"
    link.symlink_to(target)
    with refused(DataError, "path", str(link)):
        listed(tmp_path / "x", {}, dataset="mine")
    link.unlink()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "2.png").touch()
    link.symlink_to(tmp_path / "elsewhere")
    assert len(listed(tmp_path / "x", {}, dataset="mine").names) == 3


def test_class_folders_that_differ_in_case_alone_are_one_class_or_named(tmp_path: Path) -> None:
    for name in ("Normal", "normal", "ill"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").touch()
    with refused(DataError, "classes", "normal"):
        listed(tmp_path, {}, dataset="mine")
    assert len(listed(tmp_path, {}, dataset="mine", classes=("Normal", "normal", "ill")).classes) == 3
