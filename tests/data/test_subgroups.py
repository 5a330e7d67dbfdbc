"""Age, sex, site and device tell subgroups apart wherever the data name them, features or not."""

from pathlib import Path

import numpy as np
import pytest

from assay.data.arrays import Arrays
from assay.data.signals.wfdb_records import person
from assay.data.splits import sampled
from assay.data.subgroups import age_of_dicom, by_age, subgroups_of, usual_name
from assay.data.tables.table import TableSource
from assay.errors import DataError


@pytest.mark.parametrize(
    "name", ["sex", "Sex", "gender", "PatientSex", "age", "Age (years)", "age_years", "ethnicity", "scanner", "site",
             "hospital_name", "Manufacturer"],
)  # fmt: skip
def test_usual_names_are_known(name: str) -> None:
    assert usual_name(name)


@pytest.mark.parametrize("name", ["image", "stage", "weight", "dosage", "language", "essex", "triage", "modelling"])
def test_other_names_are_not(name: str) -> None:
    assert not usual_name(name)


def test_ages_are_put_into_bands() -> None:
    years = np.array([0, 17.9, 18, 39, 40, 64, 65, 79.5, 80, 104, np.nan])
    assert by_age(years).tolist() == [
        "0–17", "0–17", "18–39", "18–39", "40–64", "40–64", "65–79", "65–79", "80+", "80+", "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "years"), [("063Y", 63), ("006M", 0.5), ("010D", 0.03), ("", None), ("63", None), ("63Y", None)]
)
def test_ages_of_dicom_are_years(written: str, years: float | None) -> None:
    found = age_of_dicom(written)
    assert found == "" if years is None else float(found) == pytest.approx(years, abs=0.005)


def test_what_nobody_knows_is_no_subgroup() -> None:
    found = subgroups_of({"sex": ["F", "", "M", "unknown", "NA"]}, asked=None, where="here")
    assert found["sex"].tolist() == ["F", "", "M", "", ""]


@pytest.mark.parametrize(
    "cells",
    [["0.3", "-1.2", "0.1"], ["63", "200", "5"], ["1", "1", "1"]],
    ids=["standardised", "beyond a life", "all the same"],
)
def test_ages_that_are_no_years_are_left_alone(cells: list[str]) -> None:
    assert subgroups_of({"age": cells}, asked=None, where="here") == {}


@pytest.mark.parametrize(
    ("name", "cells", "groups"),
    [
        ("age", ["[40-50)", "[50-60)", ""], ["[40-50)", "[50-60)", ""]),
        ("age", ["90+", ">89", "17", "65"], ["80+", "80+", "0–17", "65–79"]),
        ("age", ["30", "50"] * 10 + ["300", "-1"], ["18–39", "40–64"] * 10 + ["", ""]),
        ("sex", ["M", "m", "Male", "female", "F"], ["M", "M", "M", "F", "F"]),
        ("hospital", [f"h{k}" for k in range(40)], [f"h{k}" for k in range(40)]),
    ],
)
def test_usual_spellings_are_read(name: str, cells: list[str], groups: list[str]) -> None:
    assert subgroups_of({name: cells}, asked=None, where="here")[name].tolist() == groups


def test_numbers_that_are_asked_for_are_cut_into_thirds() -> None:
    found = subgroups_of({"bmi": [str(20 + k) for k in range(30)]}, asked=["bmi"], where="here")["bmi"]
    assert [len(group) for group in np.split(found, 3)] == [10, 10, 10]
    names, counts = np.unique(found, return_counts=True)
    assert len(names) == 3 and counts.min() >= 9


def test_words_that_are_no_subgroups_are_refused_where_they_are_asked_for() -> None:
    cells = [f"word {k}" for k in range(60)]
    assert subgroups_of({"site": cells}, asked=None, where="here") == {}
    with pytest.raises(DataError, match="column 'site' has 60 different values"):
        subgroups_of({"site": cells}, asked=["site"], where="here")
    with pytest.raises(DataError, match=r"'sexx'.*sex"):
        subgroups_of({"sex": ["F", "M"]}, asked=["sexx"], where="here")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    file = tmp_path / "clinic.csv"
    rows = [f"p{k},{20 + k * 7 % 53},{'FM'[k // 2 % 2]},{k * 1.7:.1f},{k % 3},{k % 2}" for k in range(60)]
    file.write_text("\n".join(["patient_id,age,sex,pressure,scanner,ill", *rows]))
    return file


def test_a_table_tells_subgroups_by_columns_that_are_features_or_dropped(table: Path) -> None:
    data = TableSource(path=str(table), label="ill", drop=("sex",)).load()
    assert set(data.subgroups) == {"age", "sex", "scanner"}
    assert "sex" not in data.feature_names
    assert data.subgroups["sex"].tolist() == ["F", "F", "M", "M"] * 15
    assert data.subgroups["age"][-1] == "40–64"
    assert TableSource(path=str(table), label="ill", subgroups=()).load().subgroups == {}
    assert set(TableSource(path=str(table), label="ill", subgroups=("pressure",)).load().subgroups) == {"pressure"}


def test_subgroups_follow_the_records_of_a_sample(table: Path) -> None:
    data = TableSource(path=str(table), label="ill").load()
    part = sampled(data, 20, seed=0)
    assert len(part) == 20
    places = part.origin.places
    assert part.subgroups["sex"].tolist() == data.subgroups["sex"][places].tolist()


def test_other_subgroups_are_another_question_to_the_same_model(table: Path) -> None:
    first, second = (TableSource(path=str(table), label="ill", subgroups=one).load() for one in ((), ("sex",)))
    assert first.evaluation_digest != second.evaluation_digest
    assert (first.digest, first.training_digest, first.identity) == (
        second.digest,
        second.training_digest,
        second.identity,
    )


def test_features_of_arrays_tell_subgroups(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    x = np.column_stack([draw.integers(20, 90, 50), draw.integers(0, 2, 50), draw.normal(size=50)])
    np.savez(tmp_path / "made.npz", x=x, y=np.arange(50) % 2, feature_names=np.array(["age", "sex", "bmi"]))
    data = Arrays(path=str(tmp_path / "made.npz"), features=("age", "sex", "bmi")).load()
    assert set(data.subgroups) == {"age", "sex"}
    assert set(data.subgroups["sex"].tolist()) == {"0", "1"}


@pytest.mark.parametrize(
    ("comments", "age", "sex"),
    [
        (["69 M 1085 1629 x1", "Aldomet, Inderal"], "69", "M"),
        ([" Age: 54  Sex: female"], "54", "F"),
        (["<age>: 81 <sex>: M"], "81", "M"),
        (["-1 ?"], "", ""),
        ([], "", ""),
    ],
)
def test_comments_of_a_header_tell_age_and_sex(tmp_path: Path, comments: list[str], age: str, sex: str) -> None:
    lines = ["r 1 360 10", "r.dat 16 200 16 0 0 0 0 MLII", *(f"# {one}" for one in comments)]
    (tmp_path / "r.hea").write_text("\n".join(lines) + "\n")
    assert person(tmp_path / "r.hea") == {"age": age, "sex": sex}
