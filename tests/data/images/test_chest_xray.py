"""The original release of the chest X-rays: its split, its children, and what is said when half of it is missing."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay.data.base import Dataset
from assay.data.splits import Splitting, split
from assay.errors import DataError
from assay.registry import build

TRAIN = (
    "NORMAL/IM-0117-0001.jpeg",
    "NORMAL/IM-0117-0002.jpeg",
    "NORMAL/NORMAL2-IM-0383-0001.jpeg",
    "NORMAL/NORMAL-115218-0001.jpeg",
    "PNEUMONIA/person81_virus_152.jpeg",
    "PNEUMONIA/person81_virus_153.jpeg",
    "PNEUMONIA/person1000_bacteria_2931.jpeg",
    "PNEUMONIA/BACTERIA-40699-0001.jpeg",
)
VALIDATION = ("NORMAL/NORMAL2-IM-1427-0001.jpeg", "PNEUMONIA/person1000_bacteria_2932.jpeg")
TEST = ("NORMAL/NORMAL2-IM-0117-0001.jpeg", "PNEUMONIA/person81_bacteria_398.jpeg")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSAY_DATA", str(tmp_path))
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "chest_xray"


def release(folder: Path, **parts: tuple[str, ...]) -> None:
    for part, names in parts.items():
        for number, name in enumerate(names):
            (folder / part / name).parent.mkdir(parents=True, exist_ok=True)
            # A few of the release's files are grey in three channels.
            Image.new("RGB" if number == 1 else "L", (20, 16), (90,) * 3 if number == 1 else 90).save(
                folder / part / name, quality=95
            )


def load(**settings: object) -> Dataset:
    return build("dataset", {"name": "chest_xray", "size": 8, **settings}).load()


def refusal() -> str:
    with pytest.raises(DataError) as caught:
        load()
    return str(caught.value)


@pytest.mark.parametrize("stream", [False, True])
def test_the_release_is_read_grey_with_its_split(folder: Path, stream: bool) -> None:
    release(folder, train=TRAIN, test=TEST)
    data = load(stream=stream)
    assert data.class_names == ("NORMAL", "PNEUMONIA")
    assert data.x.shape == (10, 1, 8, 8)
    assert np.allclose(data.x[:], 90 / 255, atol=0.02)
    assert data.official is not None
    assert data.official.tolist() == ["train"] * 8 + ["test"] * 2
    assert data.y.tolist() == [0] * 4 + [1] * 4 + [0, 1]
    assert data.licence == "CC BY 4.0"
    assert "Kermany" in data.citation


def test_a_child_is_what_the_name_says_before_the_number_of_the_image(folder: Path) -> None:
    release(folder, train=TRAIN, test=TEST)
    data = load()
    assert data.groups is not None
    assert set(data.groups[:8]) == {
        "IM-0117",
        "NORMAL2-IM-0383",
        "NORMAL-115218",
        "person81_virus",
        "person1000_bacteria",
        "BACTERIA-40699",
    }
    # person81 and IM-0117 occur on both sides, in series that are numbered apart.
    assert data.groups[8:].tolist() == ["NORMAL2-IM-0117", "person81_bacteria"]


def test_a_second_number_of_the_image_is_no_second_child(folder: Path) -> None:
    names = ("IM-0033-0001.jpeg", "IM-0033-0001-0001.jpeg", "IM-0033-0001-0002.jpeg", "NORMAL2-IM-0529-0001-0002.jpeg")
    release(folder, train=TRAIN, test=(*(f"NORMAL/{name}" for name in names), "PNEUMONIA/person1_virus_11.jpeg"))
    data = load()
    assert data.groups is not None
    assert set(data.groups[8:]) == {"IM-0033", "NORMAL2-IM-0529", "person1_virus"}
    # By name, so in another order than given: three images are of the one child.
    assert (data.groups == "IM-0033").sum() == 3


def test_a_name_that_tells_no_child_is_an_error(folder: Path) -> None:
    release(folder, train=(*TRAIN, "NORMAL/scan-of-IM-0001-0001.jpeg"), test=TEST)
    assert "finds no patient in 1 of 11 file names: train/NORMAL/scan-of-IM-0001-0001.jpeg" in refusal()


def test_one_child_on_both_sides_is_an_error(folder: Path) -> None:
    release(folder, train=TRAIN, test=(*TEST, "PNEUMONIA/person81_virus_154.jpeg"))
    assert "group 'person81_virus' straddles the official split" in refusal()


def test_the_copies_sixteen_validation_images_go_back_to_training(folder: Path) -> None:
    release(folder, train=TRAIN, val=VALIDATION, test=TEST)
    data = load()
    assert data.official is not None
    assert (data.official == "train").sum() == 10
    assert "validation" not in data.official
    parts = split(data, Splitting(validation=0.3), fold=0, repeat=0, seed=0)
    assert len(parts.validation)
    assert data.groups is not None
    assert not set(data.groups[parts.validation]) & set(data.groups[parts.train])


def test_a_folder_of_the_same_name_inside_is_looked_into(folder: Path) -> None:
    release(folder / "chest_xray", train=TRAIN, test=TEST)
    (folder / "__MACOSX").mkdir()
    assert len(load()) == 10


@pytest.mark.parametrize(("there", "missing"), [("test", "train"), ("train", "test")])
def test_a_missing_part_is_named_with_the_address(folder: Path, there: str, missing: str) -> None:
    release(folder, **{there: TRAIN})
    assert f"chest_xray: {missing}/ is missing in {folder} (it holds: {there}); the release has" in refusal()
    assert "https://data.mendeley.com/datasets/rscbjbr9sj" in refusal()


def test_an_absent_release_says_where_to_get_it(folder: Path) -> None:
    message = refusal()
    assert "ChestXRay2017.zip from https://data.mendeley.com/datasets/rscbjbr9sj" in message
    assert str(folder / "train") in message


def test_other_classes_are_refused(folder: Path) -> None:
    names = [f"{name}/IM-0001-0001.jpeg" for name in ("COVID", "NORMAL")]
    release(folder, train=tuple(names), test=tuple(names))
    assert "classes are NORMAL, PNEUMONIA, but" in refusal()


REAL = Path(os.environ.get("ASSAY_DATA", ""), "chest_xray")
real = pytest.mark.skipif(not REAL.is_dir(), reason="ASSAY_DATA names no folder with chest_xray/")


@real
def test_real_names_tell_the_child(folder: Path) -> None:
    release(folder, train=TRAIN)
    for name in ("NORMAL/NORMAL2-IM-1427-0001.jpeg", "PNEUMONIA/person1950_bacteria_4881.jpeg"):
        (folder / "test" / name).parent.mkdir(parents=True)
        shutil.copy(REAL / "test" / name, folder / "test" / name)
    data = load()
    assert data.groups is not None
    assert data.groups[8:].tolist() == ["NORMAL2-IM-1427", "person1950_bacteria"]


@real
def test_two_real_x_rays_are_no_release() -> None:
    root = Path(os.environ["ASSAY_DATA"], "chest_xray")
    if (root / "train").is_dir():
        assert load().classes == 2
    else:
        assert f"train/ is missing in {root}" in refusal()
