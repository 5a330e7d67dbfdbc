"""Patients of images by a table that lies in their folder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.data.base import Dataset
from assay.data.images.folder import ImageFolder
from assay.data.images.patients import patients_in
from assay.errors import DataError
from tests.data.images.test_grey_values import dicom
from tests.mistakes import refused

NAMES = ("ill/1.png", "ill/2.png", "well/3.png", "well/4.png")


def folder(root: Path, table: str, name: str = "metadata.csv") -> Path:
    from PIL import Image

    for number, image in enumerate(NAMES):
        (root / image).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4), 40 * number, np.uint8)).save(root / image)
    (root / name).write_text(table)
    return root


@pytest.mark.parametrize(
    "rows",
    [
        "file,Patient ID\nill/1.png,a\nill/2.png,a \nwell/3.png,b\nwell/4.png,c",
        "file_name;mrn\n1.png;a\n2.png;a\n3.png;b\n4.png;c",
        "image,subject\n4,c\n3,b\n2,a\n1,a\n9,z",
    ],
)
def test_a_table_in_the_folder_tells_patients_apart(tmp_path: Path, rows: str) -> None:
    data = ImageFolder(path=str(folder(tmp_path, rows)), size=4, channels=1).load()
    assert data.groups is not None and data.groups.tolist() == ["a", "a", "b", "c"]


def test_a_table_in_the_folder_tells_subgroups(tmp_path: Path) -> None:
    rows = "file,mrn,sex,age,bmi\n./ill/1.png,a,F,30,20\nill\\2.png,a,F,30,20\n3.png,b,M,70,20\n4.png,c,M,90,20"
    data = ImageFolder(path=str(folder(tmp_path, rows)), size=4, channels=1).load()
    assert {name: told.tolist() for name, told in data.subgroups.items()} == {
        "sex": ["F", "F", "M", "M"],
        "age": ["18–39", "18–39", "65–79", "80+"],
    }


def test_a_table_without_patients_is_passed_over(tmp_path: Path) -> None:
    assert ImageFolder(path=str(folder(tmp_path, "file,age\n1.png")), size=4, channels=1).load().groups is None


@pytest.mark.parametrize(
    ("rows", "setting", "given"),
    [
        ("file,patient\n1.png,a\n2.png,a\n3.png,b", "group_pattern", "well/4.png"),
        ("age,patient\n1,a\n2,a", "group_pattern", []),
        ("file,patient\n1.png,a\n2.png,\n3.png,b\n4.png,c", "patient", 1),
        ("file,patient,mrn\n1.png,a,a\n", "group", ["patient", "mrn"]),
    ],
)
def test_a_table_that_does_not_tell_is_refused(tmp_path: Path, rows: str, setting: str, given: object) -> None:
    with pytest.raises(DataError) as caught:
        patients_in(folder(tmp_path, rows), NAMES, "xrays")
    assert (caught.value.setting, caught.value.given) == (setting, given)


def test_two_tables_of_patients_are_refused(tmp_path: Path) -> None:
    root = folder(tmp_path, "file,patient\n1.png,a")
    (root / "other.tsv").write_text("file\tsubject\n1.png\ta")
    with pytest.raises(DataError) as caught:
        patients_in(root, NAMES, "xrays")
    assert caught.value.given == ["metadata.csv", "other.tsv"]


TWINS = ("ill/0.png", "well/0.png")


@pytest.mark.parametrize("rows", ["ill/0.png,a\nwell/0.png,b", "./ill/0.png,a\nwell\\0.png,b", "well/0,b\nill/0,a"])
def test_images_of_one_name_in_two_folders_are_told_apart_by_their_path(tmp_path: Path, rows: str) -> None:
    groups = patients_in(folder(tmp_path, f"file,patient\n{rows}"), TWINS, "xrays")
    assert groups is not None and groups.tolist() == ["a", "b"]


def test_a_path_below_the_class_folder_names_an_image(tmp_path: Path) -> None:
    root = folder(tmp_path, "file,patient\np1/0.png,a\np2/0.png,b")
    groups = patients_in(root, ("ill/p1/0.png", "ill/p2/0.png"), "xrays")
    assert groups is not None and groups.tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("rows", "given"),
    [("0.png,a\n0.png,b", "0.png"), ("0.png,a", "0.png"), ("ill/0.png,a\nill/0.png,b\nwell/0.png,c", "ill/0.png")],
)
def test_a_name_of_several_images_or_patients_is_refused(tmp_path: Path, rows: str, given: str) -> None:
    with pytest.raises(DataError) as caught:
        patients_in(folder(tmp_path, f"file,patient\n{rows}"), TWINS, "xrays")
    assert (caught.value.setting, caught.value.given) == ("group_pattern", given)


def pictures(root: Path, ids: list[str | None]) -> Path:
    """DICOM files of two classes in turn, each with its PatientID, or without one."""
    for number, one in enumerate(ids):
        tags = {} if one is None else {"PatientID": one}
        path = root / "xrays" / ("ill", "well")[number % 2] / f"{number:03}.dcm"
        dicom(path, np.full((8, 10), 20 * number % 251, np.uint8), **tags)
    return root / "xrays"


def read(root: Path, **settings: Any) -> Dataset:
    return ImageFolder(**{"path": str(root), "size": 4, "channels": 1, **settings}).load()


IDS = ["MRN-77001", "MRN-77001", "MRN-77002", "MRN-77002", "MRN-77003", "MRN-77001 "]


@pytest.mark.parametrize("stream", [False, True])
def test_patients_of_dicom_files_are_those_of_their_tag(tmp_path: Path, stream: bool) -> None:
    data = read(pictures(tmp_path, IDS), stream=stream)
    assert data.groups is not None
    # In the order of the files: 0, 2 and 4 are ill, 1, 3 and 5 well.
    assert data.groups.tolist() == [0, 1, 2, 0, 1, 0]
    assert "patients by the tag PatientID of DICOM files: 3" in data.reading
    assert "MRN" not in str((data.groups, data.reading, data.warnings, data.about))


def test_a_pattern_or_a_table_comes_before_the_tag(tmp_path: Path) -> None:
    root = pictures(tmp_path, IDS)
    assert read(root, group_pattern=r"^(\d+)").groups.tolist() == ["000", "002", "004", "001", "003", "005"]
    (root / "metadata.csv").write_text("file,patient\n" + "\n".join(f"{n:03}.dcm,{n % 3}" for n in range(6)))
    assert read(root).groups.tolist() == ["0", "2", "1", "1", "0", "2"]


def test_tags_of_dicom_files_tell_subgroups(tmp_path: Path) -> None:
    people = [("F", "030Y"), ("M", "070Y"), ("", "")] * 2
    for number, (sex, age) in enumerate(people):
        tags = {"PatientID": f"MRN-{number}", "PatientSex": sex, "PatientAge": age, "Manufacturer": "ACME"}
        dicom(tmp_path / ("ill", "well")[number % 2] / f"{number}.dcm", np.full((8, 10), 20 * number, np.uint8), **tags)
    # In the order of the files: 0, 2 and 4 are ill, 1, 3 and 5 well. One device alone is no subgroup.
    assert {name: told.tolist() for name, told in read(tmp_path).subgroups.items()} == {
        "sex": ["F", "", "M", "M", "F", ""],
        "age": ["18–39", "", "65–79", "65–79", "18–39", ""],
    }


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        pytest.param([None] * 6, "is missing in 6 of 6", id="absent"),
        pytest.param([*IDS[:4], "", None], "is missing in 2 of 6", id="some blank"),
        pytest.param([*IDS[:4], "unknown", "N/A"], "is missing in 2 of 6", id="some unknown"),
        pytest.param([*IDS[:4], "ANONYMOUS", "ANONYMOUS"], "is missing in 2 of 6", id="some anonymised"),
        pytest.param(["ANON-1"] * 6, "is the same in all 6", id="all equal"),
    ],
)
def test_it_is_said_where_tags_tell_no_patients_apart(tmp_path: Path, ids: list[str | None], told: str) -> None:
    data = read(pictures(tmp_path, ids))
    assert data.groups is None
    said = [line for line in data.warnings if "patients are not known" in line]
    assert len(said) == 1 and told in said[0]
    assert not any(one in str(data.about) for one in ("MRN", "ANON"))


def test_tags_that_differ_in_case_or_zeros_are_refused_unseen(tmp_path: Path) -> None:
    root = pictures(tmp_path, ["MRN-7", "mrn-07", "MRN-8", "MRN-9", "MRN-9", "MRN-8"])
    with pytest.raises(DataError) as caught:
        read(root)
    assert (caught.value.setting, caught.value.given) == ("group_pattern", "PatientID")
    assert "mrn" not in str((caught.value, caught.value.allowed)).casefold()


def test_few_values_of_the_tag_are_warned_of(tmp_path: Path) -> None:
    data = read(pictures(tmp_path, [f"scanner {number % 3}" for number in range(60)]))
    assert any("tells only 3 patients of 60 records apart" in line for line in data.warnings)
    assert "scanner" not in str(data.about)


def test_pictures_without_tags_say_nothing_of_them(tmp_path: Path) -> None:
    data = ImageFolder(path=str(folder(tmp_path, "file,age\n1.png")), size=4, channels=1).load()
    assert not any("PatientID" in line for line in (*data.reading, *data.warnings))


@pytest.mark.parametrize(
    ("heading", "given", "allowed"),
    [
        ("file,group,patient_id", ["group", "patient_id"], "one column"),
        ("file,group,ward", "group", "a column patient_id"),
    ],
)
def test_a_group_in_a_table_of_images_is_never_guessed(tmp_path: Path, heading: str, given: Any, allowed: str) -> None:
    names = tuple(f"ill/{number}.png" for number in range(40))
    rows = [f"{number}.png,{'AB'[number % 2]},{number // 2}" for number in range(40)]
    (tmp_path / "metadata.csv").write_text("\n".join([heading, *rows]))
    with refused(DataError, given=given, allowed=allowed):
        patients_in(tmp_path, names, "xrays")
    (tmp_path / "metadata.csv").write_text("\n".join([heading.replace("group", "arm").replace("ward", "mrn"), *rows]))
    groups = patients_in(tmp_path, names, "xrays")
    assert groups is not None and len(np.unique(groups)) == 20
