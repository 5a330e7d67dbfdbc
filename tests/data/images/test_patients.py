"""Patients of images by a table that lies in their folder."""

from pathlib import Path

import numpy as np
import pytest

from assay.data.images.folder import ImageFolder
from assay.data.images.patients import patients_in
from assay.errors import DataError

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
