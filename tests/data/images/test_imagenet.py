"""ImageNet's layout, streamed; and the images that a program draws in its place."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay.data.base import Dataset
from assay.data.images.files import ImageFiles
from assay.data.images.synthetic import make_image_folder
from assay.data.splits import Splitting, split
from assay.errors import DataError
from assay.registry import build


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))


def load(**settings: object) -> Dataset:
    return build("dataset", {"name": "imagenet", "size": 16, **settings}).load()


def refusal() -> str:
    with pytest.raises(DataError) as caught:
        load()
    return str(caught.value)


def small(path: Path) -> Path:
    return make_image_folder(path, classes=3, per_class={"train": 4, "val": 2}, size=20, seed=1)


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def test_the_layout_is_streamed_with_val_as_test(tmp_path: Path) -> None:
    small(tmp_path / "data/imagenet")
    data = load()
    assert isinstance(data.x, ImageFiles)
    assert data.x.shape == (18, 3, 16, 16)
    assert data.class_names == ("n00000000", "n00000001", "n00000002")
    assert data.official is not None
    assert data.official.tolist() == ["train"] * 12 + ["test"] * 6
    assert data.normalisation is not None
    assert data.normalisation.mean == (0.485, 0.456, 0.406)
    assert "18 pixels on the shorter side and cut to the middle 16 × 16" in data.preprocessing
    assert data.warnings[0].startswith("a subset: 3 classes, 12 training and 6 test images, instead of 1000, 1281167")
    parts = split(data, Splitting(validation=0.25), fold=0, repeat=0, seed=0)
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (9, 3, 6)


def test_at_the_usual_size_256_pixels_are_cut_to_224() -> None:
    from assay.data.images.imagenet import ImageNet

    assert ImageNet()._shorter == 256


def test_grey_files_become_rgb(tmp_path: Path) -> None:
    root = small(tmp_path / "data/imagenet")
    Image.new("L", (30, 20), 128).save(root / "train/n00000000/grey.JPEG")
    data = load()
    assert isinstance(data.x, ImageFiles)
    assert data.x.name(0) == "train/n00000000/grey.JPEG"
    assert np.allclose(data.x[0], 128 / 255, atol=0.01)


def test_absent_images_say_where_to_register_and_how_folders_look() -> None:
    message = refusal()
    for wanted in (
        "https://image-net.org/download-images",
        "imagenet/train/<class>/*.JPEG",
        "synthetic: 64",
        "ASSAY_DATA",
    ):
        assert wanted in message


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    root = small(tmp_path / "data/imagenet")
    (root / "val").rename(root / "test")
    assert f"val/ is missing in {root}" in refusal()


def test_synthetic_images_are_drawn_once_and_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load(synthetic=24, synthetic_classes=3)
    assert data.name == "imagenet_synthetic"
    assert data.x.shape == (30, 3, 16, 16)
    assert data.warnings == (
        "images drawn by a program: the figures show that the study runs, and nothing of ImageNet",
    )
    assert len(list((tmp_path / "cache").rglob("*.JPEG"))) == 30
    other = load(synthetic=12, synthetic_classes=3)
    monkeypatch.setattr("assay.data.images.synthetic._draw", None)
    assert load(synthetic=24, synthetic_classes=3).digest == data.digest != other.digest


def test_synthetic_images_depend_on_their_arguments_alone(tmp_path: Path) -> None:
    one, two = contents(small(tmp_path / "one")), contents(small(tmp_path / "two"))
    assert len(one) == 18
    assert one == two
    other = make_image_folder(tmp_path / "other", classes=3, per_class={"train": 4, "val": 2}, size=20, seed=2)
    assert not set(one.values()) & set(contents(other).values())
    assert len(set(one.values())) == 18


def test_synthetic_classes_can_be_told_apart() -> None:
    data = load(synthetic=64)
    hues = data.x[:].mean((2, 3))
    train = data.official == "train"
    centres = np.stack([hues[train & (data.y == label)].mean(0) for label in range(4)])
    nearest = ((hues[:, None] - centres) ** 2).sum(-1).argmin(1)
    assert (nearest == data.y).mean() > 0.95


def test_a_half_drawn_folder_never_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(range(3))
    save = Image.Image.save

    def failing(image: Image.Image, *args: object, **how: object) -> None:
        next(drawn)
        save(image, *args, **how)

    monkeypatch.setattr(Image.Image, "save", failing)
    with pytest.raises(StopIteration):
        small(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    assert list(tmp_path.iterdir()) == []
