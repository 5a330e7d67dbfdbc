"""A film whose values need fewer bits than its file has is refused or answered with a warning, as in the data set."""

import base64
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from assay.data.images.depth import likely_depth, refuse_few_bits
from assay.data.images.files import Decoder
from assay.errors import DataError
from serve.inputs.read import Reader
from serve.inputs.records import Records
from serve.refusals import RefusedError
from tests.serve.inputs.dicom_files import dicom_bytes
from tests.serve.inputs.test_images import png, xrays

CHEST = {"age": 3, "modality": "DX", "body_part": "CHEST", "view": "AP"}


def film(greatest: int, kind: type[np.unsignedinteger[Any]]) -> np.ndarray:
    return np.linspace(0, greatest, 600).round().astype(kind).reshape(20, 30)


def read(raw: bytes, kind: str = "png", **settings: Any) -> Records:
    item = {kind: base64.b64encode(raw).decode()}
    return Reader(xrays(**settings)).read([item], about=CHEST)


@pytest.mark.parametrize(("greatest", "likely"), [(255, 8), (1023, 10), (4095, 12), (16383, 14)])
def test_a_film_is_refused_where_a_folder_of_such_films_would_be(greatest: int, likely: int) -> None:
    with pytest.raises(DataError) as offline:
        refuse_few_bits("films", Decoder(height=8, width=8, channels=1), greatest)
    assert offline.value.allowed[0] == likely
    with pytest.raises(RefusedError) as refused:
        read(png(film(greatest, np.uint16)))
    told = str(refused.value)
    assert (refused.value.status, refused.value.reason) == (422, "bits")
    assert f"exceeds {greatest}, " in told and f"BitsStored {likely}" in told and "record 0" in told


def test_sixteen_bits_that_are_used_need_no_word() -> None:
    assert read(png(film(20000, np.uint16))).warnings == ()


@pytest.mark.parametrize("bits", [12, 16])
def test_where_the_data_set_states_its_bits_a_darker_film_is_answered_with_a_warning(bits: int) -> None:
    ((told, *_),) = read(png(film(1000, np.uint16)), bits=bits).warnings
    assert f"exceeds 1000, {1000 / (2**bits - 1):.2f} of the white of {bits} bits" in told
    assert "BitsStored 10" in told
    assert read(png(film(2 ** (bits - 1), np.uint16)), bits=bits).warnings == ()


@pytest.mark.parametrize(("greatest", "likely"), [(1, 1), (3, 2), (15, 4), (63, 6)])
def test_eight_bits_that_hold_fewer_are_answered_with_a_warning(greatest: int, likely: int) -> None:
    ((told, *_),) = read(png(film(greatest, np.uint8))).warnings
    assert f"exceeds {greatest}, " in told and f"if its detector has {likely} bits" in told


@pytest.mark.parametrize("pixels", [film(1, np.uint8).astype(bool), film(90, np.uint8), film(255, np.uint8)])
def test_images_of_all_their_bits_need_no_word(pixels: np.ndarray) -> None:
    assert read(png(pixels)).warnings == ()


def test_a_film_of_hardly_any_contrast_is_answered_with_a_warning() -> None:
    window = {"WindowCenter": "30000", "WindowWidth": "60000"}
    for raw, kind in (
        (dicom_bytes(film(4095, np.uint16)), "dicom"),
        (dicom_bytes(film(4095, np.uint16), BitsStored=12, HighBit=11, **window), "dicom"),
        (png(np.repeat(film(15, np.uint8)[..., None], 3, axis=2)), "png"),
        (png(np.full((20, 30), 200, np.uint8)), "png"),
    ):
        ((told,),) = read(raw, kind, convert=True).warnings
        assert "less than 10%" in told and "BitsStored" in told
    assert read(dicom_bytes(film(4095, np.uint16), BitsStored=12, HighBit=11), "dicom").warnings == ()


@pytest.mark.parametrize(
    ("raw", "kind", "word"),
    [
        (dicom_bytes(film(16383, np.uint16), BitsStored=16, HighBit=15), "dicom", "dark"),
        (dicom_bytes(film(4095, np.uint16), BitsStored=14, HighBit=13), "dicom", "dark"),
        (
            dicom_bytes(film(4095, np.uint16), BitsStored=14, HighBit=13, PhotometricInterpretation="MONOCHROME1"),
            "dicom",
            "bright",
        ),
        (png(np.repeat(film(63, np.uint8)[..., None], 3, axis=2)), "png", "dark"),
    ],
)
def test_a_film_that_is_dark_or_bright_as_a_whole_is_answered_with_a_warning(raw: bytes, kind: str, word: str) -> None:
    ((told, *_),) = read(raw, kind, convert=True).warnings
    assert f"answered too {word}" in told and "BitsStored" in told


def test_a_bright_mark_hides_no_dark_film() -> None:
    marked = np.linspace(0, 4095, 90_000).round().astype(np.uint16).reshape(300, 300)
    marked[:3, :3] = 65535
    ((told, *_),) = read(png(marked)).warnings
    assert "spans" in told or "answered too dark" in told


def test_an_array_is_judged_as_its_film() -> None:
    reader = Reader(xrays())
    shape = reader.dataset.shape
    dark = np.linspace(0, 0.2, int(np.prod(shape))).reshape(1, *shape)
    for records in (reader.read(dark.tolist(), about=CHEST), reader.take(dark.astype(np.float32))):
        assert "answered too dark" in records.warnings[0][-1]
    assert not any("dark" in one for one in reader.take((4 * dark).astype(np.float32)).warnings[0])


def test_what_many_training_records_are_like_is_no_doubt() -> None:
    known = xrays()
    dark = replace(known, x=np.asarray(known.x) * 0.2)
    usual, private = Reader(dark, train=np.arange(len(dark.x))), Reader(dark)
    record = np.asarray(dark.x[:1])
    assert not any("too dark" in one for one in usual.take(record).warnings[0])
    assert any("too dark" in one for one in private.take(record).warnings[0])


def test_a_value_beyond_the_bits_that_are_stored_names_the_tag() -> None:
    with pytest.raises(RefusedError, match="tag BitsStored must be as many bits as the stored values have"):
        read(dicom_bytes(film(4096, np.uint16), BitsStored=12, HighBit=11), "dicom")


def test_a_film_wrongly_marked_as_signed_names_the_tag() -> None:
    with pytest.raises(RefusedError, match="tag PixelRepresentation must be 0 if no value is negative"):
        read(dicom_bytes(film(4095, np.uint16).astype(np.int16), BitsStored=12, HighBit=11), "dicom")


def test_padding_with_all_allocated_bits_is_read() -> None:
    pixels = film(4095, np.uint16)
    pixels[0] = 65535
    padded = read(dicom_bytes(pixels, BitsStored=12, HighBit=11, PixelPaddingValue=65535), "dicom")
    assert padded.warnings == ()


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_the_darkest_quarter_decides(bits: int) -> None:
    assert likely_depth(2 ** (bits - 2), bits) is None
    found = likely_depth(2 ** (bits - 2) - 1, bits)
    assert (found is not None and found <= bits - 2) or found == 8
