"""A PNG or DICOM becomes the record that the data set would hold, or is refused before anything is decoded."""

import base64
import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from assay.data.base import Dataset
from assay.data.images.base import image_dataset
from assay.data.images.chest_xray import CHILDREN
from assay.data.images.files import Decoder
from serve.inputs import images
from serve.inputs.images import ImageReader
from serve.inputs.read import Reader
from serve.inputs.records import Records
from serve.refusals import RefusedError
from tests.serve.inputs.dicom_files import (
    by_hand,
    dicom_bytes,
    element,
    fragments,
    pixel_data,
    size_by_hand,
)

RNG = np.random.default_rng(0)
XRAY = RNG.integers(0, 256, (60, 80)).astype(np.uint8)
TWELVE = np.linspace(0, 4095, 600).astype(np.uint16).reshape(20, 30)
SECRET = b"Lovelace"


def xrays(**settings: Any) -> Dataset:
    decoder = Decoder(**{"height": 24, "width": 32, "channels": 1, **settings})
    x = RNG.random((4, decoder.channels, decoder.height, decoder.width)).astype(np.float32)
    return image_dataset(
        name="xrays", x=x, y=np.arange(4) % 2, class_names=("a", "b"), decoder=decoder, intended_use=CHILDREN
    )


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader(xrays())


def png(pixels: np.ndarray, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **settings)
    return buffer.getvalue()


def chunk(name: bytes, content: bytes, *, length: int | None = None) -> bytes:
    told = len(content) if length is None else length
    return struct.pack(">I", told) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_by_hand(width: int, height: int, *chunks: bytes, bits: int = 8, colour: int = 0) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def read(reader: Reader, raw: bytes, kind: str = "dicom", **about: Any) -> Records:
    return reader.read([{kind: base64.b64encode(raw).decode()}], about=about or None)


def offline(raw: bytes, folder: Path, name: str, decoder: Decoder) -> np.ndarray:
    (folder / name).write_bytes(raw)
    return decoder.read(folder / name)


# What is read.


@pytest.mark.parametrize(
    "pixels",
    [
        XRAY,
        RNG.integers(0, 65536, (60, 80)).astype(np.uint16),
        RNG.integers(0, 256, (24, 32)).astype(np.uint8),
        RNG.integers(0, 2, (60, 80)).astype(bool),
    ],
)
@pytest.mark.parametrize("shorter", [None, 40])
def test_a_png_is_the_record_that_a_folder_of_images_would_hold(
    tmp_path: Path, pixels: np.ndarray, shorter: int | None
) -> None:
    dataset = xrays(shorter=shorter)
    raw = png(pixels)
    found = read(Reader(dataset), raw, "png")
    assert dataset.decoder is not None
    np.testing.assert_array_equal(found.x.numpy()[0], offline(raw, tmp_path, "a.png", dataset.decoder))
    assert found.placements[0] is not None and found.placements[0].source == pixels.shape


def test_colours_are_converted_where_the_data_set_does(tmp_path: Path) -> None:
    colours = RNG.integers(0, 256, (60, 80, 3)).astype(np.uint8)
    with pytest.raises(RefusedError, match="must have 1 channel"):
        read(Reader(xrays()), png(colours), "png")
    dataset = xrays(convert=True)
    assert dataset.decoder is not None
    for raw in (png(colours), png(np.dstack([colours, colours[..., :1]]))):
        found = read(Reader(dataset), raw, "png")
        np.testing.assert_array_equal(found.x.numpy()[0], offline(raw, tmp_path, "a.png", dataset.decoder))
    palette = io.BytesIO()
    Image.fromarray(colours).quantize(16).save(palette, "PNG", transparency=3)
    found = read(Reader(dataset), palette.getvalue(), "png")
    np.testing.assert_array_equal(found.x.numpy()[0], offline(palette.getvalue(), tmp_path, "b.png", dataset.decoder))


DICOMS: list[dict[str, Any]] = [
    {},
    {"BitsStored": 12, "HighBit": 11},
    {"BitsStored": 12, "HighBit": 11, "WindowCenter": "2000", "WindowWidth": "1500"},
    {"BitsStored": 12, "HighBit": 11, "RescaleSlope": "2", "RescaleIntercept": "-1000"},
    {"BitsStored": 12, "HighBit": 11, "PhotometricInterpretation": "MONOCHROME1"},
    {"syntax": "1.2.840.10008.1.2"},
]


@pytest.mark.parametrize("tags", DICOMS)
def test_a_dicom_is_the_record_that_a_folder_of_images_would_hold(
    tmp_path: Path, reader: Reader, tags: dict[str, Any]
) -> None:
    raw = dicom_bytes(TWELVE, **tags)
    found = read(reader, raw)
    expected = offline(raw, tmp_path, "a.dcm", reader.dataset.decoder)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.x.numpy()[0], expected)
    # Without BitsStored the 12 bits of the film are a sixteenth of the range.
    assert bool(found.warnings) == ("BitsStored" not in tags) and np.ptp(expected) > 0.05


def test_run_lengths_are_decoded(tmp_path: Path, reader: Reader) -> None:
    from pydicom import dcmread

    file = dcmread(io.BytesIO(dicom_bytes(TWELVE)))
    file.compress("1.2.840.10008.1.2.5")
    buffer = io.BytesIO()
    file.save_as(buffer)
    found = read(reader, buffer.getvalue())
    np.testing.assert_array_equal(found.x, read(reader, dicom_bytes(TWELVE)).x)


def test_a_baseline_jpeg_is_decoded(reader: Reader) -> None:
    smooth = np.linspace(0, 255, 4800).reshape(60, 80).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(smooth).save(buffer, "JPEG", quality=95)
    jpeg = buffer.getvalue() + b"\0" * (len(buffer.getvalue()) % 2)
    raw = jpeg_file(jpeg)
    found = read(reader, raw)
    np.testing.assert_allclose(found.x, read(reader, dicom_bytes(smooth)).x, atol=0.02)
    half = len(jpeg) // 4 * 2
    split = jpeg_file(jpeg[:half], jpeg[half:])
    np.testing.assert_array_equal(read(reader, split).x, found.x)


def jpeg_file(*parts: bytes, **numbers: int) -> bytes:
    told = {"allocated": 8, "stored": 8, "high": 7, **numbers}
    rows, columns = told.pop("rows", 60), told.pop("columns", 80)
    return size_by_hand(rows, columns, fragments(*parts), syntax=b"1.2.840.10008.1.2.4.50", **told)


def test_monochrome1_is_answered_as_its_inverse(reader: Reader) -> None:
    raw = dicom_bytes(TWELVE, BitsStored=12, HighBit=11)
    inverse = dicom_bytes(4095 - TWELVE, BitsStored=12, HighBit=11, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_allclose(read(reader, raw).x, read(reader, inverse).x, atol=1e-6)


@pytest.mark.parametrize("preamble", [b"\x7fELF" + b"\x02" * 100, b"MZ" + b"\x90" * 120])
def test_a_preamble_is_not_looked_at(reader: Reader, preamble: bytes) -> None:
    found = read(reader, dicom_bytes(TWELVE, preamble=preamble))
    np.testing.assert_array_equal(found.x, read(reader, dicom_bytes(TWELVE)).x)


def test_pixels_of_a_scaled_data_set_are_taken_or_scaled_with_a_warning() -> None:
    reader = Reader(xrays(height=28, width=28, scaled_by_publisher=True))
    pixels = RNG.integers(0, 256, (28, 28)).astype(np.uint8)
    found = read(reader, png(pixels), "png", age=3, view="AP", modality="DX", body_part="CHEST")
    np.testing.assert_array_equal(found.x.numpy()[0, 0], pixels.astype(np.float32) / 255)
    assert found.warnings == ()
    found = read(reader, png(XRAY), "png", age=3, view="AP", modality="DX", body_part="CHEST")
    assert "scaled to 28 × 28 pixels here" in found.warnings[0][0]


def test_lists_of_pixels_are_still_read(reader: Reader) -> None:
    x = np.asarray(reader.dataset.x)
    np.testing.assert_array_equal(reader.read(x.tolist()).x, x)
    with pytest.raises(RefusedError, match="is not a number from 0 to 1"):
        reader.read((x + 0.5).tolist())


def test_a_data_set_without_a_decoder_takes_no_files() -> None:
    x = np.zeros((2, 1, 4, 4), np.float32)
    dataset = image_dataset(name="arrays", x=x, y=np.array([0, 1]), class_names=("a", "b"))
    with pytest.raises(RefusedError, match="does not say how files become records"):
        read(Reader(dataset), png(XRAY), "png")


# What is refused, before anything is decoded.

HUGE = png_by_hand(50_000, 50_000, chunk(b"IDAT", zlib.compress(b"\0" * 4_000_000, 9)))
EXIF = Image.Exif()
EXIF[0x0112] = 6
TEXT = PngImagePlugin.PngInfo()
TEXT.add_itxt("comment", "x" * 10_000_000)


def _animated() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (0, 255)]
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def _damaged() -> bytes:
    raw = bytearray(png(XRAY))
    raw[60] ^= 255
    return bytes(raw)


PNGS: dict[str, tuple[bytes, str]] = {
    "pixels": (HUGE, "must have 1 to 16777216 pixels"),
    "text": (png(XRAY, pnginfo=TEXT), "bytes that are no pixels"),
    "frames": (_animated(), "is animated"),
    "jpeg": (b"\xff\xd8\xff\xc0\x00\x0b\x08\xff\xff\xff\xff\x01\x01\x11\x00", "is no PNG"),
    "gif": (b"GIF89a" + b"\0" * 40, "is no PNG"),
    "empty": (b"", "is no PNG"),
    "turned": (png(XRAY, exif=EXIF), "is turned"),
    "cut": (png(XRAY)[:-20], "ends before|longer than the file"),
    "damaged": (_damaged(), "a checksum does not fit"),
    "chunk": (png(XRAY)[:33] + struct.pack(">I4s", 2**31, b"IDAT") + b"\0" * 40, "longer than the file"),
    "no pixels": (png_by_hand(4000, 4000), "fewer pixels than its header says"),
    "few pixels": (png_by_hand(4000, 4000, chunk(b"IDAT", b"\x78\x9c" + b"\0" * 100)), "fewer pixels"),
    "inflates to nothing": (png_by_hand(40, 40, chunk(b"IDAT", zlib.compress(b"\0" * 90))), "cannot be decoded"),
    "zero": (png_by_hand(0, 40), "must have 1 to"),
    "bits": (png_by_hand(4, 4, bits=3), "header that the standard does not know"),
    "two headers": (png(XRAY)[:33] + png(XRAY)[8:], "header twice"),
    "many chunks": (png(XRAY)[:33] + chunk(b"tEXt", b"") * 30_000 + png(XRAY)[33:], "more than 20000 chunks"),
    "unknown": (png(XRAY)[:33] + chunk(b"ABCD", b"") + png(XRAY)[33:], "must be understood"),
}


@pytest.mark.parametrize("case", PNGS)
def test_a_png_that_would_cost_or_deceive_is_refused(case: str, reader: Reader) -> None:
    raw, message = PNGS[case]
    assert reader.images is not None
    tracemalloc.start()
    with pytest.raises(RefusedError, match=message) as refused:
        reader.images.from_file(raw, "png")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused.value.status == 422 and peak < 20 * 2**20


ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
NESTED = (element(0x40, 0x275, b"SQ", b"", length=0xFFFFFFFF) + ITEM) * 10_000
DEFINED = b""
for _ in range(40):
    DEFINED = element(0x40, 0x275, b"SQ", struct.pack("<HHI", 0xFFFE, 0xE000, len(DEFINED)) + DEFINED)
GOOD = pixel_data(TWELVE.tobytes())
RUNS = struct.pack("<16I", 2, 64, 66, *[0] * 13) + b"\x81\x00" * 2
INFLATING = zlib.compress(element(0x10, 0x10, b"PN", b"") + pixel_data(b"\0" * 5_000_000), 9)[2:-4]


def _jpeg(rows: int, columns: int, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((rows, columns), np.uint8)).save(buffer, "JPEG", **settings)
    return buffer.getvalue() + b"\0" * (len(buffer.getvalue()) % 2)


DAMAGED: dict[str, tuple[bytes, str]] = {
    "deflated": (by_hand(INFLATING, syntax=b"1.2.840.10008.1.2.1.99"), "TransferSyntaxUID that is not read"),
    "jpeg-ls": (
        size_by_hand(65_535, 65_535, fragments(b"\0" * 1000), syntax=b"1.2.840.10008.1.2.4.80"),
        "TransferSyntaxUID that is not read",
    ),
    "rle of any size": (
        size_by_hand(65_535, 65_535, fragments(RUNS), syntax=b"1.2.840.10008.1.2.5\0"),
        "tag Rows times Columns must be at most",
    ),
    "rle of few bytes": (
        size_by_hand(4000, 4000, fragments(RUNS), syntax=b"1.2.840.10008.1.2.5\0"),
        "tag PixelData must hold one run-length",
    ),
    "rle of many bytes": (
        size_by_hand(
            1,
            2,
            fragments(struct.pack("<16I", 2, 64, 5000, *[0] * 13) + b"\x81\x00" * 100_000),
            syntax=b"1.2.840.10008.1.2.5\0",
        ),
        "tag PixelData must hold one run-length",
    ),
    "jpeg of another size": (jpeg_file(_jpeg(3000, 3000)), "tag PixelData must be a baseline JPEG"),
    "progressive jpeg": (jpeg_file(_jpeg(60, 80, progressive=True)), "tag PixelData must be a baseline JPEG"),
    "no jpeg": (jpeg_file(b"\xff\xd8" + b"\0" * 60), "tag PixelData must be a baseline JPEG"),
    "frames": (size_by_hand(20, 30, GOOD, frames=b"1000000000"), "tag NumberOfFrames must be 1"),
    "no frame": (size_by_hand(20, 30, GOOD, frames=b"0 "), "tag NumberOfFrames must be 1"),
    "length": (
        by_hand(element(0x10, 0x10, b"UN", b"ab", length=2**32 - 2)),
        r"declares tag \(0010,0010\) longer than the file",
    ),
    "meta length": (b"\0" * 128 + b"DICM" + element(2, 1, b"OB", b"ab", length=2**32 - 2), "longer than the file"),
    "nested": (by_hand(NESTED), "nested more than 8 sequences deep"),
    "nested with lengths": (by_hand(DEFINED), "nested more than 8 sequences deep"),
    "stored": (size_by_hand(20, 30, GOOD, stored=17, high=16), "tag BitsStored must be a whole number from 1 to 16"),
    "allocated": (size_by_hand(20, 30, GOOD, allocated=12, stored=12, high=11), "tag BitsAllocated must be 8 or 16"),
    "high": (size_by_hand(20, 30, GOOD, stored=12, high=15), "tag HighBit must be 11"),
    "sign": (size_by_hand(20, 30, GOOD, sign=-1), "tag PixelRepresentation must be"),
    "too short": (size_by_hand(21, 30, GOOD), "tag PixelData must be as long as"),
    "too long": (size_by_hand(19, 30, GOOD), "tag PixelData must be as long as"),
    "zero": (size_by_hand(0, 30, GOOD), "tag Rows must be a whole number from 1"),
    "none": (by_hand(), "holds no PixelData"),
    "twice": (size_by_hand(20, 30, element(0x28, 0x10, b"US", b"\x14\0") + GOOD), r"tag \(0028,0010\) twice"),
    "representation": (by_hand(b"\x10\0\x10\0??\0\0"), "unknown value representation"),
    "no file": (b"not a file" * 50, "has no preamble"),
    "empty": (b"", "has no preamble"),
    "many elements": (by_hand(element(0x11, 1, b"LO", b"") * 1 + b"".join(
        element(0x13, number, b"LO", b"") for number in range(21_000))), "more than 20000 elements"),
    "fragments without end": (
        size_by_hand(20, 30, fragments(RUNS)[:-8], syntax=b"1.2.840.10008.1.2.5\0"),
        "PixelData without an end",
    ),
    "compressed without fragments": (
        size_by_hand(20, 30, GOOD, syntax=b"1.2.840.10008.1.2.5\0"),
        "PixelData that its TransferSyntaxUID does not fit",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_a_dicom_that_would_cost_or_deceive_is_refused(
    case: str, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, message = DAMAGED[case]
    assert reader.images is not None
    monkeypatch.setattr(images, "_decoded", lambda *_: pytest.fail("its pixels were decoded"))
    tracemalloc.start()
    with pytest.raises(RefusedError, match=message) as refused:
        reader.images.from_file(raw, "dicom")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused.value.status == 422 and peak < 20 * 2**20


def _table(entries: int, bits: int, *, data: bytes | None = None) -> list[Any]:
    from pydicom.dataset import Dataset as Tags

    item = Tags()
    item.LUTDescriptor = [entries, 0, bits]
    item["LUTDescriptor"].VR = "US"
    if data is not None:
        item.LUTData = data
        item["LUTData"].VR = "OW"
    return [item]


TAGS: list[tuple[dict[str, Any], str]] = [
    ({"RescaleSlope": "NaN"}, "RescaleSlope"),
    ({"RescaleSlope": "1E400"}, "RescaleSlope"),
    ({"RescaleSlope": "0"}, "RescaleSlope"),
    ({"RescaleIntercept": "inf"}, "RescaleIntercept"),
    ({"RescaleIntercept": "Lovelace"}, "RescaleIntercept"),
    ({"WindowCenter": "NaN", "WindowWidth": "10"}, "WindowCenter"),
    ({"WindowCenter": "5", "WindowWidth": "-1"}, "WindowWidth"),
    ({"WindowCenter": "5", "WindowWidth": "0"}, "WindowWidth"),
    ({"WindowCenter": "5", "WindowWidth": "9", "VOILUTFunction": "LOVELACE"}, "VOILUTFunction"),
    ({"PhotometricInterpretation": "PALETTE COLOR"}, "PhotometricInterpretation"),
    ({"PhotometricInterpretation": "LOVELACE"}, "PhotometricInterpretation"),
    ({"VOILUTSequence": _table(10, 16)}, "VOILUTSequence"),
    ({"VOILUTSequence": _table(10, 16, data=b"\0" * 4)}, "VOILUTSequence"),
    ({"VOILUTSequence": _table(10, 400, data=b"\0" * 20)}, "VOILUTSequence"),
    ({"ModalityLUTSequence": _table(10, 0, data=b"\0" * 20)}, "ModalityLUTSequence"),
]


@pytest.mark.parametrize(("tags", "name"), TAGS)
def test_a_tag_without_a_meaning_is_named(
    reader: Reader, tags: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pydicom

    monkeypatch.setattr(pydicom.config.settings, "writing_validation_mode", pydicom.config.IGNORE)
    text = {key: value for key, value in tags.items() if isinstance(value, str)}
    placeholder = {key: "1" if key.startswith(("Rescale", "Window")) else value for key, value in tags.items()}
    raw = dicom_bytes(TWELVE, **{**placeholder, **{key: "1" * 8 for key in text if key.startswith(("Res", "Win"))}})
    for key, value in text.items():
        if key.startswith(("Res", "Win")):
            raw = _rewritten(raw, key, value)
    with pytest.raises(RefusedError, match=f"tag {name} ") as refused:
        read(reader, raw)
    assert "ovelace" not in str(refused.value).lower() and len(str(refused.value)) < 300


def _rewritten(raw: bytes, keyword: str, value: str) -> bytes:
    """A file in which a tag of eight characters holds another text, which pydicom would not write."""
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    head = struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, b"DS", 8)
    assert raw.count(head) == 1
    place = raw.index(head) + len(head)
    return raw[:place] + value.ljust(8).encode() + raw[place + 8 :]


def test_a_table_of_grey_values_is_applied_as_offline(tmp_path: Path, reader: Reader) -> None:
    entries = (np.linspace(0, 1, 4096) ** 2 * 4095).astype(np.uint16)
    raw = dicom_bytes(TWELVE, BitsStored=12, HighBit=11, VOILUTSequence=_table(4096, 12, data=entries.tobytes()))
    expected = offline(raw, tmp_path, "a.dcm", reader.dataset.decoder)  # type: ignore[arg-type]
    np.testing.assert_array_equal(read(reader, raw).x.numpy()[0], expected)


@pytest.mark.parametrize("place", range(140, 900, 37))
def test_a_damaged_byte_never_raises_anything_else(reader: Reader, place: int) -> None:
    raw = bytearray(dicom_bytes(TWELVE, BitsStored=12, HighBit=11, WindowCenter="2000", WindowWidth="1500"))
    assert reader.images is not None
    for value in (0, 255, raw[place] ^ 1):
        raw[place] = value
        try:
            reader.images.from_file(bytes(raw), "dicom")
        except RefusedError as error:
            assert SECRET.decode() not in str(error) and len(str(error)) < 400


@pytest.mark.parametrize(
    "sent",
    [
        {"png": "=" * 40},
        {"png": "aGk"},
        {"png": "aGk=\n"},
        {"png": "aGk=", "dicom": "aGk="},
        {"png": 7},
        {"png": None},
        {"jpeg": "aGk="},
        {},
        "aGk=",
        {"png": "data:image/png;base64,aGk="},
    ],
)
def test_what_is_no_image_is_refused(reader: Reader, sent: Any) -> None:
    with pytest.raises(RefusedError, match="record 1"):
        reader.read([{"png": base64.b64encode(png(XRAY)).decode()}, sent])


def test_the_pixels_of_a_call_are_limited_together() -> None:
    reader = Reader(xrays())
    assert reader.images is not None
    reader.images.most_pixels = 2 * XRAY.size
    item = {"png": base64.b64encode(png(XRAY)).decode()}
    assert len(reader.read([item] * 2)) == 2
    with pytest.raises(RefusedError, match="record 2: the PNG must have 1 to 0 pixels"):
        reader.read([item] * 3)


def test_nothing_of_a_header_is_logged_or_warned(
    reader: Reader, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    raw = dicom_bytes(TWELVE, StudyDate="99999999").replace(b"99999999", b"Lovelace")
    read(reader, raw)
    assert not caplog.text and not len(recwarn)


# Where the pixels of a record came from.


@pytest.mark.parametrize("shorter", [None, 40])
@pytest.mark.parametrize("size", [(300, 200), (128, 517), (24, 32)])
def test_an_overlay_returns_to_the_pixels_of_the_source(size: tuple[int, int], shorter: int | None) -> None:
    dataset = xrays(shorter=shorter)
    reader = ImageReader(dataset)
    assert dataset.decoder is not None
    left, upper, right, lower = dataset.decoder.box(size[1], size[0])
    for down, across in ((0.35, 0.5), (0.5, 0.4), (0.62, 0.58)):
        rows, columns = np.indices(size)
        height, width = lower - upper, right - left
        centre = upper + down * height - 0.5, left + across * width - 0.5
        spot = np.exp(-(((rows - centre[0]) / (0.07 * height)) ** 2) - ((columns - centre[1]) / (0.07 * width)) ** 2)
        pixels = np.rint(65535 * spot).astype(np.uint16)
        found = reader.from_file(png(pixels), "png")
        back = found.placement.overlay(found.record[0])
        assert back.shape == size
        for axis in (0, 1):
            moved = [float((np.indices(size)[axis] * one).sum() / one.sum()) for one in (pixels / 65535, back)]
            assert abs(moved[0] - moved[1]) < 1
        weights = found.record[0] / found.record[0].sum()
        row, column = (((np.indices(weights.shape)[axis] + 0.5) * weights).sum() for axis in (0, 1))
        place = found.placement.to_source(float(row), float(column))
        assert abs(place[0] - 0.5 - centre[0]) < 1 and abs(place[1] - 0.5 - centre[1]) < 1


def test_what_was_cut_away_has_no_overlay() -> None:
    found = ImageReader(xrays(height=20, width=20, shorter=20)).from_file(png(XRAY), "png")
    back = found.placement.overlay(np.ones((20, 20)))
    assert back[:, 10:70].all() and not back[:, :10].any() and not back[:, 70:].any()
    assert found.placement.to_json() == {"source": [60, 80], "box": [10.0, 0.0, 70.0, 60.0], "record": [20, 20]}
