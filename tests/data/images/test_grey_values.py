"""What a stored pixel means: DICOM through the standard's transformations, and 16 bits that hold fewer."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from assay.data.images.dicom import UnreadableImageError
from assay.data.images.files import Decoder
from assay.errors import DataError
from assay.registry import build

GREY = Decoder(height=8, width=10, channels=1)
TWELVE = np.linspace(0, 4095, 80).astype(np.uint16).reshape(8, 10)


def dicom(path: Path, pixels: np.ndarray, **tags: Any) -> Path:
    """A DICOM file of grey pixels, with more tags."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = Dataset()
    file.file_meta = meta
    file.SOPClassUID, file.SOPInstanceUID = SecondaryCaptureImageStorage, meta.MediaStorageSOPInstanceUID
    file.Rows, file.Columns = pixels.shape
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated = file.BitsStored = 8 * pixels.itemsize
    file.HighBit, file.PixelRepresentation = file.BitsStored - 1, int(pixels.dtype.kind == "i")
    for tag, value in tags.items():
        setattr(file, tag, value)
    file.PixelData = pixels.tobytes()
    file["PixelData"].VR = "OW"
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path, enforce_file_format=True)
    return path


def table(entries: np.ndarray, *, first: int, bits: int) -> list[Any]:
    """A sequence of one lookup table."""
    from pydicom.dataset import Dataset

    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    item.LUTData = entries.astype(np.uint16).tobytes()
    item["LUTData"].VR = "OW"
    return [item]


def read(tmp_path: Path, pixels: np.ndarray = TWELVE, decoder: Decoder = GREY, **tags: Any) -> np.ndarray:
    tags = {"BitsStored": 12, "HighBit": 11, **tags}
    return decoder.read(dicom(tmp_path / "a.dcm", pixels, **tags))[0]


def refusal(tmp_path: Path, decoder: Decoder = GREY, **tags: Any) -> str:
    path = dicom(tmp_path / "a.dcm", tags.pop("pixels", TWELVE), **{"BitsStored": 12, "HighBit": 11, **tags})
    with pytest.raises(UnreadableImageError) as caught:
        decoder.read(path)
    return str(caught.value)


def test_a_voi_table_maps_grey_values_and_its_ends_hold_beyond_it(tmp_path: Path) -> None:
    entries = np.round(1023 * np.linspace(0, 1, 1000) ** 2).astype(int)
    record = read(tmp_path, VOILUTSequence=table(entries, first=500, bits=10))
    expected = entries[np.clip(TWELVE.astype(int) - 500, 0, 999)] / 1023
    assert np.allclose(record, expected, atol=1e-6)


def test_a_voi_table_is_indexed_by_values_of_the_modality(tmp_path: Path) -> None:
    entries = np.arange(0, 4000, 4)
    record = read(
        tmp_path, RescaleSlope="1", RescaleIntercept="-1024", VOILUTSequence=table(entries, first=-200, bits=12)
    )
    assert np.allclose(record, entries[np.clip(TWELVE.astype(int) - 1024 + 200, 0, 999)] / 4095, atol=1e-6)


def test_a_modality_table_is_applied_before_the_window(tmp_path: Path) -> None:
    inverse = 16 * np.arange(4095, -1, -1)
    told = {"ModalityLUTSequence": table(inverse, first=0, bits=16)}
    assert np.allclose(read(tmp_path, **told), 16 * (4095 - TWELVE.astype(int)) / 65535, atol=1e-6)
    windowed = read(tmp_path, **told, WindowCenter="2000", WindowWidth="1001")
    assert np.allclose(windowed, np.clip((16 * (4095.0 - TWELVE) - 1999.5) / 1000 + 0.5, 0, 1), atol=1e-6)


@pytest.mark.parametrize(("kind", "sign"), [("MONOCHROME2", 1), ("MONOCHROME1", -1)])
def test_padding_is_black_and_moves_no_other_pixel(tmp_path: Path, kind: str, sign: int) -> None:
    signed = TWELVE.astype(np.int16) - 2048
    signed[0], signed[1] = -2000, -1990
    tags = {"PhotometricInterpretation": kind, "WindowCenter": "0", "WindowWidth": "4096"}
    plain = read(tmp_path, signed, **tags)
    padded = read(tmp_path, signed, **tags, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1990)
    assert (padded[:2] == 0).all()
    assert np.array_equal(padded[2:], plain[2:])
    assert (np.diff(padded[2:].ravel()) * sign >= 0).all()


def test_padding_that_cannot_be_told_from_white_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, PixelPaddingValue=65535)
    assert "PixelPaddingValue is 65535, which 12 bits cannot hold: a pixel of 4095 may be padding" in message


def test_padding_of_all_allocated_bits_is_black_and_white_stays_white(tmp_path: Path) -> None:
    pixels = TWELVE.copy()
    pixels[0] = 65535
    record = read(tmp_path, pixels, PixelPaddingValue=65535)
    assert (record[0] == 0).all()
    assert np.array_equal(record[1:], read(tmp_path)[1:])
    assert record[-1, -1] == 1


def test_a_padding_value_that_no_pixel_can_have_changes_nothing(tmp_path: Path) -> None:
    darker = TWELVE // 2
    assert np.array_equal(read(tmp_path, darker, PixelPaddingValue=65535), read(tmp_path, darker))


@pytest.mark.parametrize("written", [-32768, 0])
def test_padding_beyond_the_stored_bits_leaves_the_zeros_of_signed_pixels(tmp_path: Path, written: int) -> None:
    signed = TWELVE.astype(np.int16) - 2048
    signed[0] = signed[3] = 0
    expected = read(tmp_path, signed)
    signed[0] = written
    padded = read(tmp_path, signed, PixelPaddingValue=-32768)
    assert np.array_equal(padded[1:], expected[1:])
    assert padded[3] == pytest.approx(0.5, abs=1e-3)
    assert padded[0] == pytest.approx(0 if written else 0.5, abs=1e-3)


def test_padding_around_zero_is_compared_in_the_sign_of_the_pixels(tmp_path: Path) -> None:
    around = {"PixelPaddingValue": -5, "PixelPaddingRangeLimit": 5}
    signed = TWELVE.astype(np.int16) - 2048
    signed[2], signed[3] = np.arange(-4, 6), np.arange(-14, -4)
    padded, plain = read(tmp_path, signed, **around), read(tmp_path, signed)
    assert (padded[2] == 0).all() and padded[3, -1] == 0
    assert np.array_equal(padded[3, :-1], plain[3, :-1]) and np.array_equal(padded[4:], plain[4:])
    for beyond in (5000, 4101, -5000):
        signed[7, 7] = beyond
        assert f"{beyond}, which its BitsStored of 12" in refusal(tmp_path, pixels=signed, **around)


def test_a_padding_range_that_a_sign_would_divide_leaves_the_values_between(tmp_path: Path) -> None:
    signed = TWELVE.astype(np.int16) - 2048
    padded = read(tmp_path, signed, PixelPaddingValue=2000, PixelPaddingRangeLimit=3000)
    plain = read(tmp_path, signed)
    assert np.array_equal(padded, np.where(signed >= 2000, 0, plain))


@pytest.mark.parametrize("stored", [TWELVE + 1, TWELVE.astype(np.int16) - 6000])
def test_values_beyond_the_bits_that_are_stored_are_refused(tmp_path: Path, stored: np.ndarray) -> None:
    assert "its BitsStored of 12 bits cannot hold" in refusal(tmp_path, pixels=stored)
    assert "its BitsStored of 10 bits cannot hold" in refusal(tmp_path, BitsStored=10, HighBit=9)


def test_negative_values_may_leave_the_unused_bits_empty_where_the_file_says_that_values_are_negative(
    tmp_path: Path,
) -> None:
    signed = TWELVE.astype(np.int16) - 2048
    expected = read(tmp_path, signed)
    emptied = signed & np.int16(0x0FFF)
    assert np.array_equal(read(tmp_path, emptied, SmallestImagePixelValue=-2048), expected)
    padded = read(tmp_path, emptied, SmallestImagePixelValue=-2048, PixelPaddingValue=int(signed[2, 3]))
    assert np.array_equal(padded, np.where(signed == signed[2, 3], 0, expected))


def test_padding_is_no_value_that_may_be_positive_or_negative(tmp_path: Path) -> None:
    signed = TWELVE.astype(np.int16) // 2
    expected = read(tmp_path, signed)
    signed[0] = 3000
    padded = read(tmp_path, signed, PixelPaddingValue=3000)
    assert (padded[0] == 0).all() and np.array_equal(padded[1:], expected[1:])
    emptied = (TWELVE.astype(np.int16) - 2048) & np.int16(0x0FFF)
    expected = read(tmp_path, emptied, SmallestImagePixelValue=-2048)
    emptied[0] = -32768
    padded = read(tmp_path, emptied, SmallestImagePixelValue=-2048, PixelPaddingValue=-32768)
    assert (padded[0] == 0).all() and np.array_equal(padded[1:], expected[1:])


@pytest.mark.parametrize("tags", [{}, {"SmallestImagePixelValue": 0}])
def test_values_that_may_be_positive_or_negative_are_refused(tmp_path: Path, tags: dict[str, Any]) -> None:
    told = refusal(tmp_path, pixels=np.maximum(TWELVE.astype(np.int16), 3000), **tags)
    assert "a pixel of 3000, or -1096 if its unused bits are empty" in told
    assert "PixelRepresentation 1 and BitsStored 12 the most is 2047; set PixelRepresentation to 0" in told


@pytest.mark.parametrize("tags", [{}, {"SmallestImagePixelValue": -2048}])
def test_negative_values_with_their_sign_beside_greater_ones_are_refused(tmp_path: Path, tags: dict[str, Any]) -> None:
    signed = TWELVE.astype(np.int16) - 2048
    signed[5, 5] = 3000
    assert "a pixel of 3000, or -1096" in refusal(tmp_path, pixels=signed, **tags)


def test_a_graphic_in_unused_bits_is_no_value(tmp_path: Path) -> None:
    pixels = TWELVE.copy()
    pixels[2:4] |= 1 << 15
    path = dicom(tmp_path / "a.dcm", pixels, BitsStored=12, HighBit=11)
    from pydicom import dcmread

    file = dcmread(path)
    file.add_new((0x6000, 0x0102), "US", 15)
    file.save_as(path)
    assert np.array_equal(GREY.read(path)[0], read(tmp_path / "plain"))


def test_padding_of_signed_pixels_may_be_written_without_a_sign(tmp_path: Path) -> None:
    signed = TWELVE.astype(np.int16) - 2048
    signed[0] = -2000
    path = dicom(tmp_path / "a.dcm", signed, BitsStored=16, HighBit=15, PixelPaddingValue=-2000)
    assert (GREY.read(path)[0, 0] == 0).all()
    raw = bytearray(path.read_bytes())
    place = raw.find(b"\x28\x00\x20\x01SS")
    assert place > 0
    raw[place + 4 : place + 6] = b"US"
    path.write_bytes(bytes(raw))
    assert (GREY.read(path)[0, 0] == 0).all()


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"WindowCenter": "40", "WindowWidth": "0"}, "WindowWidth is 0; the standard wants at least 1"),
        ({"WindowCenter": "40", "WindowWidth": "0.5"}, "WindowWidth is 0.5"),
        ({"WindowCenter": "40", "WindowWidth": "0", "VOILUTFunction": "SIGMOID"}, "wants more than 0"),
        ({"WindowCenter": "40", "WindowWidth": "-5", "VOILUTFunction": "LINEAR_EXACT"}, "WindowWidth is -5"),
        ({"RescaleSlope": "0", "RescaleIntercept": "7"}, "RescaleSlope is 0"),
        ({"RescaleSlope": "1", "RescaleIntercept": "-1024", "Modality": "CT"}, "set window: [centre, width]"),
        ({"RescaleSlope": "1", "RescaleIntercept": "-1024", "RescaleType": "HU"}, "set window: [centre, width]"),
    ],
)
def test_grey_values_that_mean_nothing_are_refused(tmp_path: Path, tags: dict[str, Any], message: str) -> None:
    assert message in refusal(tmp_path, **tags)
    with pytest.raises(UnreadableImageError):
        GREY.check(tmp_path / "a.dcm")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", ["NaN", "inf"])
@pytest.mark.parametrize("tag", ["RescaleSlope", "RescaleIntercept", "WindowWidth", "WindowCenter"])
def test_a_number_that_is_not_finite_is_refused(tmp_path: Path, tag: str, number: str) -> None:
    others = {"RescaleSlope": "1", "RescaleIntercept": "0", "WindowWidth": "9", "WindowCenter": "9"}
    path = dicom(tmp_path / "a.dcm", TWELVE, BitsStored=12, HighBit=11, **{**others, tag: "12345678"})
    path.write_bytes(path.read_bytes().replace(b"12345678", number.ljust(8).encode()))
    for look in (GREY.check, GREY.read):
        with pytest.raises(UnreadableImageError, match=f"its {tag} is"):
            look(path)


def test_a_window_may_be_given_in_hounsfield_units(tmp_path: Path) -> None:
    tags = {"RescaleSlope": "1", "RescaleIntercept": "-1024", "Modality": "CT"}
    soft = read(tmp_path, decoder=replace(GREY, window=(40.0, 400.0)), **tags)
    assert np.allclose(soft, np.clip((TWELVE - 1024.0 - 40) / 400 + 0.5, 0, 1), atol=1e-6)
    assert np.allclose(read(tmp_path, decoder=replace(GREY, window="full"), **tags), TWELVE / 4095, atol=1e-6)
    # It also replaces what a file says.
    other = read(tmp_path, decoder=replace(GREY, window=(40.0, 400.0)), **tags, WindowCenter="-600", WindowWidth="1500")
    assert np.array_equal(soft, other)


def test_a_window_of_a_falling_slope_keeps_its_direction(tmp_path: Path) -> None:
    record = read(tmp_path, RescaleSlope="-1", RescaleIntercept="4095", WindowCenter="2048", WindowWidth="4096")
    assert np.allclose(record, np.clip((4095.0 - TWELVE - 2047.5) / 4095 + 0.5, 0, 1), atol=1e-6)


def test_colour_in_luminance_and_chrominance_becomes_rgb(tmp_path: Path) -> None:
    from pydicom import dcmread

    painted = np.zeros((8, 10, 3), np.uint8)
    painted[..., 0], painted[..., 1], painted[..., 2] = 150, 54, 202
    path = dicom(tmp_path / "a.dcm", TWELVE)
    file = dcmread(path)
    file.SamplesPerPixel, file.PhotometricInterpretation, file.PlanarConfiguration = 3, "YBR_FULL", 0
    file.BitsAllocated = file.BitsStored = 8
    file.HighBit, file.PixelData = 7, painted.tobytes()
    file.save_as(path)
    record = replace(GREY, channels=3).read(path)
    # PS3.3 C.7.6.3.1.2: Y = 150, Cb = 54, Cr = 202.
    y, cb, cr = 150, 54 - 128, 202 - 128
    rgb = np.array([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb]).clip(0, 255) / 255
    assert np.allclose(record[:, 0, 0], rgb, atol=0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Two classes of two 16-bit PNG files each, with values up to ``greatest``."""

    def make(greatest: int, suffix: str = ".png") -> Path:
        for name, share in (("ill", 1.0), ("well", 0.5)):
            for number in range(2):
                path = tmp_path / "xray" / name / f"{number}{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.linspace(0, greatest * share, 80).astype(np.uint16).reshape(8, 10)
                Image.fromarray(pixels).save(path)
        return tmp_path / "xray"

    return make


def load(path: Path, **settings: Any) -> Any:
    return build(
        "dataset",
        {
            "name": "image_folder",
            "path": str(path),
            "size": [8, 10],
            "channels": 1,
            "classes": ["well", "ill"],
            **settings,
        },
    ).load()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("greatest", "likely"), [(4095, 12), (1023, 10), (255, 8), (16383, 14), (300, 10)])
def test_twelve_bits_in_sixteen_must_be_said(
    folder: Callable[..., Path], greatest: int, likely: int, stream: bool
) -> None:
    path = folder(greatest)
    with pytest.raises(DataError) as caught:
        load(path, stream=stream)
    assert (caught.value.setting, caught.value.given, caught.value.allowed) == ("bits", greatest, [likely, 16])
    data = load(path, stream=stream, bits=likely)
    assert data.x[:].max() == pytest.approx(greatest / (2**likely - 1), abs=1e-6)
    assert load(path, stream=stream, bits=16).x[:].max() == pytest.approx(greatest / 65535, abs=1e-6)


def test_values_beyond_the_bits_are_refused(folder: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="which 12 bits cannot hold"):
        load(folder(5000), bits=12)


def test_sixteen_bits_need_no_word(folder: Callable[..., Path]) -> None:
    assert load(folder(60000)).warnings == ()


def test_low_contrast_is_counted(folder: Callable[..., Path]) -> None:
    for stream in (False, True):
        (told,) = load(folder(4095), bits=16, stream=stream).warnings
        assert told.startswith("4 of 4 images span less than 10% of the range")


@pytest.mark.parametrize(("bits", "photometric"), [(8, 0), (8, 1), (16, 0), (16, 1)])
def test_tiff_where_zero_is_white_is_turned(tmp_path: Path, bits: int, photometric: int) -> None:
    stored = np.linspace(0, 2**bits - 1, 80).astype(np.uint8 if bits == 8 else np.uint16).reshape(8, 10)
    path = tmp_path / "a.tif"
    Image.fromarray(stored).save(path, tiffinfo={262: photometric})
    shown = GREY.read(path)[0]
    if bits == 8 and photometric == 0:
        # Pillow writes the values of 8 bits turned too.
        assert np.allclose(shown, stored / 255, atol=1e-6)
        return
    assert np.allclose(shown, 1 - stored / (2**bits - 1) if photometric == 0 else stored / (2**bits - 1), atol=1e-6)


def test_values_that_do_not_begin_at_the_lowest_bit_are_refused(tmp_path: Path) -> None:
    assert "HighBit" in refusal(tmp_path, HighBit=15)
    with pytest.raises(UnreadableImageError, match="HighBit"):
        GREY.check(tmp_path / "a.dcm")
