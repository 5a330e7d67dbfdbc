"""Text files of the UCR archive: what they may hold, and a clear message for each way in which they cannot be used."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from assay.data.signals.ucr import UCR
from assay.errors import DataError

Write = Callable[..., Path]
TRAIN = "1\t0.5\t1.5\t-2\n2\t1\t2\t3\n1\t0\t0\t0.25\n"
TEST = "2\t4\t5\t6\n"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the two files into a folder and returns the folder; None leaves a file out."""

    def two(
        train: str | bytes | None = TRAIN, test: str | bytes | None = TEST, *, name: str = "Beef", suffix: str = ".tsv"
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for part, content in (("TRAIN", train), ("TEST", test)):
            if content is not None:
                raw = content.encode() if isinstance(content, str) else content
                (folder / f"{name}_{part}{suffix}").write_bytes(raw)
        return folder

    return two


def refusal(path: Path | str, **settings: float) -> str:
    with pytest.raises(DataError) as caught:
        UCR(path=str(path), **settings).load()
    return str(caught.value)


def test_series_labels_and_split_are_read(write: Write) -> None:
    data = UCR(path=str(write())).load()
    assert (data.name, data.modality, data.x.dtype) == ("Beef", "signal", np.float32)
    assert data.x.tolist() == [[[0.5, 1.5, -2]], [[1, 2, 3]], [[0, 0, 0.25]], [[4, 5, 6]]]
    assert data.y.tolist() == [0, 1, 0, 1]
    assert data.class_names == ("1", "2")
    assert data.official is not None
    assert data.official.tolist() == ["train", "train", "train", "test"]


@pytest.mark.parametrize(
    ("separator", "suffix"), [("\t", ".tsv"), (",", ".txt"), ("   ", ".txt"), (" , ", ".csv"), (",", "")]
)
def test_any_usual_separator_and_suffix_is_read(write: Write, separator: str, suffix: str) -> None:
    parts = [
        separator + text.replace("\t", separator) if separator == "   " else text.replace("\t", separator)
        for text in (TRAIN, TEST)
    ]
    data = UCR(path=str(write(*parts, suffix=suffix))).load()
    assert data.x[0].tolist() == [[0.5, 1.5, -2]]
    assert len(data) == 4


def test_labels_of_any_kind_are_numbered_in_ascending_order(write: Write) -> None:
    data = UCR(path=str(write("7 1 2\n-1 1 2\n 2.5 1 2\n1.0000000e+00 0 1\n", "2.5 1 2\n-1 0 1\n"))).load()
    assert data.class_names == ("-1", "1", "2.5", "7")
    assert data.y.tolist() == [3, 0, 2, 1, 2, 0]


@pytest.mark.parametrize("way", ["folder", "prefix", "name", "flat name", "folder of another name"])
def test_files_are_found_by_folder_prefix_or_name(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setenv("ASSAY_DATA", str(tmp_path / "data"))
    folder = write()
    paths = {"folder": str(folder), "prefix": str(folder / "Beef"), "name": "Beef", "flat name": "Beef"}
    if way == "name":
        (tmp_path / "data" / "ucr").mkdir(parents=True)
        folder.rename(tmp_path / "data" / "ucr" / "Beef")
    if way == "flat name":
        (tmp_path / "data").mkdir()
        folder.rename(tmp_path / "data" / "ucr")
    if way == "folder of another name":
        folder.rename(tmp_path / "mine")
        paths[way] = str(tmp_path / "mine")
    data = UCR(path=paths[way]).load()
    assert (data.name, len(data)) == ("Beef", 4)


def test_bounds_are_of_the_whole_channel_and_carry_a_warning(write: Write) -> None:
    data = UCR(path=str(write())).load()
    assert (data.low.tolist(), data.high.tolist()) == ([[-2]], [[6]])
    assert "bounds of a valid input were taken from the data" in data.warnings[0]
    assert data.unpaid_preprocessing


def test_given_bounds_are_kept(write: Write) -> None:
    data = UCR(path=str(write()), low=-10, high=10, public_preprocessing=True).load()
    assert (data.low.tolist(), data.high.tolist(), data.warnings) == ([[-10]], [[10]], ())
    assert not data.unpaid_preprocessing
    for one in ({"low": -10}, {"high": 10}):
        assert UCR(path=str(write()), public_preprocessing=True, **one).load().unpaid_preprocessing


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        pytest.param(TRAIN + "1\t1\t2\n", TEST, "series have 2 to 3 samples; all must be of one length", id="ragged"),
        pytest.param(TRAIN, "2\t4\t5\n", "2 samples a record", id="ragged between the files"),
        pytest.param(TRAIN + "1\t1\tNaN\t2\n", TEST, "line 4: value 3 is 'NaN'", id="NaN"),
        pytest.param(TRAIN + "1,1,,2\n", TEST, "line 4: value 3 is ''", id="empty field"),
        pytest.param(TRAIN + "1\t1\t?\t2\n", TEST, "line 4: value 3 is '?'", id="question mark"),
        pytest.param(TRAIN + "NaN\t1\t1\t2\n", TEST, "line 4: value 1 is 'NaN'", id="no label"),
        pytest.param(TRAIN + "1\t1\tinf\t2\n", TEST, "line 4: value 3 is 'inf'", id="infinity"),
        pytest.param(TRAIN + "1\t1\tlow\t2\n", TEST, "line 4: 'low' is no number", id="word"),
        pytest.param("a 1 2 3\n", TEST, "line 1: 'a' is no number", id="label in words"),
        pytest.param("", TEST, "must hold a label and at least one sample", id="empty file"),
        pytest.param("1\n2\n", "1\n", "must hold a label and at least one sample", id="labels alone"),
        pytest.param(TRAIN, "3\t4\t5\t6\n", "label 3 does not occur in", id="label outside the classes"),
        pytest.param(TRAIN, None, "stands alone; a data set is a _TRAIN and a _TEST file", id="no test file"),
        pytest.param(None, TEST, "stands alone", id="no training file"),
        pytest.param("1 2 3\n1 2 4\n", "1 2 3\n", "every record has the label 0", id="one class"),
        pytest.param(TRAIN.encode("utf-16"), TEST, "cannot be read as text", id="encoding"),
    ],
)
def test_files_that_cannot_be_evaluated_are_refused(
    write: Write, train: str | None, test: str | None, message: str
) -> None:
    assert message in refusal(write(train, test))


def test_a_folder_of_several_data_sets_asks_for_one(write: Write, tmp_path: Path) -> None:
    write(name="Beef")
    for part in ("TRAIN", "TEST"):
        (tmp_path / "Beef" / f"Beef_{part}.tsv").rename(tmp_path / f"Beef_{part}.tsv")
        (tmp_path / f"Wine_{part}.tsv").write_text(TRAIN)
    assert "holds 2 data sets: Beef, Wine; name one" in refusal(tmp_path)
    assert len(UCR(path=str(tmp_path / "Beef")).load()) == 4


def test_records_outside_the_given_bounds_are_refused(write: Write) -> None:
    assert "outside the bounds 0 to 1" in refusal(write(), low=0, high=1)


@pytest.mark.parametrize("path", ["Coffee", "/", ".", "nowhere/Coffee"])
def test_an_absent_data_set_names_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.chdir(tmp_path)
    message = refusal(path)
    assert "UCR" in message.upper()
    assert "https://www.cs.ucr.edu/~eamonn/time_series_data_2018/" in message
