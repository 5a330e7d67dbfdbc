"""One file becomes one record, in every format; what cannot be decoded is known before anything is trained."""

import io
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from assay.data.images.dicom import UnreadableImageError
from assay.data.images.files import Decoder, ImageFiles, WrongChannelsError
from assay.errors import DataError

GREY = Decoder(height=8, width=10, channels=1)
COLOUR = Decoder(height=8, width=10, channels=3)
LADDER = np.linspace(0, 255, 80).astype(np.uint8).reshape(8, 10)
PAINTED = np.stack([LADDER, LADDER[::-1], 255 - LADDER], -1)


def written(path: Path, pixels: np.ndarray, mode: str | None = None, **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path, **how)
    return path


def dicom(path: Path, pixels: np.ndarray, **tags: Any) -> Path:
    """A DICOM file of unsigned pixels (height, width) or (height, width, 3), with more tags."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = Dataset()
    file.file_meta = meta
    file.SOPClassUID, file.SOPInstanceUID = SecondaryCaptureImageStorage, meta.MediaStorageSOPInstanceUID
    file.Rows, file.Columns = pixels.shape[:2]
    file.SamplesPerPixel = 1 if pixels.ndim == 2 else pixels.shape[2]
    file.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    file.BitsAllocated = file.BitsStored = 8 * pixels.itemsize
    file.HighBit, file.PixelRepresentation = file.BitsStored - 1, int(pixels.dtype.kind == "i")
    if pixels.ndim == 3:
        file.PlanarConfiguration = 0
    for tag, value in tags.items():
        setattr(file, tag, value)
    file.PixelData = pixels.tobytes()
    file["PixelData"].VR = "OW" if pixels.itemsize > 1 else "OB"
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".PNG"])
@pytest.mark.parametrize(("decoder", "pixels"), [(GREY, LADDER), (COLOUR, PAINTED)], ids=["grey", "colour"])
def test_formats_without_loss_keep_every_pixel(
    tmp_path: Path, suffix: str, decoder: Decoder, pixels: np.ndarray
) -> None:
    path = written(tmp_path / f"a{suffix}", pixels)
    decoder.check(path)
    record = decoder.read(path)
    assert (record.shape, record.dtype) == (decoder.shape, np.float32)
    assert np.array_equal(record, np.atleast_3d(pixels).transpose(2, 0, 1) / np.float32(255))


def test_jpeg_is_close(tmp_path: Path) -> None:
    smooth = np.linspace(0, 255, 80).astype(np.uint8).reshape(10, 8).T
    record = GREY.read(written(tmp_path / "a.jpeg", np.ascontiguousarray(smooth), quality=95))
    assert np.abs(record[0] - smooth / 255).max() < 0.02


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_span_black_to_white(tmp_path: Path, suffix: str) -> None:
    pixels = np.linspace(0, 65535, 80).astype(np.uint16).reshape(8, 10)
    record = GREY.read(written(tmp_path / f"a{suffix}", pixels))
    assert np.allclose(record[0], pixels / 65535, atol=1e-6)


def test_a_photograph_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    record = GREY.read(written(tmp_path / "a.png", LADDER, exif=exif))
    assert np.array_equal(record[0], LADDER[::-1, ::-1] / np.float32(255))


def test_scaling_averages_what_falls_on_a_pixel(tmp_path: Path) -> None:
    checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    assert np.allclose(replace(GREY, height=4, width=4).read(written(tmp_path / "checks.png", checks)), 0.5, atol=0.02)


def test_the_middle_is_cut_out_of_what_was_scaled_to_the_shorter_side(tmp_path: Path) -> None:
    wide = np.zeros((40, 120), np.uint8)
    wide[:, 45:75] = 255
    # 20 pixels on the shorter side: 2 of the image fall on one, and the middle 10 × 10 are its middle 20 × 20.
    cut = Decoder(height=10, width=10, channels=1, shorter=20)
    assert np.allclose(cut.read(written(tmp_path / "wide.png", wide)), 1)
    edge = np.zeros((40, 120), np.uint8)
    edge[:, 60:] = 255
    record = cut.read(written(tmp_path / "edge.png", edge))
    assert np.allclose(record[..., :4], 0)
    assert np.allclose(record[..., 6:], 1)


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("RGBA", 4), ("LA", 2), ("P", 3), ("CMYK", 4)])
def test_other_channels_are_refused_unless_they_may_be_converted(tmp_path: Path, mode: str, channels: int) -> None:
    path = written(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"), LADDER, mode)
    for look in (GREY.check, GREY.read):
        with pytest.raises(WrongChannelsError, match=f"{channels} channels"):
            look(path)
    record = replace(GREY, convert=True).read(path)
    assert np.allclose(record[0], LADDER / 255, atol=0.01)


def test_converting_repeats_grey_and_weighs_colour(tmp_path: Path) -> None:
    grey = replace(COLOUR, convert=True).read(written(tmp_path / "grey.png", LADDER))
    assert np.array_equal(grey, np.stack([LADDER / np.float32(255)] * 3))
    deep = replace(COLOUR, convert=True).read(written(tmp_path / "deep.png", LADDER.astype(np.uint16) * 257))
    assert np.allclose(deep, grey, atol=1e-6)
    green = np.zeros((8, 10, 3), np.uint8)
    green[..., 1] = 255
    assert np.allclose(replace(GREY, convert=True).read(written(tmp_path / "green.png", green)), 0.587, atol=0.003)


def test_a_floating_point_image_has_no_known_white(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tiff", LADDER.astype(np.float32))
    for look in (GREY.check, GREY.read):
        with pytest.raises(UnreadableImageError, match="pixels of kind F, whose greatest value is not known"):
            look(path)


def broken(path: Path, kind: str) -> Path:
    """A file that begins well and then ends, or one that is nothing."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    whole = dicom(path, pixels) if path.suffix == ".dcm" else written(path, pixels)
    raw = whole.read_bytes()
    path.write_bytes({"truncated": raw[: len(raw) * 2 // 3], "empty": b"", "text": b"no image at all"}[kind])
    return path


@pytest.mark.parametrize("kind", ["truncated", "empty", "text"])
@pytest.mark.parametrize("suffix", [".jpeg", ".png", ".bmp", ".tiff", ".dcm"])
def test_a_broken_file_is_found_by_looking_and_by_reading(tmp_path: Path, suffix: str, kind: str) -> None:
    path = broken(tmp_path / f"a{suffix}", kind)
    for look in (GREY.check, GREY.read):
        with pytest.raises(UnreadableImageError) as caught:
            look(path)
        assert str(caught.value)
        assert str(tmp_path) not in str(caught.value)


def test_a_jpeg_with_something_behind_it_is_whole(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jpg", LADDER)
    path.write_bytes(path.read_bytes() + b"what a camera appends")
    GREY.check(path)


def test_grey_dicom_spans_what_its_bits_can_hold(tmp_path: Path) -> None:
    pixels = np.linspace(0, 4095, 80).astype(np.uint16).reshape(8, 10)
    path = dicom(tmp_path / "a.dcm", pixels, BitsStored=12, HighBit=11)
    GREY.check(path)
    assert np.allclose(GREY.read(path)[0], pixels / 4095, atol=1e-6)
    signed = (pixels.astype(np.int16)) - 2048
    path = dicom(tmp_path / "b.dcm", signed, BitsStored=12, HighBit=11, RescaleSlope="2", RescaleIntercept="-7")
    assert np.allclose(GREY.read(path)[0], pixels / 4095, atol=1e-6)
    falling = dicom(tmp_path / "c.dcm", pixels, BitsStored=12, HighBit=11, RescaleSlope="-1", RescaleIntercept="9")
    assert np.allclose(GREY.read(falling)[0], 1 - pixels / 4095, atol=1e-6)


def test_dicom_is_seen_through_its_window(tmp_path: Path) -> None:
    pixels = np.linspace(0, 4095, 80).astype(np.uint16).reshape(8, 10)
    about = {
        "RescaleSlope": "1",
        "RescaleIntercept": "-1024",
        "WindowCenter": ["40", "500"],
        "WindowWidth": ["401", "9"],
    }
    hounsfield = pixels - 1024.0
    record = GREY.read(dicom(tmp_path / "a.dcm", pixels, **about))
    # PS3.3 C.11.2.1.2: from centre - 0.5 - (width - 1) / 2 to centre - 0.5 + (width - 1) / 2.
    assert np.allclose(record[0], np.clip((hounsfield - 39.5 + 200) / 400, 0, 1), atol=1e-6)
    exact = GREY.read(dicom(tmp_path / "b.dcm", pixels, **about, VOILUTFunction="LINEAR_EXACT"))
    assert np.allclose(exact[0], np.clip((hounsfield - 40 + 200.5) / 401, 0, 1), atol=1e-6)
    sigmoid = GREY.read(dicom(tmp_path / "c.dcm", pixels, **about, VOILUTFunction="SIGMOID"))
    assert np.allclose(sigmoid[0], 1 / (1 + np.exp(-4 * (hounsfield - 40) / 401)), atol=1e-6)
    with pytest.raises(UnreadableImageError, match="window function 'OTHER' is unknown"):
        GREY.read(dicom(tmp_path / "d.dcm", pixels, **about, VOILUTFunction="OTHER"))


def test_an_empty_rescale_is_the_default_one(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", LADDER, RescaleSlope=None, RescaleIntercept="", WindowCenter="", VOILUTFunction="")
    GREY.check(path)
    assert np.allclose(GREY.read(path)[0], LADDER / 255, atol=1e-6)


@pytest.mark.parametrize("tag", ["RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"])
def test_a_grey_scale_that_is_none_is_found_by_looking_and_by_reading(tmp_path: Path, tag: str) -> None:
    path = dicom(tmp_path / "a.dcm", LADDER, **{tag: "12345678"})
    path.write_bytes(path.read_bytes().replace(b"12345678", b"nonsense"))
    for look in (GREY.check, GREY.read):
        with pytest.raises(UnreadableImageError, match=f"its {tag} is no number: .*nonsense"):
            look(path)


def test_inverted_dicom_is_turned_so_that_more_is_brighter(tmp_path: Path) -> None:
    plain, inverted = (
        GREY.read(dicom(tmp_path / f"{kind}.dcm", LADDER, PhotometricInterpretation=kind))
        for kind in ("MONOCHROME2", "MONOCHROME1")
    )
    assert np.allclose(plain + inverted, 1, atol=1e-6)
    assert np.allclose(plain[0], LADDER / 255, atol=1e-6)


def test_colour_dicom_is_colour(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", PAINTED)
    COLOUR.check(path)
    assert np.allclose(COLOUR.read(path), PAINTED.transpose(2, 0, 1) / 255, atol=1e-6)
    for look in (GREY.check, GREY.read):
        with pytest.raises(WrongChannelsError, match="3 channels"):
            look(path)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"NumberOfFrames": 4}, "4 frames: give each as an image of its own"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "PALETTE COLOR of 1 × 8 bits is not read"),
    ],
)
def test_dicom_of_a_kind_that_is_not_read_says_so(tmp_path: Path, tags: dict[str, Any], message: str) -> None:
    path = dicom(tmp_path / "a.dcm", LADDER, **tags)
    for look in (GREY.check, GREY.read):
        with pytest.raises(UnreadableImageError, match=message):
            look(path)


@pytest.fixture
def files(tmp_path: Path) -> ImageFiles:
    """Six images whose brightness is their place."""
    names = [f"class {number % 2}/{number}.png" for number in range(6)]
    for number, name in enumerate(names):
        written(tmp_path / name, np.full((4, 4), 40 * number, np.uint8))
    return ImageFiles(tmp_path, names, Decoder(height=2, width=3, channels=1))


def places(records: np.ndarray) -> list[int]:
    return (records.reshape(len(records), -1).mean(1) * 255 / 40).round().astype(int).tolist()


def test_records_come_as_from_an_array(files: ImageFiles) -> None:
    assert (len(files), files.shape, files.ndim, files.dtype) == (6, (6, 1, 2, 3), 4, np.float32)
    assert places(files[np.array([4, 1, 1])]) == [4, 1, 1]
    assert places(files[::-2]) == [5, 3, 1]
    assert places(files[np.arange(6) > 3]) == [4, 5]
    assert files[np.array([], np.int64)].shape == (0, 1, 2, 3)
    assert files[2].shape == (1, 2, 3)
    assert files[:].dtype == np.float32
    assert files.name(3) == "class 1/3.png"
    with pytest.raises(IndexError):
        files[np.array([6])]


@pytest.mark.parametrize("threads", [1, 3])
def test_order_does_not_depend_on_threads(files: ImageFiles, threads: int) -> None:
    torch.set_num_threads(threads)
    rows = np.array([5, 0, 3, 2, 4, 1])
    with ThreadPoolExecutor(4) as readers:
        for found in readers.map(lambda _: places(files[rows]), range(8)):
            assert found == rows.tolist()


def test_it_travels_without_its_images(files: ImageFiles) -> None:
    raw = pickle.dumps(files)
    again = pickle.loads(raw)
    assert len(raw) < 2000
    assert again.fingerprint() == files.fingerprint()
    assert np.array_equal(again[:], files[:])


def test_the_fingerprint_is_of_names_sizes_and_decoding_and_not_of_the_place(files: ImageFiles, tmp_path: Path) -> None:
    names = [files.name(position) for position in range(6)]
    moved = tmp_path / "moved"
    for name in names:
        (moved / name).parent.mkdir(parents=True, exist_ok=True)
        (moved / name).write_bytes((tmp_path / name).read_bytes())
    assert ImageFiles(moved, names, files.decoder).fingerprint() == files.fingerprint()
    others = [
        ImageFiles(moved, names[:5], files.decoder),
        ImageFiles(moved, names, replace(files.decoder, shorter=4)),
        ImageFiles(moved, names[::-1], files.decoder),
    ]
    (moved / names[0]).write_bytes((moved / names[0]).read_bytes() + b"!")
    others.append(ImageFiles(moved, names, files.decoder))
    assert len({other.fingerprint() for other in (files, *others)}) == 5


def test_a_file_that_went_or_broke_since_is_named(files: ImageFiles, tmp_path: Path) -> None:
    (tmp_path / files.name(2)).unlink()
    with pytest.raises(DataError, match=r"class 0/2\.png cannot be used .*repair or remove it, and start again"):
        files[:]
    buffer = io.BytesIO()
    Image.fromarray(PAINTED).save(buffer, "PNG")
    (tmp_path / files.name(2)).write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match=r"class 0/2\.png cannot be used \(3 channels\)"):
        files[2:3]
