"""Four hospitals: who is complete, who is tested, and what is learnt at each."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assay.data.base import Dataset
from assay.data.heart import HOSPITALS, Heart
from assay.data.partition import partition_dataset, partition_test
from assay.data.splits import Splitting, split
from assay.errors import DataError
from assay.recipes import Federation
from assay.registry import build
from tests.mistakes import refused

REAL = Path(os.environ.get("ASSAY_DATA", "")) / "heart"
real = pytest.mark.skipif(not (REAL / "processed.va.data").is_file(), reason="ASSAY_DATA holds no heart/")
INPUTS = (
    *("age", "sex", "trestbps", "chol", "fbs", "thalach", "exang", "oldpeak"),
    *("cp=2", "cp=3", "cp=4", "restecg=1", "restecg=2"),
)


@pytest.fixture(scope="module")
def heart() -> Dataset:
    return Heart().load()


def line(number: int, *, num: int | None = None, chol: str = "230") -> str:
    values = (
        40 + number,
        number % 2,
        1 + number % 4,
        120,
        chol,
        0,
        number % 3,
        150,
        0,
        0.5 * (number % 4),
        "?",
        "?",
        "?",
    )
    return ",".join(str(value) for value in (*values, number % 3 if num is None else num))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four small files: 30 patients each, of whom one has no cholesterol."""
    monkeypatch.setenv("ASSAY_DATA", str(tmp_path))
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "heart"
    place.mkdir()
    for hospital in HOSPITALS.values():
        lines = [*(line(number) for number in range(29)), line(29, chol="?")]
        (place / f"processed.{hospital.file}.data").write_text("\n".join(lines) + "\n")
    return place


@real
def test_the_published_numbers_of_patients_are_complete_and_split(heart: Dataset) -> None:
    assert (len(heart), Heart.records, Heart.official_train) == (740, 740, 486)
    assert heart.site is not None and heart.official is not None
    counts = {
        site: tuple((heart.official[heart.site == site] == part).sum() for part in ("train", "test"))
        for site in HOSPITALS
    }
    assert counts == {"Cleveland": (199, 104), "Hungary": (172, 89), "Switzerland": (30, 16), "Long Beach": (85, 45)}
    assert {site: int(heart.y[heart.site == site].sum()) for site in HOSPITALS} == {
        "Cleveland": 139,
        "Hungary": 98,
        "Switzerland": 45,
        "Long Beach": 101,
    }
    assert heart.feature_names == INPUTS
    assert "cholesterol of 0 stands for a missing value" in heart.warnings[0]
    assert heart.warnings == heart.stated
    assert "Switzerland: 46 of 123 patients are complete; cholesterol is 0 (missing) in 46" in heart.reading


@real
def test_records_split_and_scales_are_those_of_a_second_implementation(heart: Dataset) -> None:
    """By pandas and scikit-learn, as the benchmark describes them."""
    from sklearn.model_selection import train_test_split

    made = heart.prepared(np.flatnonzero(heart.official == "train"), seed=0)
    frames, parts = [], []
    for hospital in HOSPITALS.values():
        table = pd.read_csv(REAL / f"processed.{hospital.file}.data", header=None, na_values="?")
        table = table.drop(columns=[10, 11, 12]).dropna().reset_index(drop=True)
        ill = (table[13] > 0).astype(int)
        stratified = ill if min(ill.sum(), (1 - ill).sum()) > 2 else None
        _, test = train_test_split(table.index, test_size=0.34, train_size=0.66, random_state=43, stratify=stratified)
        frames.append(table.assign(hospital=hospital.file))
        parts.append(np.where(table.index.isin(test), "test", "train"))
    together, official = pd.concat(frames, ignore_index=True), np.concatenate(parts)
    assert np.array_equal(official, heart.official)  # type: ignore[arg-type]
    assert np.array_equal((together[13] > 0).astype(int), heart.y)
    inputs = pd.get_dummies(together.drop(columns=[13, "hospital"]), columns=[2, 6], drop_first=True).astype(float)
    np.testing.assert_allclose(np.asarray(heart.x), inputs, rtol=1e-6)
    for hospital, own in inputs.groupby(together["hospital"]):
        train = own[official[own.index] == "train"]
        expected = (own - train.mean()) / train.std().replace(0, 1)
        np.testing.assert_allclose(np.asarray(made.x)[own.index], expected, atol=2e-5, err_msg=str(hospital))


@real
def test_each_hospital_is_a_client_with_its_own_test_records(heart: Dataset) -> None:
    parts = split(heart, Splitting(), fold=0, repeat=0, seed=1)
    federation = Federation(partition="natural")
    training = partition_dataset(heart, parts.train, federation, seed=0)
    assert training.sites == tuple(sorted(HOSPITALS))
    tested = partition_test(heart, parts.test, training, federation, seed=0)
    assert [len(rows) for rows in tested] == [104, 89, 45, 16]


@real
def test_with_stated_figures_nothing_is_learnt(heart: Dataset) -> None:
    source = Heart(standardise="stated")
    data = source.load()
    assert (source.owes(), data.owes, data.preparation) == ("", "", None)
    assert heart.owes and Heart().owes()
    values = np.asarray(data.x) * [feature.scale for feature in data.features] + [f.center for f in data.features]
    np.testing.assert_allclose(values, np.asarray(heart.x), atol=1e-3)
    assert np.abs(np.asarray(data.x)).max() < 6


def test_incomplete_patients_are_left_out_and_an_unusual_number_is_told(folder: Path) -> None:
    data = build("dataset", "heart").load()  # type: ignore[attr-defined]
    assert len(data) == 4 * 29
    assert data.reading[0] == "Cleveland: 29 of 30 patients are complete"
    assert "Hungary has 29 complete patients; the published number is 261" in data.warnings
    assert data.immutable is not None
    assert [name for name, fixed in zip(data.feature_names, data.immutable, strict=True) if not fixed] == [
        "age",
        "trestbps",
        "chol",
        "thalach",
        "oldpeak",
    ]
    assert set(data.subgroups) == {"age", "sex", "site"}


@pytest.mark.parametrize(
    ("content", "given"),
    [
        ("age,sex\n", "2 cells"),
        (line(0).replace("120", "high"), "'high'"),
        (line(0).replace("120", "1200"), "trestbps 1200"),
        (line(0).replace("120", "inf"), "trestbps inf"),
        (line(0, num=7), "num 7"),
        ("\n".join(line(number) for number in range(1)), 1),
    ],
    ids=["other columns", "a word", "an impossible value", "infinity", "an unknown class", "one patient"],
)
def test_a_file_that_is_no_such_table_is_refused(folder: Path, content: str, given: str | int) -> None:
    (folder / "processed.hungarian.data").write_text(content)
    with refused(DataError, "heart", given):
        Heart().load()


def test_absent_files_are_asked_for(folder: Path) -> None:
    (folder / "processed.va.data").unlink()
    with pytest.raises(DataError, match=r"heart/processed.va.data is not here.*unpack.*ASSAY_DATA"):
        Heart().load()
