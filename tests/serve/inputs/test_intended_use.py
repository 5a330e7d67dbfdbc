"""A record that the model was not made for is refused with a code; what is not known about it is a warning."""

import base64
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from assay.data.base import Dataset
from assay.data.images.base import image_dataset
from assay.data.images.chest_xray import CHILDREN
from assay.data.images.files import Decoder
from assay.data.images.medmnist_facts import FACTS
from assay.data.images.medmnist_uses import USES
from assay.data.intended_use import IntendedUse
from serve.inputs.intended_use import check_use, checked_about
from serve.inputs.read import Reader
from serve.refusals import RefusedError
from tests.serve.inputs.dicom_files import dicom_bytes

PIXELS = np.linspace(0, 255, 600).astype(np.uint8).reshape(20, 30)
CHEST: dict[str, Any] = {"age": 3, "modality": "DX", "body_part": "CHEST", "view": "AP"}
BRIGHT = np.linspace(0, 1, 64).reshape(1, 1, 8, 8)
"""A record that uses the whole range from black to white."""


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return image_dataset(
        name="xrays",
        x=np.zeros((2, 1, 8, 8), np.float32),
        y=np.array([0, 1]),
        class_names=("a", "b"),
        decoder=Decoder(height=8, width=8, channels=1),
        intended_use=CHILDREN,
    )


@pytest.fixture(scope="module")
def reader(dataset: Dataset) -> Reader:
    return Reader(dataset)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"PatientAge": "045Y"}, "age_outside"),
    ({"PatientAge": "006Y"}, "age_outside"),
    ({"PatientAge": "011M"}, "age_outside"),
    ({"PatientAge": None, "PatientBirthDate": "19600102", "StudyDate": "20250101"}, "age_outside"),
    ({"ViewPosition": "LL"}, "view_outside"),
    ({"ViewPosition": "LATERAL"}, "view_outside"),
    ({"Modality": "CT", "RescaleType": "US"}, "modality_outside"),
    ({"Modality": "MG"}, "modality_outside"),
    ({"BodyPartExamined": "HAND"}, "body_part_outside"),
    ({"PatientSpeciesDescription": "Canis lupus familiaris"}, "species_outside"),
    ({"PatientOrientation": ["L", "H"]}, "orientation_outside"),
    ({"PatientOrientation": ["R", "F"]}, "orientation_outside"),
    ({"PatientOrientation": ["F", "R"]}, "orientation_outside"),
    ({"PatientOrientation": ["F", "L"]}, "orientation_outside"),
    ({"PatientOrientation": ["H", "L"]}, "orientation_outside"),
    ({"PatientOrientation": ["P", "F"]}, "orientation_outside"),
]


@pytest.mark.parametrize(("tags", "reason"), REFUSED)
def test_a_film_of_another_patient_is_refused_by_its_header(reader: Reader, tags: dict[str, Any], reason: str) -> None:
    raw = dicom_bytes(PIXELS, **tags)
    with pytest.raises(RefusedError) as refused:
        reader.read([{"dicom": raw}])
    assert (refused.value.status, refused.value.reason) == (422, reason)
    assert "children of one to five years" in str(refused.value)
    assert all(str(value) not in str(refused.value) for value in tags.values() if isinstance(value, str))


@pytest.mark.parametrize("age", ["40Y", "040", "40", "x40Y"])
def test_an_age_that_cannot_be_read_is_not_taken_for_one_that_is_not_given(reader: Reader, age: str) -> None:
    with pytest.raises(RefusedError, match="PatientAge must be three digits"):
        reader.read([{"dicom": dicom_bytes(PIXELS, PatientAge=age)}])


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"PatientAge": "005Y"},
        {"PatientAge": "018M"},
        {"PatientAge": "070W"},
        {"PatientAge": None, "PatientBirthDate": "20200102", "StudyDate": "20260101"},
        {"Modality": "CR", "ViewPosition": "PA"},
        {"PatientSpeciesDescription": "Homo sapiens"},
        {"PatientOrientation": ["L", "F"]},
    ],
)
def test_a_film_of_a_child_is_answered(reader: Reader, tags: dict[str, Any]) -> None:
    assert reader.read([{"dicom": dicom_bytes(PIXELS, **tags)}]).warnings == ()


@pytest.mark.parametrize("about", [{"age": 44}, {"view": "lateral"}, {"modality": "US"}, {"species": "cat"}])
def test_what_the_request_states_is_checked_beside_the_header(reader: Reader, about: dict[str, Any]) -> None:
    raw = dicom_bytes(PIXELS)
    with pytest.raises(RefusedError) as refused:
        reader.read([{"dicom": raw}], about=about)
    assert refused.value.reason == f"{next(iter(about))}_outside"
    x = BRIGHT.tolist()
    with pytest.raises(RefusedError):
        reader.read(x, about={**CHEST, **about})


def test_what_is_not_given_is_a_warning(reader: Reader) -> None:
    x = BRIGHT.repeat(2, 0)
    expected = (
        "not checked, for it is not given: age (1 to 5 years), modality (CR or DX), body part (CHEST), view (AP or PA)"
    )
    assert reader.read(x.tolist()).warnings == ((expected,),) * 2
    assert reader.take(x).warnings == ((expected,),) * 2
    assert reader.read(x.tolist(), about=CHEST).warnings == ()
    some = reader.read(x.tolist(), about=[CHEST, {"age": 2, "view": "pa"}]).warnings
    assert some == ((), ("not checked, for it is not given: modality (CR or DX), body part (CHEST)",))
    raw = dicom_bytes(PIXELS, PatientAge=None)
    item = {"dicom": base64.b64encode(raw).decode()}
    assert reader.read([item]).warnings == (("not checked, for it is not given: age (1 to 5 years)",),)
    assert reader.read([item], about={"age": 4}).warnings == ()


def test_another_hospital_is_answered_with_a_warning(reader: Reader) -> None:
    x = BRIGHT.tolist()
    assert reader.read(x, about={**CHEST, "site": CHILDREN.sites[0].upper()}).warnings == ()
    (warning,) = reader.read(x, about={**CHEST, "site": "Ward 7"}).warnings[0]
    assert "other hospitals" in warning and "Ward" not in warning


@pytest.mark.parametrize(
    "about",
    [
        7,
        "age",
        [],
        [{}, {}, {}],
        [7, {}],
        {"Age": 3},
        {"age": "3"},
        {"age": True},
        {"age": -1},
        {"age": float("nan")},
        {"age": 10**400},
        {"view": 7},
        {"view": ""},
        {"view": "x" * 200},
        {"site": ["a"]},
        {"name": "Ada Lovelace"},
    ],
)
def test_facts_of_another_form_are_refused(about: Any) -> None:
    with pytest.raises(RefusedError) as refused:
        checked_about(about, records=2)
    assert "Lovelace" not in str(refused.value)


def test_without_a_stated_use_nothing_is_checked(dataset: Dataset) -> None:
    reader = Reader(replace(dataset, intended_use=None))
    assert reader.read(BRIGHT.tolist(), about={"age": 90}).warnings == ()
    assert check_use(IntendedUse(records="anyone"), {"age": 90, "view": "LL"}, record=0) == ()


def test_every_set_of_medmnist_says_whom_it_is_of() -> None:
    assert USES.keys() == FACTS.keys()
    assert all(use.records for use in USES.values())
    with pytest.raises(RefusedError) as refused:
        check_use(USES["breastmnist"], {"sex": "male", "age": 40}, record=0)
    assert refused.value.reason == "sex_outside"
