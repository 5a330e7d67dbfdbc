"""What a header says against an image: raw values, turned and mirrored films, pixels that are not square."""

import base64
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from serve.inputs.exif import orientation_of
from serve.inputs.read import Reader
from serve.refusals import RefusedError
from tests.serve.inputs.dicom_files import dicom_bytes
from tests.serve.inputs.test_images import xrays

PIXELS = np.linspace(0, 255, 600).astype(np.uint8).reshape(20, 30)
UPRIGHT = [1, 0, 0, 0, 0, -1]


def code(value: str) -> list[Any]:
    from pydicom.dataset import Dataset as Tags

    item = Tags()
    item.CodeValue = value
    return [item]


def warnings_of(*, stated: bool = True, **tags: Any) -> tuple[str, ...]:
    dataset = xrays() if stated else replace(xrays(), intended_use=None)
    item = {"dicom": base64.b64encode(dicom_bytes(PIXELS, **tags)).decode()}
    records = Reader(dataset).read([item])
    return records.warnings[0] if records.warnings else ()


OUTSIDE: list[tuple[dict[str, Any], str]] = [
    ({"PresentationIntentType": "FOR PROCESSING"}, "presentation_outside"),
    ({"ImageOrientationPatient": [-1, 0, 0, 0, 0, -1]}, "orientation_outside"),  # mirrored
    ({"ImageOrientationPatient": [1, 0, 0, 0, 0, 1]}, "orientation_outside"),  # upside down
    ({"ImageOrientationPatient": [0, 0, -1, 1, 0, 0]}, "orientation_outside"),  # lying
    ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "orientation_outside"),  # lateral
    ({"PatientOrientation": ["L", "F"], "ImageOrientationPatient": [-1, 0, 0, 0, 0, -1]}, "orientation_outside"),
    ({"PatientOrientation": ["R", "F"], "ImageOrientationPatient": UPRIGHT}, "orientation_outside"),
    ({"PatientOrientation": [" R", " F"]}, "orientation_outside"),
    ({"PatientOrientation": ["", ""], "ImageOrientationPatient": [-1, 0, 0, 0, 0, -1]}, "orientation_outside"),
    ({"ViewPosition": None, "ViewCodeSequence": code("399067008")}, "view_outside"),
    ({"ViewPosition": None, "ViewCodeSequence": code("R-10236")}, "view_outside"),
]


@pytest.mark.parametrize(("tags", "reason"), OUTSIDE)
def test_a_film_of_another_kind_is_refused_by_its_header(tags: dict[str, Any], reason: str) -> None:
    with pytest.raises(RefusedError) as refused:
        warnings_of(**tags)
    assert (refused.value.status, refused.value.reason) == (422, reason)


@pytest.mark.parametrize(
    "tags",
    [
        {"PresentationIntentType": "FOR PRESENTATION"},
        {"ImageOrientationPatient": UPRIGHT},
        {"PatientOrientation": ["", ""]},
        {"PatientOrientation": [" L", " F "]},
        {"ImageOrientationPatient": [0.999, 0.04, 0, 0, 0.02, -0.99]},
        {"ViewPosition": None, "ViewCodeSequence": code("399348003")},
        {"ViewPosition": None, "ViewCodeSequence": code("272479007")},
        {"PixelSpacing": [0.2, 0.2], "PixelAspectRatio": ["1", "1"]},
        {"ImagerPixelSpacing": [0.143, 0.1435]},
        {"PresentationLUTShape": "IDENTITY"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
    ],
)
def test_a_film_as_the_data_set_has_them_needs_no_word(tags: dict[str, Any]) -> None:
    assert warnings_of(**tags) == ()


def test_a_frontal_view_by_its_code_is_not_one_of_the_two() -> None:
    (told,) = warnings_of(ViewPosition=None, ViewCodeSequence=code("399033003"))
    assert told == "not checked, for it is not given: view (AP or PA)"


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"PixelSpacing": [0.3, 0.2]}, ("PixelSpacing", "1.5 times as high as wide")),
        ({"ImagerPixelSpacing": [0.1, 0.2]}, ("ImagerPixelSpacing", "0.5 times")),
        ({"PixelAspectRatio": ["4", "3"]}, ("PixelAspectRatio", "1.33 times")),
        ({"PixelSpacing": [0, 0.2]}, ("PixelSpacing", "not checked")),
        ({"PresentationLUTShape": "INVERSE"}, ("is not IDENTITY, which MONOCHROME2 needs", "exchanged")),
        (
            {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "IDENTITY"},
            ("is not INVERSE, which MONOCHROME1 needs", "exchanged"),
        ),
    ],
)
@pytest.mark.parametrize("stated", [False, True])
def test_what_a_header_casts_doubt_on_is_a_warning(tags: dict[str, Any], words: tuple[str, ...], stated: bool) -> None:
    (told,) = warnings_of(stated=stated, **tags)
    assert all(word in told for word in words)


def test_raw_values_are_a_warning_where_the_data_set_does_not_say_what_its_images_are() -> None:
    (told,) = warnings_of(stated=False, PresentationIntentType="FOR PROCESSING")
    assert "raw values of the detector" in told


def test_the_hospital_of_a_header_is_known_and_the_caller_has_the_last_word() -> None:
    reader = Reader(xrays())
    item = {"dicom": base64.b64encode(dicom_bytes(PIXELS, InstitutionName="Ward Seven")).decode()}
    for about, site in ((None, "ward seven"), ({"site": "Here"}, "here"), ({"age": 3}, "ward seven")):
        assert reader.read([item], about=about).sites == (site,)
    assert "other hospitals" in reader.read([item]).warnings[0][0]
    assert reader.read([item], about={"site": str(reader.dataset.intended_use.sites[0])}).warnings == ()  # type: ignore[union-attr]
    assert reader.read(np.asarray(reader.dataset.x).tolist()).sites == ()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_the_orientation_of_a_camera_is_read(order: str, prefix: bytes) -> None:
    def metadata(*entries: tuple[int, int, int, int]) -> bytes:
        mark = b"II*\0" if order == "<" else b"MM\0*"
        packed = b"".join(struct.pack(f"{order}HHIHH", *entry, 0) for entry in entries)
        return prefix + mark + struct.pack(f"{order}IH", 8, len(entries)) + packed + bytes(4)

    assert orientation_of(metadata()) == orientation_of(metadata((0x010F, 2, 4, 7))) == 1
    for value in range(1, 9):
        assert orientation_of(metadata((0x010F, 2, 4, 7), (0x0112, 3, 1, value))) == value
    for entries in ([(0x0112, 3, 1, 9)], [(0x0112, 3, 2, 1)], [(0x0112, 4, 1, 1)], [(0x0112, 3, 1, k) for k in (1, 6)]):
        assert orientation_of(metadata(*entries)) is None
    assert orientation_of(metadata((0x0112, 3, 1, 1))[:-8]) is None
