"""Rows of a table of texts: none is swallowed, split, merged or dropped without a word."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.data.base import Dataset
from assay.data.text.tables import Columns, read_table
from assay.errors import DataError
from assay.registry import build
from tests.mistakes import refused


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Dataset]:
    """``load(content, **settings)``: a text file with that content as a data set."""

    def read(content: str | bytes, *, name: str = "notes.csv", **settings: Any) -> Dataset:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return build("dataset", {"name": "text_file", "path": str(path), **settings}).load()

    return read


@pytest.fixture
def refusal(load: Callable[..., Dataset]) -> Callable[..., DataError]:
    def read(*given: Any, **settings: Any) -> DataError:
        with pytest.raises(DataError) as caught:
            load(*given, **settings)
        return caught.value

    return read


def test_a_stray_quote_in_a_tab_separated_text_is_a_character(load: Callable[..., Dataset]) -> None:
    rows = [f'"so it begins {n}\tpos' if n % 3 == 0 else f'no "end {n}"\tneg' for n in range(1000)]
    dataset = load("text\tlabel\n" + "\n".join(rows) + "\n", name="notes.tsv")
    assert len(dataset) == 1000
    assert dataset.y.sum() == 334
    assert dataset.reading[0] == "1,000 rows in lines 2 to 1001 of notes.tsv, 1,000 used"


def test_a_tab_separated_text_of_two_lines_is_an_error_that_names_the_line(refusal: Callable[..., DataError]) -> None:
    error = refusal('text\tlabel\nfine\tpos\n"he said\nmore"\tpos\nno\tneg\n', name="notes.tsv")
    assert (error.setting, error.given, error.allowed) == ("columns", 1, 2)
    assert "line 3:" in str(error)


def test_quotes_in_a_tab_separated_file_are_read_where_they_are_said_to_enclose(load: Callable[..., Dataset]) -> None:
    content = 'text\tlabel\n"he said ""hi"" twice"\tpos\nno\tneg\n'
    plain, quoted = load(content, name="notes.tsv"), load(content, name="notes.tsv", quoted=True)
    assert [(plain.written[0] > 0).sum(), (quoted.written[0] > 0).sum()] == [10, 6]  # type: ignore[index]
    assert (len(plain.warnings), quoted.warnings) == (1, ())
    assert '"' not in load('"text"\t"label"\n"well"\t"pos"\n"no"\t"neg"\n', name="notes.tsv").words


@pytest.mark.parametrize(
    ("content", "line"),
    [
        pytest.param('text,label\n"a start,pos\ngood,neg\nfine end",pos\nok,neg\nwell,pos\n', 2, id="rows between"),
        pytest.param('text,label\nok,pos\n"a start,pos\nfine end",pos\nno,neg\n', 3, id="two rows in one"),
        pytest.param('label,text\npos,"a start\nneg,fine end"\nneg,ok then\npos,well\n', 2, id="label first"),
        pytest.param('text,label\nok,neg\n"never closed,pos\nwell,pos\n', 3, id="to the end of the file"),
        pytest.param('text,label\n"two "marks,pos\nok,neg\n', 2, id="a mark within"),
    ],
)
def test_an_open_quotation_mark_swallows_nothing(refusal: Callable[..., DataError], content: str, line: int) -> None:
    error = refusal(content)
    assert error.setting == "quoted"
    assert f"line {line}" in str(error) or f"lines {line} to" in str(error)


def test_a_quoted_text_may_have_several_lines_and_they_are_counted(load: Callable[..., Dataset]) -> None:
    dataset = load('text,label\n"On arrival, the patient\nwas fine, and had pain, pos",pos\nok,neg\n"a\nb\n\nc",neg\n')
    assert dataset.y.tolist() == [1, 0, 0]
    assert "2 rows hold texts of several lines, the longest of 4" in dataset.reading


def test_spaces_around_a_label_make_no_other_class(load: Callable[..., Dataset]) -> None:
    dataset = load("text,label\na b,pos\nc d, pos\ne f,pos \ng h,pos\u00a0\ni j,neg\nk l,\u200bneg\n")
    assert dataset.class_names == ("neg", "pos")
    assert dataset.y.tolist() == [1, 1, 1, 1, 0, 0]
    assert "4 labels were freed of spaces around them" in dataset.reading


@pytest.mark.parametrize("spellings", [("Pos", "pos"), ("1", "1.0"), ('"pos"', "pos"), ("01", "1"), ("\ufb01t", "fit")])
def test_spellings_of_one_class_are_refused_unless_they_are_named(
    load: Callable[..., Dataset], refusal: Callable[..., DataError], spellings: tuple[str, str]
) -> None:
    content = f"text\tlabel\na\t{spellings[0]}\nb\t{spellings[1]}\nc\tneg\n"
    error = refusal(content, name="notes.tsv")
    assert (error.setting, error.given) == ("class_names", sorted(spellings))
    assert load(content, name="notes.tsv", class_names=[*spellings, "neg"]).y.tolist() == [0, 1, 2]


LACKING = "text,label\na b,pos\nc d,\ne f,NaN\ng h,neg\n,pos\n<br />,neg\nnan,pos\ni j,None\n"


def test_missing_labels_and_texts_are_refused_with_their_lines(refusal: Callable[..., DataError]) -> None:
    error = refusal(LACKING)
    assert (error.setting, error.given, error.allowed) == ("on_missing", [3, 4, 6, 7, 8, 9], ["fail", "skip"])


def test_rows_left_out_are_counted_named_and_stand_beside_the_accuracy(load: Callable[..., Dataset]) -> None:
    dataset = load(LACKING, on_missing="skip")
    assert dataset.y.tolist() == [1, 0]
    assert dataset.reading[0] == "8 rows in lines 2 to 9 of notes.csv, 2 used"
    assert dataset.warnings == (
        "left out: 3 of 8 rows have no label: line 3, line 4, line 9",
        "left out: 3 of 8 rows have no text: line 6, line 7, line 8",
    )


def test_what_reads_as_missing_is_a_class_where_it_is_named(load: Callable[..., Dataset]) -> None:
    assert load("text,label\na,none\nb,some\n", class_names=["none", "some"]).y.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("content", "settings", "setting"),
    [
        pytest.param("text,label,label\na,1,0\nb,0,1\n", {}, "label", id="two columns of one name"),
        pytest.param("text,label\nb,1\nc,0\n".encode("utf-16-le"), {}, "encoding", id="UTF-16"),
        pytest.param("text,label\n" + "".join(f"w,{n / 7:.3f}\n" for n in range(60)), {}, "label", id="a measurement"),
        pytest.param("text,label\na,b,1\nc,0\n", {}, "columns", id="comma in a text"),
        pytest.param("text,label,who\na,1,p\nb,0,nan\n", {"group": "who"}, "who", id="no patient"),
        pytest.param("review,label\na,1\nb,0\n", {}, "text", id="no such column"),
    ],
)
def test_what_cannot_be_meant_names_the_setting(
    refusal: Callable[..., DataError], content: str | bytes, settings: dict[str, Any], setting: str
) -> None:
    assert refusal(content, **settings).setting == setting


def test_the_heading_shows_the_separator(load: Callable[..., Dataset]) -> None:
    assert load(" text ;label\na, b;pos\nc;neg\n").class_names == ("neg", "pos")
    assert len(load("text\tlabel\na, b\tpos\nc\tneg\n")) == 2


def test_patients_are_told_apart_by_what_can_be_seen(load: Callable[..., Dataset]) -> None:
    dataset = load("text,label,who\na,1,p1\nb,0, p1\nc,1,p2\n", group="who")
    assert dataset.groups is not None
    assert dataset.groups.tolist() == ["p1", "p1", "p2"]


ROWS = (
    "fine,pos,train,Müller",
    "bad,neg,train,A  B",
    "good,pos,Val,A B",
    "poor,neg,val,Mu\u0308ller",
    "well,pos,test,C",
)


def test_a_column_named_split_is_an_official_split_or_asked(
    load: Callable[..., Dataset], refusal: Callable[..., DataError]
) -> None:
    content = "\n".join(["text,label,Split,author", *ROWS])
    data = load(content)
    assert data.official is not None
    assert data.official.tolist() == ["train", "train", "validation", "validation", "test"]
    assert load(content, drop=["Split"]).official is None
    error = refusal(content.replace("val,", "later,"))
    assert (error.setting, error.given) == ("Split", "later")


def test_one_patient_written_in_several_ways_is_one_or_refused(
    load: Callable[..., Dataset], refusal: Callable[..., DataError]
) -> None:
    content = "\n".join(["text,label,part,patient", *ROWS])
    groups = load(content).groups
    assert groups is not None and [groups[0] == groups[3], groups[1] == groups[2]] == [True, True]
    for name, other in (("P001", "P1"), ("unknown", "P1"), ("N/A", "P1")):
        changed = content.replace("A  B", name).replace("train,Müller", f"train,{other}")
        assert refusal(changed).setting == "patient"
    assert refusal(content.replace("patient", "person")).setting == "group"


def test_a_heading_that_stands_twice_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\nfever,ill\ntext,label\nnone of it,ok\n")
    with refused(DataError, "path", "line 3"):
        read_table(tmp_path / "a.csv", Columns(text="text", label="label"))


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp1251"])
def test_utf8_is_not_read_in_another_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_text("text,label\nÜbelkeit,ill\ngesund,ok\n", encoding="utf-8")
    with refused(DataError, "encoding", encoding, "utf-8"):
        read_table(tmp_path / "a.csv", Columns(text="text", label="label"), encoding=encoding)
    (tmp_path / "a.csv").write_text("text,label\nпривет,ill\ncafe,ok\n", encoding="cp1251")
    assert len(read_table(tmp_path / "a.csv", Columns(text="text", label="label"), encoding="cp1251").documents) == 2
