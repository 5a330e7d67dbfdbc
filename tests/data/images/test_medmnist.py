"""The twelve 2-D sets of MedMNIST under their names, read as published and refused otherwise."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.data.base import PARTS, Dataset
from assay.data.images.medmnist_facts import FACTS, FINDINGS
from assay.errors import DataError, SpecError
from assay.registry import build, names

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Puts a small file in the published form where it is looked for, with some of its arrays changed or left out."""
    monkeypatch.setenv("ASSAY_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))

    def file(name: str, *, flat: bool = False, **changes: Any) -> Path:
        facts = FACTS[name]
        generator = np.random.default_rng(0)
        form = (28, 28) if facts.channels == 1 else (28, 28, facts.channels)
        held: dict[str, Any] = {}
        for part, n in (("train", 40), ("val", 20), ("test", 30)):
            held[f"{part}_images"] = generator.integers(0, 256, (n, *form), dtype=np.uint8)
            classes = 2 if facts.columns > 1 else len(facts.classes)
            held[f"{part}_labels"] = ((np.arange(n)[:, None] + np.arange(facts.columns)) % classes).astype(np.uint8)
        held = {key: value for key, value in {**held, **changes}.items() if value is not None}
        path = tmp_path / "data" / ("" if flat else name) / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **held)
        return path

    return file


def load(name: str, **settings: Any) -> Dataset:
    return build("dataset", {"name": name, **settings}).load()


def refusal(name: str) -> str:
    with pytest.raises(DataError) as caught:
        load(name)
    return str(caught.value)


def test_every_set_has_its_name_and_known_size() -> None:
    assert len(FACTS) == 12
    assert set(FACTS) <= set(names("dataset"))
    for name, facts in FACTS.items():
        source = build("dataset", name)
        assert (source.records, source.official_train) == (sum(facts.counts), facts.counts[0])
        assert len(facts.md5) == 32
        assert len(set(facts.classes)) == len(facts.classes)
    # The paper's table counts 708,069 images; the organ sets of record 10519652 hold 20 + 77 + 10 fewer.
    assert sum(sum(facts.counts) for facts in FACTS.values()) == 708_069 - 107


@pytest.mark.parametrize("name", FACTS)
def test_a_local_file_is_read_with_its_official_split(write: Write, name: str) -> None:
    path = write(name)
    data = load(name)
    assert data.x.shape == (90, FACTS[name].channels, 28, 28)
    assert data.x.dtype == np.float32
    assert (float(data.x[:].min()), float(data.x[:].max())) == (0.0, 1.0)
    assert data.official is not None
    assert [int((data.official == part).sum()) for part in PARTS] == [40, 20, 30]
    with np.load(path) as held:
        last = held["test_images"][-1] / np.float32(255)
    assert np.array_equal(data.x[-1], last[None] if last.ndim == 2 else last.transpose(2, 0, 1))
    assert data.modality == "image"
    assert data.licence.startswith("CC BY")
    assert "MedMNIST v2" in data.citation
    assert data.normalisation is not None
    assert data.normalisation.mean == (0.5,) * FACTS[name].channels
    assert data.epsilons == (0, 1 / 255, 2 / 255, 4 / 255, 8 / 255)
    assert any("not marked by patient" in warning for warning in data.warnings)
    assert "not the whole published set: 40 / 20 / 30 images" in data.warnings[-1]


def test_a_file_directly_in_the_folder_is_found(write: Write) -> None:
    write("bloodmnist", flat=True)
    assert len(load("bloodmnist")) == 90


def test_malignant_is_the_class_to_detect(write: Write) -> None:
    path = write("breastmnist")
    data = load("breastmnist")
    assert data.class_names == ("normal or benign", "malignant")
    with np.load(path) as held:
        assert np.array_equal(data.y[:40] == 1, held["train_labels"][:, 0] == 0)


def test_a_finding_of_chestmnist_is_a_task_of_its_own(write: Write) -> None:
    labels = np.zeros((40, 14), np.uint8)
    labels[:7, FINDINGS.index("mass")] = 1
    labels[7:20, FINDINGS.index("effusion")] = 1
    write("chestmnist", train_labels=labels)
    assert (load("chestmnist", finding="mass").y[:40] == 1).sum() == 7
    default = load("chestmnist")
    assert default.class_names == ("no effusion", "effusion")
    assert np.flatnonzero(default.y[:40]).tolist() == list(range(7, 20))


def test_a_finding_is_asked_of_chestmnist_alone() -> None:
    with pytest.raises(SpecError, match=r"unknown key 'finding'; allowed: name"):
        build("dataset", {"name": "bloodmnist", "finding": "mass"})
    with pytest.raises(SpecError, match=r"finding: .*'hernia' .*given: 'flu'"):
        build("dataset", {"name": "chestmnist", "finding": "flu"})


def test_a_split_drawn_by_image_is_said_to_be(write: Write) -> None:
    for name in ("dermamnist", "octmnist"):
        write(name)
        told = "may have a patient in training and test" in load(name).warnings[0]
        assert told == FACTS[name].by_image == (name == "dermamnist")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"val_labels": None}, "has no 'val_labels' (it holds: test_images, test_labels,", id="no key"),
        pytest.param(
            {"test_images": np.zeros((30, 32, 32), np.uint8)},
            "test_images of {path} is uint8 of shape (30, 32, 32); it must be uint8 of shape (n, 28, 28)",
            id="other size",
        ),
        pytest.param({"train_images": np.zeros((40, 28, 28))}, "train_images of {path} is float64", id="no pixels"),
        pytest.param({"train_images": np.zeros((0, 28, 28), np.uint8)}, "shape (0, 28, 28)", id="no images"),
        pytest.param({"val_labels": np.zeros((19, 1), np.uint8)}, "of shape (19, 1); it must be", id="labels missing"),
        pytest.param({"val_labels": np.zeros((20, 2), np.uint8)}, "integers of shape (20, 1)", id="too many columns"),
        pytest.param(
            {"test_labels": np.full((30, 1), 2, np.uint8)},
            "test_labels of {path} run from 2 to 2; published are 0 to 1",
            id="label beyond the classes",
        ),
        pytest.param({"val_images": np.array([{}], object)}, "holds Python objects or ragged rows", id="objects"),
    ],
)
def test_a_file_that_is_not_the_published_one_is_refused(write: Write, changes: dict[str, Any], message: str) -> None:
    path = write("pneumoniamnist", **changes)
    assert message.format(path=path) in refusal("pneumoniamnist")


def test_what_is_no_archive_is_refused(write: Write) -> None:
    write("pneumoniamnist").write_bytes(b"no archive")
    assert "is no archive of arrays" in refusal("pneumoniamnist")


def test_without_file_and_network_the_error_says_where_to_get_it(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def offline(url: str, **how: Any) -> str:
        asked.update(how, url=url)
        raise OSError("no network")

    monkeypatch.setattr("pooch.retrieve", offline)
    message = refusal("organsmnist")
    assert "https://zenodo.org/records/10519652/files/organsmnist.npz" in message
    assert str(tmp_path / "data" / "organsmnist/organsmnist.npz") in message
    assert "ASSAY_DATA" in message
    assert asked["known_hash"] == "md5:9ab87b696fb54e2a387ebe992d6ed5f1"


@pytest.mark.skipif(
    not Path(os.environ.get("ASSAY_DATA", ""), "pneumoniamnist").is_dir(),
    reason="ASSAY_DATA names no folder with pneumoniamnist/",
)
def test_the_real_x_rays_have_the_published_counts() -> None:
    data = load("pneumoniamnist")
    assert data.official is not None
    counts = [np.bincount(data.y[data.official == part]).tolist() for part in PARTS]
    assert counts == [[1214, 3494], [135, 389], [234, 390]]
    assert "MD5 is not the published one" in data.preprocessing
    assert len(data.warnings) == 1
