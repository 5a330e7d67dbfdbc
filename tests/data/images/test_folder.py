"""The user's own folder of images: both layouts, patients, and an error for each way in which it cannot be used."""

import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from assay.data.base import Dataset
from assay.data.images import folder as image_folder
from assay.data.images.files import ImageFiles
from assay.data.splits import Splitting, split
from assay.errors import DataError, SpecError
from assay.registry import build
from tests.data.images.test_grey_values import dicom
from tests.mistakes import refused

SHADES = {"benign": 60, "malignant": 180}


def draw(path: Path, shade: int, mode: str = "RGB", size: tuple[int, int] = (12, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, shade if mode in ("L", "LA") else (shade,) * len(mode)).save(path)


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Six images of each of two classes, of three patients each."""
    for name, shade in SHADES.items():
        for number in range(6):
            draw(tmp_path / "skin" / name / f"{name[0]}{number // 2}_{number}.png", shade + number)
    return tmp_path / "skin"


@pytest.fixture
def parted(tmp_path: Path) -> Path:
    """Four images of each class for training, one for validation and two for testing."""
    for part, images in (("train", 4), ("val", 1), ("test", 2)):
        for name, shade in SHADES.items():
            for number in range(images):
                draw(tmp_path / "skin" / part / name / f"{part}{number}_{number}.png", shade)
    return tmp_path / "skin"


def load(path: Path, **settings: Any) -> Dataset:
    return build("dataset", {"name": "image_folder", "path": str(path), "size": [5, 6], **settings}).load()


def refusal(path: Path, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(path, **settings)
    return str(caught.value)


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def test_class_folders_alone_have_no_official_split(flat: Path) -> None:
    data = load(flat)
    assert (data.name, data.class_names, data.official, data.groups) == ("skin", ("benign", "malignant"), None, None)
    assert data.x.shape == (12, 3, 5, 6)
    assert np.bincount(data.y).tolist() == [6, 6]
    shades = np.round(data.x[:].mean((1, 2, 3)) * 255)
    assert shades.tolist() == [*range(60, 66), *range(180, 186)]
    assert data.modality == "image"
    # Each of these images is of one shade.
    (told,) = data.warnings
    assert told.startswith("12 of 12 images span less than 10%")
    assert "scaled to 5 × 6 pixels" in data.preprocessing


def test_settings_of_the_study_file_are_kept(flat: Path) -> None:
    data = load(flat, size=7, epsilons=[0, 0.1], licence="ours", citation="us", classes=["malignant", "benign"])
    assert data.x.shape == (12, 3, 7, 7)
    assert (data.epsilons, data.licence, data.citation) == ((0, 0.1), "ours", "us")
    assert data.class_names == ("malignant", "benign")
    assert data.x[data.y == 0].mean() > data.x[data.y == 1].mean()


@pytest.mark.parametrize("validation", ["val", "validation", "Val"])
def test_part_folders_are_the_official_split(parted: Path, validation: str) -> None:
    (parted / "val").rename(parted / validation)
    data = load(parted)
    assert data.official is not None
    parts = dict(zip(*np.unique(data.official, return_counts=True), strict=True))
    assert parts == {"train": 8, "validation": 2, "test": 4}
    assert np.bincount(data.y[data.official == "test"]).tolist() == [2, 2]
    assert np.array_equal(data.x[:].mean((1, 2, 3)) > 0.5, data.y == 1)


def test_what_is_no_image_and_what_is_hidden_is_passed_over(flat: Path) -> None:
    (flat / "benign/notes.txt").write_text("no image")
    (flat / "benign/.hidden.png").write_text("no image")
    (flat / ".cache").mkdir()
    (flat / "__MACOSX").mkdir()
    draw(flat / "benign/deeper/below.PNG", 0)
    assert len(load(flat)) == 13


def test_patients_are_read_out_of_file_names(flat: Path) -> None:
    data = load(flat, group_pattern=r"^([a-z]\d)_")
    assert data.groups is not None
    assert data.groups.tolist() == [f"{kind}{number // 2}" for kind in "bm" for number in range(6)]
    parts = split(data, Splitting(folds=3), fold=0, repeat=0, seed=0)
    assert not set(data.groups[parts.test]) & set(data.groups[parts.train])


def test_the_class_to_detect_is_said_and_asked_about_where_it_was_guessed(flat: Path) -> None:
    data = load(flat)
    assert data.reading[0] == "12 of 12 images in 2 classes: benign (6), malignant (6); malignant is the one to detect"
    assert not any("one to detect" in line for line in data.warnings)
    (flat / "benign").rename(flat / "nothing")
    assert any("'nothing' was taken for the one to detect" in line for line in load(flat).warnings)
    assert not any("one to detect" in line for line in load(flat, classes=["nothing", "malignant"]).warnings)


def test_patients_in_two_ways_of_writing_are_an_error(flat: Path) -> None:
    for name in ("P01_front.png", "p1_side.png"):
        draw(flat / "benign" / name, 0)
    with refused(DataError, "group_pattern", "p1"):
        load(flat, group_pattern=r"^(\w\d+)_")


def test_a_patient_in_training_and_test_is_an_error(parted: Path) -> None:
    assert "group '0' straddles the official split (2 such groups)" in refusal(parted, group_pattern=r"_(\d+)\.png")


def test_a_file_name_without_a_patient_is_an_error(flat: Path) -> None:
    draw(flat / "benign/unnamed.png", 0)
    message = refusal(flat, group_pattern=r"^([a-z]\d)_")
    assert "finds no patient in 1 of 13 file names: benign/unnamed.png" in message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"group_pattern": "^patient"}, r"'\^patient' has no group; put the patient in parentheses"),
        ({"group_pattern": "(("}, "is no regular expression"),
        ({"size": 0}, "0 has no pixels"),
        ({"size": [4, 0]}, "has no pixels; give one side, or"),
        ({"channels": 2}, "channels: Input should be 1 or 3"),
        ({"on_corrupt": "ignore"}, "on_corrupt: Input should be 'fail' or 'skip'"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_read(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build("dataset", {"name": "image_folder", "path": "nowhere", **settings})


@pytest.mark.parametrize("stream", [False, True])
def test_a_corrupt_image_among_good_ones_is_named_and_counted(flat: Path, stream: bool) -> None:
    spoil(flat / "benign/b1_2.png")
    spoil(flat / "malignant/m0_1.png")
    message = refusal(flat, stream=stream)
    assert "skin: 2 of 12 images cannot be decoded: benign/b1_2.png (" in message
    assert "), malignant/m0_1.png (" in message
    assert "repair or remove them, or set on_corrupt: skip" in message


@pytest.mark.parametrize("stream", [False, True])
def test_corrupt_images_are_left_out_only_when_the_user_allows(flat: Path, stream: bool) -> None:
    spoil(flat / "benign/b1_2.png")
    data = load(flat, on_corrupt="skip", stream=stream, group_pattern=r"^([a-z]\d)_")
    assert len(data) == 11
    assert np.bincount(data.y).tolist() == [5, 6]
    assert data.groups is not None
    assert data.groups.tolist().count("b1") == 1
    assert np.round(data.x[:].mean((1, 2, 3)) * 255).tolist() == [60, 61, 63, 64, 65, *range(180, 186)]
    assert len(data.warnings) == 2  # the other one is of their contrast
    assert data.warnings[0].startswith("1 of 12 images cannot be decoded and are left out: benign/b1_2.png (")


def test_of_many_corrupt_images_ten_are_named(flat: Path) -> None:
    for path in flat.rglob("*.png"):
        spoil(path)
    message = refusal(flat)
    assert "12 of 12 images" in message
    assert "and 2 more" in message


def test_a_class_whose_every_image_is_corrupt_is_an_error(parted: Path) -> None:
    for path in (parted / "test/benign").iterdir():
        spoil(path)
    assert "no image of test benign can be decoded" in refusal(parted, on_corrupt="skip")


def test_an_empty_class_folder_is_an_error(flat: Path) -> None:
    (flat / "naevus").mkdir()
    (flat / "naevus/readme.md").write_text("none yet")
    assert f"class folder naevus/ of {flat} holds no image (.bmp, .dcm," in refusal(flat)


def test_one_class_is_an_error(tmp_path: Path) -> None:
    draw(tmp_path / "only/class/a.png", 0)
    assert "has 1 class folder (class); classification needs at least two" in refusal(tmp_path / "only")
    (tmp_path / "none").mkdir()
    assert "has 0 class folders (none)" in refusal(tmp_path / "none")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("mode", "declared"), [("L", 3), ("RGBA", 3), ("RGB", 1), ("LA", 1)])
def test_other_channels_than_declared_are_an_error(flat: Path, mode: str, declared: int, stream: bool) -> None:
    for path in flat.rglob("*.png"):
        draw(path, 100, "L" if declared == 1 else "RGB")
    draw(flat / "benign/odd.png", 100, mode)
    message = refusal(flat, channels=declared, stream=stream)
    assert f"1 of 13 images have other than {declared} channel" in message
    found = len(Image.new(mode, (1, 1)).getbands())
    assert f"benign/odd.png ({found} channel{'s' * (found > 1)})" in message
    assert "set convert: true to make all of them" in message
    data = load(flat, channels=declared, convert=True, stream=stream)
    assert data.x.shape == (13, declared, 5, 6)
    assert np.allclose(data.x[:], 100 / 255, atol=0.005)


def test_channels_are_only_proposed_that_all_images_have_and_that_may_be_set(flat: Path) -> None:
    for path in flat.rglob("*.png"):
        draw(path, 100, "L")
    with refused(DataError, "channels", 3, 1):
        load(flat, channels=3)
    for path in flat.rglob("*.png"):
        draw(path, 100, "LA")
    for declared in (1, 3):
        with refused(DataError, "channels", declared, "convert: true"):
            load(flat, channels=declared)


def test_other_channels_are_no_corruption_that_could_be_skipped(flat: Path) -> None:
    draw(flat / "benign/grey.png", 100, "L")
    assert "have other than 3 channels" in refusal(flat, on_corrupt="skip")


def test_an_absent_folder_is_an_error(tmp_path: Path) -> None:
    message = refusal(tmp_path / "absent")
    assert f"image folder {str(tmp_path / 'absent')!r} does not exist; path must be a folder with one" in message


def test_parts_with_different_classes_are_an_error(parted: Path) -> None:
    (parted / "test/benign").rename(parted / "test/healthy")
    draw(parted / "test/naevus/a.png", 0)
    message = refusal(parted)
    assert "train/ and test/ of" in message
    assert "only train/ has benign, only test/ has healthy, naevus; every part needs the same" in message


@pytest.mark.parametrize("gone", ["train", "test"])
def test_half_a_split_is_an_error(parted: Path, gone: str) -> None:
    (parted / gone).rename(parted.parent / gone)
    assert "an official split needs train/ and test/" in refusal(parted)


def test_a_folder_beside_the_parts_is_an_error(parted: Path) -> None:
    draw(parted / "train2/benign/a.png", 0)
    assert "has the folders test, train, train2, val: an official split needs" in refusal(parted)


def test_classes_that_are_not_there_are_an_error(flat: Path) -> None:
    assert "classes are benign, malign, but" in refusal(flat, classes=["benign", "malign"])


def test_too_many_images_for_memory_are_an_error_and_stream(flat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_folder, "_MOST_IN_MEMORY", 12 * 3 * 5 * 6 * 4 - 1)
    assert "12 images of (3, 5, 6) take 0.0 GiB in memory; set stream: true" in refusal(flat)
    assert isinstance(load(flat, stream=True).x, ImageFiles)


def test_a_stream_holds_the_same_records(parted: Path) -> None:
    memory, stream = load(parted), load(parted, stream=True)
    assert isinstance(memory.x, np.ndarray)
    assert not isinstance(stream.x, np.ndarray)
    assert np.array_equal(memory.x, stream.x[:])
    assert np.array_equal(memory.y, stream.y)
    assert pickle.loads(pickle.dumps(stream)).digest == stream.digest


def test_an_unchecked_stream_fails_where_the_image_is_needed(flat: Path) -> None:
    spoil(flat / "benign/b1_2.png")
    data = load(flat, stream=True, check=False)
    assert len(data.x[:2]) == 2
    with pytest.raises(DataError, match=r"image .*b1_2\.png cannot be used"):
        data.x[:]


def test_the_digest_follows_the_content_and_not_the_place(flat: Path, tmp_path: Path) -> None:
    before = {stream: load(flat, stream=stream).digest for stream in (False, True)}
    (tmp_path / "elsewhere").mkdir()
    moved = flat.rename(tmp_path / "elsewhere/skin")
    assert {stream: load(moved, stream=stream).digest for stream in (False, True)} == before
    draw(moved / "benign/new.png", 3)
    assert not {load(moved, stream=stream).digest for stream in (False, True)} & set(before.values())


@pytest.mark.skipif(
    not Path(os.environ.get("ASSAY_DATA", ""), "chest_xray").is_dir(),
    reason="ASSAY_DATA names no folder with chest_xray/",
)
def test_real_x_rays_are_decoded() -> None:
    data = load(Path(os.environ["ASSAY_DATA"], "chest_xray/test"), channels=1, size=224)
    assert data.class_names == ("NORMAL", "PNEUMONIA")
    assert data.x.shape == (2, 1, 224, 224)
    # The lungs are darker than the spine between them.
    for image in data.x[:, 0]:
        assert image[60:160, 100:124].mean() > image[60:160, 40:80].mean()


@pytest.mark.parametrize(
    "called",
    [("Training", "Testing", "Valid"), ("Train", "Test", "val"), ("training", "TEST", "VALIDATION")],
)
def test_usual_names_of_parts_are_parts_whatever_their_case(parted: Path, called: tuple[str, str, str]) -> None:
    for part, name in zip(("train", "test", "val"), called, strict=True):
        (parted / part).rename(parted / name)
    data = load(parted)
    assert data.class_names == ("benign", "malignant")
    assert data.official is not None
    assert [int((data.official == part).sum()) for part in ("train", "validation", "test")] == [8, 2, 4]


def test_folders_that_all_hold_the_same_folders_are_no_classes(parted: Path) -> None:
    for part, name in (("train", "fold1"), ("test", "fold2"), ("val", "fold3")):
        (parted / part).rename(parted / name)
    with pytest.raises(DataError) as caught:
        load(parted)
    assert (caught.value.setting, caught.value.given) == ("path", ["fold1", "fold2", "fold3"])


def test_two_names_of_the_same_part_are_refused(parted: Path) -> None:
    (parted / "val").rename(parted / "Training")
    with pytest.raises(DataError) as caught:
        load(parted)
    assert (caught.value.setting, caught.value.given) == ("path", ["Training", "test", "train"])


def test_sub_folders_of_a_class_are_told_and_may_name_the_patient(flat: Path) -> None:
    assert "sub-folders" not in " ".join(load(flat).reading)
    for name in SHADES:
        for number in range(6):
            old = flat / name / f"{name[0]}{number // 2}_{number}.png"
            new = flat / name / f"patient{name[0]}{number // 2}" / f"{number}.png"
            new.parent.mkdir(exist_ok=True)
            old.rename(new)
    assert any("12 images lie in sub-folders" in told for told in load(flat).reading)
    groups = load(flat, group_pattern=r"^([^/]+)/").groups
    assert groups is not None
    assert dict(zip(*np.unique(groups, return_counts=True), strict=True)) == {
        f"patient{letter}{number}": 2 for letter in "bm" for number in range(3)
    }


def damaged(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """A file that is cut, or has a bit or forty bytes of it changed."""
    place = int(rng.integers(1, len(content)))
    if kind == "cut":
        return content[:place]
    changed = bytearray(content)
    changed[place : place + (1 if kind == "bit" else 40)] = b"" if kind == "gone" else bytes([content[place] ^ 4])
    return bytes(changed)


def encoded(kind: str, folder: Path) -> bytes:
    """One picture of noise in a format."""
    rng = np.random.default_rng(0)
    if kind.endswith("dcm"):
        path = dicom(folder / "one.dcm", rng.integers(0, 4096, (24, 20)).astype(np.uint16), BitsStored=12, HighBit=11)
        if kind == "rle.dcm":
            import pydicom

            file = pydicom.dcmread(path)
            file.compress(pydicom.uid.RLELossless)
            file.save_as(path)
        return path.read_bytes()
    path = folder / f"one.{kind.rpartition('.')[2]}"
    progressive = {"progressive": True} if kind == "progressive.jpg" else {}
    Image.fromarray(rng.integers(0, 256, (24, 20), np.uint8)).save(path, **progressive)
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["dcm", "rle.dcm", "jpg", "progressive.jpg", "png", "tif", "bmp"])
def test_a_stream_leaves_out_the_same_damaged_files(tmp_path: Path, kind: str) -> None:
    whole, rng = encoded(kind, tmp_path), np.random.default_rng(1)
    for name in ("ill", "well"):
        (tmp_path / "all" / name).mkdir(parents=True)
        for number in range(45):
            how = ("whole", "cut", "bit", "gone", "whole")[number % 5]
            content = whole if how == "whole" else damaged(whole, how, rng)
            (tmp_path / "all" / name / f"{number}.{kind.rpartition('.')[2]}").write_bytes(content)
    settings: dict[str, Any] = {"on_corrupt": "skip", "channels": 1, "convert": True}
    kept, streamed = (load(tmp_path / "all", stream=stream, **settings) for stream in (False, True))
    assert 36 <= len(kept) < 90
    assert np.array_equal(kept.x[:], streamed.x[:]) and kept.y.tolist() == streamed.y.tolist()
    assert kept.reading == streamed.reading

    def left_out(data: Dataset) -> list[str]:
        return re.findall(r"(?:ill|well)/\d+|\d+ of 90|\d+ more", data.warnings[0])

    assert left_out(kept) == left_out(streamed)
