"""A table as a hospital has it: what is read of it, and one clear refusal for what can be read in two ways."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assay.data.base import Dataset
from assay.data.splits import Splitting, split
from assay.data.tables.table import TableSource
from assay.errors import DataError

N = 60
RNG = np.random.default_rng(0)
AGE = RNG.integers(20, 90, N)
DOSE = RNG.normal(5, 1, N).round(2)
Y = np.where(RNG.random(N) < 0.5, "ill", "healthy")
SEX = np.where(RNG.random(N) < 0.5, "f", "m")
PATIENT = np.arange(N) // 2
FIRST = {"age": AGE, "dose": DOSE, "outcome": Y}
Load = Callable[..., Dataset]


def csv(columns: dict[str, Any], separator: str = ",") -> str:
    rows = zip(*[[str(cell) for cell in column] for column in columns.values()], strict=True)
    return "\n".join(separator.join(row) for row in [tuple(columns), *rows]) + "\n"


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a file of this content, or of these columns: ``load(content, suffix, **settings)``."""

    def made(content: str | bytes | dict[str, Any], suffix: str = ".csv", **settings: Any) -> Dataset:
        path = tmp_path / f"ward{suffix}"
        raw = csv(content) if isinstance(content, dict) else content
        path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
        return TableSource(**{"path": str(path), "label": "outcome", **settings}).load()

    return made


def column(data: Dataset, name: str) -> np.ndarray:
    """A column as it was read, before anything is learnt."""
    return np.asarray(data.x)[:, data.feature_names.index(name)]


def refused(load: Load, content: Any, suffix: str = ".csv", **settings: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        load(content, suffix, **settings)
    return caught.value


def test_a_table_is_read_with_its_kinds_classes_and_patients(load: Load) -> None:
    data = load({**FIRST, "sex": SEX, "patient_id": PATIENT})
    assert data.feature_names == ("age", "dose", "sex")
    assert column(data, "age").tolist() == AGE.tolist()
    assert column(data, "dose").tolist() == DOSE.tolist()
    assert column(data, "sex").tolist() == (SEX == "m").tolist()
    assert data.class_names == ("healthy", "ill")
    assert data.y.tolist() == (Y == "ill").tolist()
    assert data.groups is not None and data.groups.tolist() == [str(one) for one in PATIENT]
    for fold in range(5):
        parts = split(data, Splitting(), fold=fold, repeat=0, seed=0)
        assert not set(PATIENT[parts.train]) & set(PATIENT[parts.test])


def test_it_says_what_was_read_and_what_was_left_out(load: Load) -> None:
    content = csv({**FIRST, "sex": SEX, "unit": ["mg"] * N, "empty": [""] * N}) + ",,,,,\n"
    told = load(content).reading
    assert told[0] == f"{N} records, 3 features"
    assert "1 rows without any value were left out" in told
    assert "unit was left out: it is always mg" in told
    assert "empty was left out: it has no value" in told
    assert f"age: number, {AGE.min()} to {AGE.max()}" in told
    assert "sex: category, f, m" in told
    counts = (Y == "healthy").sum(), (Y == "ill").sum()
    assert f"label outcome: healthy ({counts[0]}), ill ({counts[1]}); ill is the one to detect" in told


def test_preparation_learns_from_the_training_records_alone(load: Load) -> None:
    dose = DOSE.astype(object)
    dose[:6] = ""
    data = load({"age": AGE, "dose": dose, "sex": SEX, "outcome": Y})
    train = np.arange(3, 40)
    made = data.prepared(train, seed=0)
    assert made.feature_names == ("age", "dose", "sex=m")
    known = DOSE[6:40]
    fill = np.median(known)
    age, measured, _ = made.features
    assert (age.center, age.scale) == pytest.approx((AGE[3:40].mean(), AGE[3:40].std()))
    assert (measured.center, measured.scale) == pytest.approx((known.mean(), known.std()))
    filled = np.where(np.arange(N) < 6, fill, DOSE)
    assert np.allclose(made.x[:, 1], (filled - known.mean()) / known.std(), atol=1e-6)
    other = load({"age": np.where(np.arange(N) < 40, AGE, 3), "dose": dose, "sex": SEX, "outcome": Y})
    assert np.array_equal(other.prepared(train, seed=0).x[:40], made.x[:40])
    assert made.unpaid_preprocessing and "taken from the records" in made.owes
    assert ((made.low <= made.x) & (made.x <= made.high)).all()


STATED = {"age": {"range": (0, 120), "unit": "years"}, "dose": {"range": (0, 10), "scale": 1.5, "center": 4}}


def test_stated_ranges_leave_nothing_to_learn(load: Load) -> None:
    data = load({**FIRST, "sex": SEX}, kinds={**STATED, "sex": {"categories": ("f", "m")}})
    made = data.prepared(np.arange(10), seed=0)
    assert np.array_equal(made.x, data.prepared(np.arange(30), seed=1).x)
    assert np.allclose(made.x[:, 0], (AGE - 60) / 30)
    assert np.allclose(made.x[:, 1], (DOSE - 4) / 1.5)
    assert [(f.name, f.unit, f.scale) for f in made.features[:2]] == [("age", "years", 30.0), ("dose", "", 1.5)]
    assert (made.low[0], made.high[0]) == (-2, 2)
    assert not made.unpaid_preprocessing and made.owes == data.owes == ""
    assert data.warnings == ()


def test_categories_are_coded_and_no_attack_moves_them(load: Load) -> None:
    stage = np.array(["I", "II", "III", "?"])[np.arange(N) % 4]
    grade = np.array(["mild", "severe", "moderate"])[np.arange(N) % 3]
    columns = {"age": AGE, "stage": stage, "grade": grade, "sex": SEX, "outcome": Y}
    settings = {"kinds": {"grade": {"order": ("mild", "moderate", "severe")}}}
    made = load(columns, **settings).prepared(np.arange(N), seed=0)
    assert made.feature_names == ("age", "stage=I", "stage=II", "stage=III", "stage=missing", "grade", "sex=m")
    assert made.x[:4, 1:5].tolist() == np.eye(4).tolist()
    assert made.x[:3, 5].tolist() == [0, 1, 0.5]
    assert made.immutable is not None and made.immutable.tolist() == [False, *[True] * 6]
    moved = load(columns, **settings, movable=("sex", "grade")).prepared(np.arange(N), seed=0)
    assert moved.immutable is not None and moved.immutable.tolist() == [False, *[True] * 4, False, False]
    named = load(columns, **settings, movable=("sex",)).with_immutable(["age"]).prepared(np.arange(N), seed=0)
    assert named.immutable is not None and named.immutable.tolist() == [True, *[True] * 5, False]


def test_attacks_leave_categories_and_adversarial_training_does_too(load: Load) -> None:
    import torch

    made = load({**FIRST, "sex": SEX}).prepared(np.arange(N), seed=0)
    x = torch.from_numpy(made.x)
    low, high = made.bounds.box(x, 0.3)
    assert torch.equal(low[:, 2], x[:, 2]) and torch.equal(high[:, 2], x[:, 2])
    assert (high[:, 0] > low[:, 0]).any()


def test_all_files_of_several_hospitals_are_one_table(tmp_path: Path) -> None:
    for name, rows in (("a", slice(0, 30)), ("b", slice(30, N))):
        (tmp_path / f"{name}.csv").write_text(csv({key: own[rows] for key, own in FIRST.items()}))
    path = {name: str(tmp_path / f"{name}.csv") for name in "ab"}
    plain = TableSource(path=path, label="outcome").load()
    assert plain.feature_names == ("age", "dose") and plain.groups is None
    assert "site: a (30), b (30)" in plain.reading
    whole = TableSource(path=path, label="outcome", group="site").load()
    assert whole.groups is not None and whole.groups.tolist() == ["a"] * 30 + ["b"] * 30
    feature = TableSource(path=path, label="outcome", features=("site",)).load()
    assert feature.feature_names == ("age", "dose", "site")
    assert len({one.digest for one in (plain, whole, feature)}) == 3


def test_a_column_of_hospitals_is_no_feature_unless_it_is_said(load: Load) -> None:
    columns = {**FIRST, "clinic": np.where(np.arange(N) < 20, "x", "z")}
    assert "clinic" not in load(columns, site="clinic").feature_names
    assert "clinic" in load(columns).feature_names
    assert load(columns, site="clinic", group="clinic").groups is not None
    assert load(columns).site is None
    for settings in ({"site": "clinic"}, {"group": "clinic"}):
        sited = load(columns, **settings)
        assert sited.site is not None and sited.site.tolist() == columns["clinic"].tolist(), settings
    gaps = load({**columns, "clinic": np.where(np.arange(N) < 20, "x", "?")}, site="clinic")
    assert gaps.site is not None and gaps.site.tolist() == ["x"] * 20 + [""] * 40


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"drop": ("dose",)}, "identity"),
        ({"missing": (int(AGE[0]),)}, "identity"),
        ({"positive": "healthy"}, "identity"),
        ({"group": "dose"}, "identity"),
        ({"kinds": {"age": {"range": (0, 120)}}}, "digest"),
        ({"kinds": {"age": {"scale": 7}}}, "digest"),
        ({"kinds": {"age": {"fill": 50}}}, "digest"),
        ({"movable": ("sex",)}, "digest"),
        ({"epsilons": (0.0, 0.3)}, "digest"),
    ],
)
def test_settings_that_change_records_change_what_names_them(load: Load, settings: dict[str, Any], what: str) -> None:
    columns = {**FIRST, "sex": SEX}
    plain, other = load(columns), load(columns, **settings)
    assert plain.digest != other.digest
    assert (plain.identity != other.identity) is (what == "identity")
    assert load(columns).digest == plain.digest


# Odd files: every one is read as it is meant, or refused by name.

GERMAN = csv({"age": AGE, "dose": [str(d).replace(".", ",") for d in DOSE], "outcome": Y}, ";")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(GERMAN, id="semicolons and decimal commas"),
        pytest.param("sep=;\n" + GERMAN, id="a spreadsheet's first line"),
        pytest.param("\ufeff" + csv(FIRST), id="byte-order mark"),
        pytest.param(csv(FIRST).encode("utf-16"), id="UTF-16"),
        pytest.param(csv(FIRST).replace("\n", "\r\n"), id="carriage returns"),
        pytest.param(csv(FIRST, "\t"), id="tabs"),
        pytest.param(csv(FIRST, " ; "), id="blanks around cells"),
        pytest.param(csv(FIRST).replace("\n", ",\n"), id="trailing commas"),
        pytest.param(csv({**FIRST, "age": [f'"{a}"' for a in AGE]}), id="numbers in quotes"),
        pytest.param(csv({**FIRST, "age": [f"{a}.0" for a in AGE]}), id="integers as floats"),
        pytest.param(csv({**FIRST, "outcome": [f"{y} " if i % 3 else f" {y}" for i, y in enumerate(Y)]}), id="blanks"),
        pytest.param(csv({**FIRST, "note": [f'"a\nb {i % 3}"' for i in range(N)]}), id="quoted newlines"),
    ],
)
def test_ways_of_writing_the_same_table_are_the_same(load: Load, content: Any) -> None:
    data = load(content, drop=("note",) if "note" in str(content) else ())
    assert (data.feature_names, data.class_names) == (("age", "dose"), ("healthy", "ill"))
    assert column(data, "age").tolist() == AGE.tolist()
    assert column(data, "dose").tolist() == DOSE.tolist()
    assert data.y.tolist() == (Y == "ill").tolist()


def with_cell(name: str, *cells: str) -> str:
    """The first table in which the first cells of a column are others."""
    return csv({**FIRST, name: [*cells, *FIRST[name].astype(str)[len(cells) :]]})


@pytest.mark.parametrize(
    ("content", "settings", "setting", "given"),
    [
        pytest.param(csv(FIRST).replace("dose", "age", 1), {}, "columns", "age", id="duplicate heading"),
        pytest.param(csv(FIRST).replace("dose", "Age ", 1), {}, "columns", "Age", id="headings alike"),
        pytest.param(csv(FIRST).replace("\n", ",\n", 2), {}, "columns", 3, id="a trailing comma too few"),
        pytest.param(csv(FIRST).partition("\n")[2], {"label": "ill"}, "columns", None, id="no heading, words"),
        pytest.param(csv({"a": AGE, "b": DOSE}).partition("\n")[2], {}, "columns", None, id="no heading"),
        pytest.param(csv(FIRST), {"columns": ("age", "dose", "outcome")}, "columns", None, id="a heading too many"),
        pytest.param(csv(FIRST), {"label": "Outcome"}, "label", "Outcome", id="no such label"),
        pytest.param(csv(FIRST), {"kinds": {"ages": "number"}}, "kinds", "ages", id="no such column"),
        pytest.param(with_cell("outcome", "", "?"), {}, "on_missing_label", 2, id="label missing"),
        pytest.param(with_cell("outcome", "Ill"), {}, "classes", "ill", id="labels that differ in case"),
        pytest.param(csv({**FIRST, "outcome": DOSE}), {}, "label", None, id="no classes"),
        pytest.param(
            with_cell("outcome", "dead"), {"classes": {"a": "ill", "b": "healthy"}},
            "classes", "dead", id="class",
        ),
        pytest.param(with_cell("age", "12 %"), {}, "kinds", "12 %", id="percent"),
        pytest.param(with_cell("age", "<5"), {}, "kinds", "<5", id="limit"),
        pytest.param(with_cell("age", "63 years"), {}, "kinds", "63 years", id="unit"),
        pytest.param(with_cell("age", "unknown"), {}, "kinds", "unknown", id="a word among numbers"),
        pytest.param(with_cell("age", "None"), {}, "kinds", "None", id="None"),
        pytest.param(with_cell("age", "1.234.567"), {}, "kinds", "1.234.567", id="thousands"),
        pytest.param(with_cell("age", '"1,234"'), {}, "decimal", "1,234", id="thousands or decimals"),
        pytest.param(with_cell("dose", '"1,5"'), {}, "decimal", "1,5", id="comma and point"),
        pytest.param(GERMAN.replace(",", "."), {"decimal": ","}, "kinds", None, id="point though a comma was said"),
        pytest.param(with_cell("age", "1e400"), {}, "kinds", "1e400", id="too large"),
        pytest.param(with_cell("age", "1E50"), {}, "kinds", "1E50", id="beyond 32 bits, as a code of ICD-11"),
        pytest.param(with_cell("age", "inf"), {}, "kinds", "inf", id="infinity"),
        pytest.param(csv({**FIRST, "at": ["2020-01-02"] * N}), {}, "kinds", "2020-01-02", id="dates"),
        pytest.param(csv({**FIRST, "at": ["02.01.2020"] * N}), {}, "kinds", "02.01.2020", id="German dates"),
        pytest.param(with_cell("age", "-9", "-9"), {}, "missing", -9, id="-9"),
        pytest.param(with_cell("age", "999"), {}, "missing", 999, id="999"),
        pytest.param(csv({**FIRST, "note": [f"word {i}" for i in range(N)]}), {}, "kinds", N, id="free text"),
        pytest.param(csv({**FIRST, "case": range(N)}), {}, "features", "case", id="numbers of rows"),
        pytest.param(csv({"": range(N), **FIRST}), {}, "features", "column 1", id="an index without a name"),
        pytest.param(csv({**FIRST, "id": AGE}), {}, "features", "id", id="a number of records by name"),
        pytest.param(csv({**FIRST, "sex": ["M", "m"] * (N // 2)}), {}, "kinds", "m", id="categories alike"),
        pytest.param(csv({**FIRST, "patient": ["", *PATIENT[1:]]}), {}, "patient", 1, id="patient missing"),
        pytest.param(
            csv({**FIRST, "patient": [f"p{i // 2}" if i else "P0" for i in range(N)]}), {},
            "patient", "p0", id="patients alike",
        ),
        pytest.param(csv({**FIRST, "patient": PATIENT, "mrn": PATIENT}), {}, "group", ["patient", "mrn"], id="two"),
        pytest.param(csv(FIRST), {"kinds": {"age": {"range": (0, 50)}}}, "kinds", None, id="out of range"),
        pytest.param(
            csv({**FIRST, "sex": SEX}), {"kinds": {"sex": {"categories": ("f",)}}},
            "kinds", "m", id="category",
        ),
        pytest.param(
            csv({**FIRST, "sex": ["?", *SEX[1:]]}), {"kinds": {"sex": {"categories": ("f", "m")}}},
            "kinds", 1, id="gap",
        ),
        pytest.param(with_cell("age", '"50'), {}, "path", None, id="a quote that does not close"),
        pytest.param(
            csv({**FIRST, "note": ['"a', *[""] * 9, 'b"', *[""] * (N - 11)]}), {"drop": ("note",)},
            "path", None, id="a quote that swallows rows",
        ),
        pytest.param(
            csv(FIRST).encode("utf-8").replace(b"ill", b"ill\xe4", 1), {},
            "encoding", "utf-8-sig", id="encoding",
        ),
        pytest.param(csv(FIRST), {"encoding": "utf-7x"}, "encoding", "utf-7x", id="no such encoding"),
        pytest.param("", {}, "path", 0, id="empty"),
        pytest.param("age,outcome\n", {}, "path", 0, id="a heading alone"),
    ],
)  # fmt: skip
def test_what_can_be_read_in_two_ways_is_refused_by_name(
    load: Load, content: Any, settings: dict[str, Any], setting: str, given: Any
) -> None:
    error = refused(load, content, **settings)
    assert error.setting == setting
    if given is not None:
        assert error.given == given


def test_every_refusal_of_a_cell_names_its_column_and_line(load: Load) -> None:
    message = str(refused(load, with_cell("age", "50", "12 %")))
    assert "column 'age'" in message and "line 3" in message


@pytest.mark.parametrize("suffix", [".xlsx", ".xls", ".sav"])
def test_other_kinds_of_files_are_refused_with_what_to_do(load: Load, suffix: str) -> None:
    error = refused(load, b"PK", suffix)
    assert (error.setting, error.given) == ("path", suffix)
    assert "CSV" in str(error)


def test_two_separators_that_fit_must_be_told(load: Load) -> None:
    content = "1,5;2,0;0\n2,5;1,0;1\n1,5;1,0;1\n2,5;1,0;0\n" * 10
    error = refused(load, content, columns=("a", "b", "outcome"))
    assert error.setting == "separator"
    data = load(content, columns=("a", "b", "outcome"), separator=";")
    assert column(data, "a")[:2].tolist() == [0, 1]  # two values: a category


def test_a_setting_resolves_what_was_refused(load: Load) -> None:
    assert column(load(with_cell("age", '"1,234"'), kinds={"age": {"decimal": ","}}), "age")[0] == 1.234
    assert np.isnan(column(load(with_cell("age", "-9"), missing=(-9,)), "age")[0])
    assert np.isnan(column(load(with_cell("age", "-9.0"), kinds={"age": {"missing": ("-9",)}}), "age")[0])
    assert column(load(with_cell("age", "-9"), kinds={"age": {"missing": ()}}), "age")[0] == -9
    dropped = load(with_cell("outcome", "", "?"), on_missing_label="drop")
    assert len(dropped) == N - 2
    assert any("2 records without a label were left out, the first at line 2" in line for line in dropped.reading)
    kept = load({**FIRST, "case": range(N)}, features=("case",))
    assert "case" in kept.feature_names
    text = csv(FIRST).replace("ill", "ill\xe4").encode("cp1252")
    assert load(text, encoding="cp1252").class_names == ("healthy", "illä")


def test_zeros_that_stand_apart_are_warned_of(load: Load) -> None:
    pressure = np.where(np.arange(N) % 6 == 0, 0, RNG.integers(90, 180, N))
    data = load({**FIRST, "pressure": pressure})
    assert any("pressure is 0 in 10 records" in warning for warning in data.warnings)
    named = load({**FIRST, "pressure": pressure}, kinds={"pressure": {"missing": (0,)}})
    assert np.isnan(column(named, "pressure")).sum() == 10
    assert not any("pressure is 0" in warning for warning in named.warnings)
    assert not any("is 0" in warning for warning in load({**FIRST, "visits": np.arange(N) % 14}).warnings)


def test_yes_and_no_and_numbers_as_text_are_what_they_mean(load: Load) -> None:
    smoker = np.where(np.arange(N) % 3, "yes", "no")
    data = load({**FIRST, "smoker": smoker, "flag": [f'"{i % 2}"' for i in range(N)]})
    assert column(data, "smoker").tolist() == (smoker == "yes").tolist()
    assert column(data, "flag").tolist() == [i % 2 for i in range(N)]


def test_classes_are_made_of_values_and_one_is_to_be_detected(load: Load) -> None:
    grade = np.arange(N) % 5
    made = load({**FIRST, "outcome": grade}, classes={"well": (0, "1"), "ill": (2, 3.0, 4)})
    assert made.class_names == ("well", "ill")
    assert made.y.tolist() == (grade >= 2).tolist()
    assert made.warnings == load(FIRST).warnings
    turned = load(FIRST, positive="healthy")
    assert (turned.class_names, turned.y.tolist()) == (("ill", "healthy"), (Y == "healthy").tolist())
    guessed = load({**FIRST, "outcome": np.where(Y == "ill", "sick", "well")})
    assert any("'well' was taken for the one to detect" in warning for warning in guessed.warnings)


def test_patients_with_blanks_or_as_floats_are_the_same_patient(load: Load) -> None:
    names = [f"p{i // 2} " if i % 2 else f"p{i // 2}" for i in range(N)]
    data = load({**FIRST, "patient": names})
    assert data.groups is not None and len(set(data.groups.tolist())) == N // 2
    floats = load({**FIRST, "patient": [f"{i // 2 + 1}" if i % 2 else f"{i // 2 + 1}.0" for i in range(N)]})
    assert floats.groups is not None and len(set(floats.groups.tolist())) == N // 2


def test_parquet_is_read_with_the_types_it_has(tmp_path: Path) -> None:
    frame = pd.DataFrame({**FIRST, "sex": SEX, "smoker": np.arange(N) % 3 == 0, "mrn": PATIENT + 2**60})
    frame.loc[:4, "dose"] = None
    frame.to_parquet(tmp_path / "ward.parquet")
    data = TableSource(path=str(tmp_path / "ward.parquet"), label="outcome").load()
    assert data.feature_names == ("age", "dose", "sex", "smoker")
    assert np.isnan(column(data, "dose")).tolist() == [i < 5 for i in range(N)]
    assert data.groups is not None and data.groups.tolist() == [str(one + 2**60) for one in PATIENT]


def test_an_official_split_is_kept(load: Load) -> None:
    parts = np.array(["train"] * 40 + ["validation"] * 5 + ["test"] * 15)
    data = load({**FIRST, "part": parts}, split="part")
    assert data.official is not None and data.official.tolist() == parts.tolist()
    assert data.feature_names == ("age", "dose")


def test_a_column_without_a_value_in_training_is_refused_there(load: Load) -> None:
    late = np.where(np.arange(N) < 40, "", DOSE.astype(str))
    data = load({**FIRST, "late": late})
    with pytest.raises(DataError) as caught:
        data.prepared(np.arange(40), seed=0)
    assert (caught.value.setting, caught.value.given) == ("kinds", "late")
    stated = load({**FIRST, "late": late}, kinds={"late": {"range": (0, 10)}}).prepared(np.arange(40), seed=0)
    assert (stated.x[:40, 2] == 0).all()


def test_a_table_of_nothing_but_categories_says_that_no_attack_can_move_it(load: Load) -> None:
    data = load({"sex": SEX, "smoker": np.where(np.arange(N) % 3, "yes", "no"), "outcome": Y})
    assert any("no attack may move" in warning for warning in data.warnings)


LEVEL = [("4.021", "11.983", "983")[number % 3] for number in range(N)]


@pytest.mark.parametrize(
    ("other", "separator"),
    [
        pytest.param([f"{dose:.2f}".replace(".", ",") for dose in DOSE], ";", id="decimal commas"),
        pytest.param([f"{dose:.2f}".replace(".", ",") for dose in DOSE], "\t", id="decimal commas, tabs"),
        pytest.param(AGE, ";", id="semicolons"),
    ],
)
def test_points_that_may_separate_thousands_are_asked(load: Load, other: Any, separator: str) -> None:
    content = csv({"other": other, "level": LEVEL, "outcome": Y}, separator)
    error = refused(load, content)
    assert (error.setting, error.given) == ("decimal", "4.021")
    assert column(load(content, kinds={"level": {"decimal": "."}}), "level")[0] == 4.021


def test_points_before_three_decimals_are_read_where_points_stand_before_decimals(load: Load) -> None:
    for separator in ";,":
        data = load(csv({"dose": [f"{dose:.2f}" for dose in DOSE], "level": LEVEL, "outcome": Y}, separator))
        assert column(data, "level")[:3].tolist() == [4.021, 11.983, 983]
    assert column(load({"age": AGE, "level": LEVEL, "outcome": Y}), "level")[0] == 4.021


PARTS_WRITTEN = np.array(["train", "Val", "test"])[np.arange(N) % 3]


def test_a_column_named_split_is_an_official_split_or_asked(load: Load) -> None:
    for name in ("split", "Split"):
        data = load({**FIRST, name: PARTS_WRITTEN})
        assert data.feature_names == ("age", "dose") and data.official is not None
        assert data.official[:3].tolist() == ["train", "validation", "test"]
    for settings in ({"drop": ("split",)}, {"features": ("split",)}):
        assert load({**FIRST, "split": PARTS_WRITTEN}, **settings).official is None
    error = refused(load, {**FIRST, "split": np.arange(N) % 5})
    assert (error.setting, error.given) == ("split", "0")


def test_codes_of_missing_values_hold_for_patients(load: Load) -> None:
    mrn = np.where(np.arange(N) < 3, -7, PATIENT + 100)
    for settings in ({"missing": (-7,)}, {"kinds": {"mrn": {"missing": (-7,)}}}):
        error = refused(load, {**FIRST, "mrn": mrn}, **settings)
        assert (error.setting, error.given) == ("mrn", 3)


@pytest.mark.parametrize(
    ("stage", "given"),
    [
        pytest.param(["I", "missing", "II", ""], "missing", id="missing, and gaps"),
        pytest.param(["I", "Missing ", "II", ""], "Missing", id="in another case"),
        pytest.param(["stage 1", "stage_1", "II", "III"], "stage_1", id="blanks"),
    ],
)
def test_categories_that_would_be_features_of_one_name_are_refused(load: Load, stage: list[str], given: str) -> None:
    error = refused(load, {**FIRST, "stage": stage * (N // 4)})
    assert (error.setting, error.given) == ("kinds", given)
