"""Texts become positions of words; files in the wrong shape or encoding say what is wrong with them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.data.base import Dataset
from assay.data.text.embeddings import sentences_at
from assay.data.text.words import words_of
from assay.errors import DataError
from assay.registry import build

REAL = Path(os.environ.get("ASSAY_DATA", ""))
with_sst2 = pytest.mark.skipif(not (REAL / "sst2").is_dir(), reason="needs ASSAY_DATA with sst2/")
with_imdb = pytest.mark.skipif(not (REAL / "imdb").is_dir(), reason="needs ASSAY_DATA with imdb/")

TABLE = """text,label,part,patient
"A fine, fine film.",good,train,p1
Dull<br />and long,bad,train,p2
I slept,bad,validation,p3
It's fun!,good,test,p4
Never again,bad,test,p5
"""


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Dataset]:
    """``load(content, **settings)``: a text file with that content as a data set."""

    def read(content: str | bytes = TABLE, *, name: str = "reviews.csv", **settings: Any) -> Dataset:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return build("dataset", {"name": "text_file", "path": str(path), **settings}).load()

    return read


def test_words_are_lower_case_and_apart_from_punctuation_and_html() -> None:
    assert words_of("It&#39;s a <b>Film</b><br />, d'accord") == ["it", "'", "s", "a", "film", ",", "d", "'", "accord"]


def test_a_text_can_be_read_back_from_its_positions(load: Callable[..., Dataset]) -> None:
    dataset = load()
    assert sentences_at(dataset, np.array([1, 3])) == [["dull", "and", "long"], ["it", "'", "s", "fun", "!"]]
    assert dataset.words[0] == ""
    assert dataset.x.dtype == np.int32


def test_padding_follows_the_words_and_nothing_else_is_zero(load: Callable[..., Dataset]) -> None:
    written = load().written
    assert written is not None
    lengths = (written > 0).sum(1)
    assert all(
        (row[:length] > 0).all() and not row[length:].any() for row, length in zip(written, lengths, strict=True)
    )


def test_classes_are_the_labels_in_order_or_as_given(load: Callable[..., Dataset]) -> None:
    assert load().class_names == ("bad", "good")
    assert load().y.tolist() == [1, 0, 0, 1, 0]
    given = load(class_names=["good", "bad"])
    assert (given.class_names, given.y.tolist()) == (("good", "bad"), [0, 1, 1, 0, 1])


def test_a_column_may_say_the_split_and_another_the_patient(load: Callable[..., Dataset]) -> None:
    dataset = load(split="part", group="patient")
    assert dataset.official is not None and dataset.groups is not None
    assert dataset.official.tolist() == ["train", "train", "validation", "test", "test"]
    assert dataset.groups.tolist() == ["p1", "p2", "p3", "p4", "p5"]


def test_a_patient_on_both_sides_of_the_split_is_an_error(load: Callable[..., Dataset]) -> None:
    with pytest.raises(DataError, match=r"group 'p1' straddles the official split .*folds keep groups whole"):
        load(TABLE.replace("p5", "p1"), split="part", group="patient")


def test_tabs_separate_where_the_name_says_so(load: Callable[..., Dataset]) -> None:
    assert len(load("text\tlabel\nyes, it is\t1\nno\t0\n", name="reviews.tsv")) == 2


def test_long_texts_are_cut_and_counted(load: Callable[..., Dataset]) -> None:
    dataset = load(length=3)
    assert dataset.shape == (3,)
    assert "2 of 5 texts cut to their first 3 words" in dataset.reading


@pytest.mark.parametrize(
    ("content", "settings", "said"),
    [
        pytest.param(
            TABLE.encode().replace(b"fine film", b"na\xefve film"),
            {},
            r"line 2: byte 0xef is no UTF-8; save the file as UTF-8, or say which encoding",
            id="wrong encoding",
        ),
        pytest.param(TABLE, {"encoding": "klingon"}, "encoding 'klingon' is unknown", id="unknown encoding"),
        pytest.param(
            TABLE, {"text": "review"}, "no column 'review'; it has text, label, part, patient", id="no column"
        ),
        pytest.param(
            TABLE,
            {"class_names": ["good", "poor"]},
            "label 'bad' is outside the classes good, poor",
            id="class",
        ),
        pytest.param(TABLE, {"split": "patient"}, "line 2: split 'p1' is unknown; allowed: train", id="split"),
        pytest.param("text,label\nyes,1\nno\n", {}, "line 3: 1 columns instead of 2", id="ragged"),
        pytest.param("text,label\nyes,1\n ,0\n", {}, "1 of 2 rows have no text: line 3", id="empty text"),
        pytest.param("text,label\n", {}, "a heading and no texts", id="no texts"),
        pytest.param("", {}, "is empty; its first row must name the columns, text and label", id="empty file"),
        pytest.param(
            TABLE.replace("p3", " "), {"group": "patient"}, "line 4: patient is empty; name the group", id="no group"
        ),
        pytest.param("text,label\nyes,1\nno,1\n", {}, "every record has the label 0", id="one class"),
    ],
)
def test_bad_input_says_what_is_wrong(
    load: Callable[..., Dataset], content: str | bytes, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        load(content, **settings)


def test_another_encoding_is_read_where_it_is_named(load: Callable[..., Dataset]) -> None:
    assert "naïve" in load(TABLE.encode().replace(b"fine film", b"na\xefve film"), encoding="latin-1").words


def test_utf_16_is_read_by_its_mark(load: Callable[..., Dataset]) -> None:
    assert load(TABLE.encode("utf-16")).words == load().words


def test_a_byte_order_mark_is_no_part_of_the_heading(load: Callable[..., Dataset]) -> None:
    assert load(b"\xef\xbb\xbf" + TABLE.encode()).digest == load().digest


def test_an_absent_file_is_named() -> None:
    with pytest.raises(DataError, match=r"text file 'nowhere\.csv' does not exist"):
        build("dataset", {"name": "text_file", "path": "nowhere.csv"}).load()


def test_words_do_not_change_the_digest_but_texts_do(load: Callable[..., Dataset]) -> None:
    assert load().digest == load().digest
    assert load().digest != load(TABLE.replace("fun", "fan")).digest
    assert load().digest != load(embedding="word2vec").digest


@with_sst2
def test_sst2_has_its_official_split() -> None:
    dataset = build("dataset", "sst2").load()
    assert dataset.official is not None
    assert {part: int((dataset.official == part).sum()) for part in ("train", "validation", "test")} == {
        "train": 6920,
        "validation": 872,
        "test": 1821,
    }
    # Socher et al.: 3,610 positive and 3,310 negative sentences for training, 909 and 912 for the test.
    assert np.bincount(dataset.y[dataset.official == "train"]).tolist() == [3310, 3610]
    assert np.bincount(dataset.y[dataset.official == "test"]).tolist() == [912, 909]


@with_imdb
def test_the_sample_of_imdb_is_split_as_it_says_and_called_a_sample() -> None:
    dataset = build("dataset", "imdb").load()
    assert dataset.official is not None
    assert (dataset.official == "train").sum() == 800
    assert np.bincount(dataset.y).tolist() == [524, 476]
    assert "not the official" in dataset.warnings[0]


HUB = {
    "sst2": {
        "train": [{"sentence": "so good", "label": 1}, {"sentence": "so bad", "label": 0}],
        "validation": [{"sentence": "well made", "label": 1}, {"sentence": "ill made", "label": 0}],
        "test": [{"sentence": "hidden", "label": -1}],
    },
    "imdb": {
        "train": [{"text": "so good", "label": 1}, {"text": "so bad", "label": 0}],
        "test": [{"text": "well made", "label": 1}, {"text": "ill made", "label": 0}],
    },
}


@pytest.mark.parametrize("name", ["sst2", "imdb"])
def test_without_local_files_the_hub_is_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_DATA", str(tmp_path))
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path))
    monkeypatch.setattr("datasets.load_dataset", lambda repository: HUB[repository.rpartition("/")[2]])
    dataset = build("dataset", name).load()
    assert dataset.official is not None
    assert dataset.official.tolist() == ["train", "train", "test", "test"]
    assert dataset.class_names == ("negative", "positive")
    assert dataset.y.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("name", ["sst2", "imdb"])
def test_without_files_or_network_the_error_says_what_to_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(repository: str) -> None:
        raise ConnectionError("no network")

    monkeypatch.setenv("ASSAY_DATA", str(tmp_path / "mine"))
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(DataError, match=rf"{name}/.*is not here.*mine.*load_dataset.*ASSAY_DATA"):
        build("dataset", name).load()


def test_the_class_to_detect_is_said_and_asked_about_where_it_was_guessed(tmp_path: Path) -> None:
    path = tmp_path / "notes.csv"
    path.write_text("text,label\n" + "feels very bad,ill\nfeels very good,well\n" * 4)
    data = build("dataset", {"name": "text_file", "path": str(path)}).load()
    assert "label label: ill (4), well (4); well is the one to detect" in data.reading
    assert any("'well' was taken for the one to detect" in line for line in data.warnings)
    settings = {"name": "text_file", "path": str(path), "class_names": ["well", "ill"]}
    named = build("dataset", settings).load()
    assert named.reading[-1].endswith("ill is the one to detect")
    assert not any("one to detect" in line for line in named.warnings)
