"""Patients are told apart by columns of any usual name, and what looks like a name of records is never a feature."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assay.data.arrays import Arrays
from assay.data.base import Dataset
from assay.data.identifiers import as_groups, names_nobody, names_patients, names_records
from assay.data.splits import Splitting, split
from assay.data.suspicion import suspicion
from assay.data.tables.table import TableSource
from assay.data.text.sources import TextFile
from assay.errors import DataError
from tests.mistakes import refused

N = 200
RNG = np.random.default_rng(0)
PATIENT = np.repeat(np.arange(40), 5)
Y = RNG.permutation(np.arange(40) % 2)[PATIENT]
AGE, RATE = RNG.integers(20, 90, N), RNG.normal(70, 10, N)


@pytest.fixture
def arrays(tmp_path: Path) -> Callable[..., Dataset]:
    """Loads columns, written as Parquet, or as an archive of named features: ``arrays(columns, kind, **settings)``."""

    def load(columns: dict[str, Any], kind: str = "parquet", **settings: Any) -> Dataset:
        path = tmp_path / f"data.{kind}"
        if kind == "parquet":
            pd.DataFrame(columns).to_parquet(path)
        else:
            x = np.stack([np.asarray(column) for name, column in columns.items() if name != "y"], 1)
            np.savez(path, x=x, y=columns["y"], feature_names=[name for name in columns if name != "y"])
        return Arrays(path=str(path), **settings).load()

    return load


USUAL = ("group", "groups", "patient", "patient_id", "Patient ID", "PatientID", "subject", "SUBJECT-ID", "mrn", " MRN ")


@pytest.mark.parametrize("name", [*USUAL, "id_patient", "participant no", "Medical Record Number", "pseudonym"])
def test_usual_names_of_patients_are_known_in_any_spelling(name: str) -> None:
    assert names_patients(name)


@pytest.mark.parametrize(
    "name", ["patient_age", "grouped", "subjective pain", "age group", "id", "mrna", "pid controller"]
)
def test_other_names_are_none_of_patients(name: str) -> None:
    assert not names_patients(name)


@pytest.mark.parametrize(
    ("name", "is_one"), [("ID", True), ("Unnamed: 0", True), ("visit_id", True), ("visits", False)]
)
def test_usual_names_of_records_are_known(name: str, is_one: bool) -> None:
    assert names_records(name) is is_one


@pytest.mark.parametrize("kind", ["parquet", "npz"])
@pytest.mark.parametrize("name", USUAL)
def test_patients_are_taken_by_any_usual_name_and_never_as_a_feature(
    arrays: Callable[..., Dataset], name: str, kind: str
) -> None:
    data = arrays({"age": AGE, name: PATIENT, "y": Y}, kind)
    assert data.feature_names == ("age",)
    assert data.groups is not None
    assert data.groups.tolist() == PATIENT.tolist()
    for fold in range(5):
        parts = split(data, Splitting(), fold=fold, repeat=0, seed=0)
        assert not set(PATIENT[parts.train]) & set(PATIENT[parts.test])


def test_an_array_of_an_archive_that_means_nothing_is_refused_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.stack([RATE, AGE], 1), y=Y, subjects=PATIENT, ward=PATIENT % 3)
    with pytest.raises(DataError) as caught:
        Arrays(path=str(tmp_path / "a.npz")).load()
    assert (caught.value.setting, caught.value.given) == ("drop", "ward")
    data = Arrays(path=str(tmp_path / "a.npz"), drop=("ward",)).load()
    assert data.groups is not None and data.groups.tolist() == PATIENT.tolist()


def test_an_index_of_patients_that_pandas_stores_apart_is_seen(tmp_path: Path) -> None:
    frame = pd.DataFrame({"age": AGE, "y": Y}, index=pd.Index(PATIENT, name="patient"))
    frame.to_parquet(tmp_path / "a.parquet")
    data = Arrays(path=str(tmp_path / "a.parquet")).load()
    assert data.groups is not None and data.feature_names == ("age",)


def test_a_setting_names_the_patients_and_drops_or_keeps_columns(arrays: Callable[..., Dataset]) -> None:
    columns = {"age": AGE, "ward": PATIENT, "y": Y}
    named = arrays(columns, group="ward")
    assert named.groups is not None and named.feature_names == ("age",)
    assert arrays(columns, drop=("ward",)).feature_names == ("age",)
    kept = arrays(columns, features=("ward",))
    assert kept.feature_names == ("age", "ward") and kept.groups is None
    assert len({one.digest for one in (named, kept)}) == 2


@pytest.mark.parametrize(
    ("columns", "settings", "setting", "given"),
    [
        pytest.param({"patient": PATIENT, "mrn": PATIENT}, {}, "group", ["patient", "mrn"], id="two"),
        pytest.param({"patient": PATIENT, "mrn": PATIENT}, {"group": "mrn"}, "drop", "patient", id="one is left"),
        pytest.param({"patient": PATIENT}, {"group": ""}, "drop", "patient", id="none wanted"),
        pytest.param({"patient": PATIENT}, {"group": "patients"}, "group", "patients", id="no such column"),
        pytest.param({"patient": PATIENT}, {"drop": ("pat",)}, "drop", "pat", id="no such column to drop"),
        pytest.param({"patient": [None] * 44 + PATIENT[44:].tolist()}, {}, "patient", 44, id="None"),
        pytest.param({"patient": np.where(PATIENT < 1, np.nan, PATIENT)}, {}, "patient", 5, id="NaN"),
        pytest.param({"patient": np.where(PATIENT < 1, " ", PATIENT.astype(str))}, {}, "patient", 5, id="blank"),
        pytest.param({"patient": np.where(PATIENT < 1, "None", PATIENT.astype(str))}, {}, "patient", 5, id="in words"),
        pytest.param({"patient": PATIENT + 2.0**53}, {}, "patient", 2.0**53 + 40, id="floats too large"),
        pytest.param({"id": AGE}, {}, "features", "id", id="number of a record by name"),
    ],
)
def test_patients_that_are_not_told_apart_clearly_are_refused(
    arrays: Callable[..., Dataset], columns: dict[str, Any], settings: dict[str, Any], setting: str, given: Any
) -> None:
    with pytest.raises(DataError) as caught:
        arrays({"age": AGE, "y": Y, **columns}, **settings)
    assert (caught.value.setting, caught.value.given) == (setting, given)


def test_blanks_around_a_patients_name_are_none_of_the_name() -> None:
    assert as_groups(["p1", " p1", "p2 "], where="a").tolist() == ["p1", "p1", "p2"]
    assert as_groups(np.array([1.0, 2.0]), where="a").dtype == np.int64
    with pytest.raises(DataError) as caught:
        as_groups(["p1", "P1"], where="a")
    assert caught.value.given == "p1"


def shuffled(values: np.ndarray) -> np.ndarray:
    return values[np.random.default_rng(1).permutation(len(values))]


ORDER = np.random.default_rng(1).permutation(N)


@pytest.mark.parametrize(
    ("values", "y"),
    [
        pytest.param(np.arange(N), Y, id="row number"),
        pytest.param(shuffled(np.arange(1000, 1000 + N)), Y, id="numbered through, shuffled"),
        pytest.param(np.random.default_rng(2).choice(10**7, N, replace=False), Y, id="drawn numbers"),
        pytest.param(PATIENT * 17 + 3, Y, id="blocks"),
        pytest.param((PATIENT * 17 + 3)[ORDER], Y[ORDER], id="patients, shuffled"),
        pytest.param(PATIENT, (PATIENT >= 20).astype(int), id="the healthy first"),
    ],
)
def test_what_looks_like_an_identifier_is_refused(
    arrays: Callable[..., Dataset], values: np.ndarray, y: np.ndarray
) -> None:
    for kind in ("parquet", "npz"):
        with pytest.raises(DataError) as caught:
            arrays({"rate": RATE, "code": values, "y": y}, kind)
        assert (caught.value.setting, caught.value.given) == ("features", "code")
        assert all(remedy in caught.value.allowed for remedy in ("drop: [code]", "group: code", "features: [code]"))
    assert arrays({"rate": RATE, "code": values, "y": y}, features=("code",)).feature_names == ("rate", "code")


@pytest.mark.parametrize(
    ("values", "y"),
    [
        pytest.param(AGE, Y, id="age"),
        pytest.param(RATE, Y, id="continuous"),
        pytest.param(np.random.default_rng(3).poisson(4, N), Y, id="counts"),
        pytest.param(np.sort(AGE), Y, id="sorted ages"),
        pytest.param(AGE, (AGE > 50).astype(int), id="ages that decide the label"),
        pytest.param(AGE, (np.arange(N) == 7).astype(int), id="one ill"),
        pytest.param(PATIENT % 2, Y, id="sex"),
        pytest.param(np.where(RATE > 70, np.nan, AGE), Y, id="half missing"),
    ],
)
def test_measurements_are_none(values: np.ndarray, y: np.ndarray) -> None:
    assert suspicion(values.astype(float), y, grouped=False) is None


def test_a_count_that_never_repeats_is_warned_of_alone() -> None:
    platelets = np.random.default_rng(4).normal(250_000, 60_000, 400).round()
    found = suspicion(platelets, np.arange(400) % 2, grouped=False)
    assert found is not None and found.verdict == "warn"


M = 300
WHOLE: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "days since surgery": lambda rng: rng.integers(0, 3000, M),
    "the same, sorted": lambda rng: np.sort(rng.integers(0, 3000, M)),
    "days of age": lambda rng: rng.integers(6570, 32850, M),
    "platelets": lambda rng: rng.normal(250, 60, M).round(),
    "platelets per mm3": lambda rng: rng.normal(250_000, 60_000, M).round(),
    "steps a day": lambda rng: rng.lognormal(8.7, 0.5, M).round(),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("slope", [0.0, 2.0, 20.0], ids=["no relation", "some", "strong"])
def test_whole_numbers_that_are_spread_as_measurements_are_never_refused(name: str, slope: float) -> None:
    rng, verdicts = np.random.default_rng(8), []
    for _ in range(50):
        values = WHOLE[name](rng)
        risk = 1 / (1 + np.exp(-slope * (values - np.median(values)) / values.std()))
        found = suspicion(values.astype(float), (rng.random(M) < risk).astype(int), grouped=False)
        verdicts.append(None if found is None else found.verdict)
    assert "refuse" not in verdicts
    if name in ("days since surgery", "platelets"):  # as many are equal as chance makes
        assert verdicts.count("warn") <= 2


@pytest.mark.parametrize("records", [1.1, 1.5, 5])
def test_numbers_of_patients_under_another_name_are_refused_where_their_labels_leak(records: float) -> None:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(9)
    patients = int(M / records)
    number, label = 10_000 + rng.choice(90_000, patients, replace=False), rng.integers(0, 2, patients)
    who = rng.permutation(np.concatenate([np.arange(patients), rng.integers(0, patients, M - patients)]))
    values, y = number[who].astype(float), label[who]
    found = suspicion(values, y, grouped=False)
    assert found is not None and found.verdict == "refuse"
    if records == 5:
        forest = RandomForestClassifier(30, random_state=0).fit(values[:200, None], y[:200])
        assert roc_auc_score(y[200:], forest.predict_proba(values[200:, None])[:, 1]) > 0.8


@pytest.mark.parametrize("records", [2, 5, 10])
@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_numbers_of_patients_are_warned_of_where_some_labels_differ(records: int, noise: float) -> None:
    rng, n = np.random.default_rng(11), 1000
    who = rng.permutation(np.repeat(np.arange(n // records), records))
    y = rng.integers(0, 2, n // records)[who] ^ (rng.random(n) < noise)
    found = suspicion(rng.permutation(n)[who].astype(float), y, grouped=False)
    assert found is not None and found.verdict == "warn"


@pytest.mark.parametrize("slope", [1, 10, 100])
@pytest.mark.parametrize("span", [30, 100, 400])
def test_labels_that_follow_a_measurement_are_no_sign_of_patients(slope: int, span: int) -> None:
    rng = np.random.default_rng(12)
    for bend in (lambda v: v - 0.5, lambda v: abs(v - 0.5) - 0.25, lambda v: np.sin(9 * v) / 2):
        values = rng.integers(0, span, 1000)
        risk = 1 / (1 + np.exp(-slope * bend(values / span)))
        assert suspicion(values.astype(float), (rng.random(1000) < risk).astype(int), grouped=False) is None


@pytest.mark.parametrize("among", [1, 3, 10])
def test_numbers_that_are_drawn_without_replacement_are_refused(among: int) -> None:
    values = np.random.default_rng(10).choice(among * M, M, replace=False).astype(float)
    found = suspicion(values, np.arange(M) % 2, grouped=False)
    assert found is not None and found.verdict == "refuse"


def test_known_patients_leave_their_constant_measurements_alone() -> None:
    assert suspicion(PATIENT * 17.0, Y, grouped=False) is not None
    assert suspicion(PATIENT * 17.0, Y, grouped=True) is None


@pytest.mark.parametrize("names", [["a", "a"], ["a", "A"], ["a", " a"], ["a b", "a_b"]])
def test_names_that_are_alike_are_refused(tmp_path: Path, names: list[str]) -> None:
    np.savez(tmp_path / "a.npz", x=np.stack([RATE, RATE + 1], 1), y=Y, feature_names=names)
    with pytest.raises(DataError) as caught:
        Arrays(path=str(tmp_path / "a.npz")).load()
    assert (caught.value.setting, caught.value.given) == ("feature_names", names[1])
    np.savez(tmp_path / "b.npz", x=RATE[:, None], y=Y, class_names=names)
    with pytest.raises(DataError) as caught:
        Arrays(path=str(tmp_path / "b.npz")).load()
    assert (caught.value.setting, caught.value.given) == ("class_names", names[1])


@pytest.mark.parametrize(
    ("one", "other"),
    [("1005", "'1005"), ("1005", '="1005"'), ("1005", "#1005"), ("1005", "1,005"), ("5", "5,0"), ("P1", "\uff301"),
     ("7", "\u0667"), ("P^1", "P_1"), ("a-1", "A 01")],
)  # fmt: skip
def test_one_patient_in_two_ways_of_writing_is_refused(one: str, other: str) -> None:
    with pytest.raises(DataError) as caught:
        as_groups(np.array([one, other, "another"]), where="data")
    assert caught.value.setting == "groups" and caught.value.given in (one, other)


@pytest.mark.parametrize(
    ("one", "other"), [("1-23", "12-3"), ("1,23", "123"), ("-5", "5"), ("5.1", "5.10"), ("P1", "P10")]
)
def test_two_patients_stay_two(one: str, other: str) -> None:
    assert len(set(as_groups(np.array([one, other]), where="data").tolist())) == 2


@pytest.mark.parametrize("name", ["ANONYMOUS", "Anonymized", "de-identified", "REMOVED"])
def test_a_name_that_was_taken_away_names_nobody(name: str) -> None:
    assert names_nobody(name)


@pytest.mark.parametrize("key", ["groups", "class_names", "feature_names", "split"])
def test_names_in_bytes_of_another_encoding_are_refused(tmp_path: Path, key: str) -> None:
    names = {
        "groups": np.array([b"M\xfcller", b"b"])[np.arange(M) % 2],
        "class_names": np.array([b"gro\xdf", b"b"]),
        "feature_names": np.array([b"gr\xf6sse"]),
        "split": np.array([b"pr\xfcfung", b"train"])[np.arange(M) % 2],
    }
    np.savez(tmp_path / "a.npz", x=RATE[:, None], y=Y, **{key: names[key]})
    with refused(DataError, key, names[key][0], "UTF-8"):
        Arrays(path=str(tmp_path / "a.npz")).load()


def test_patients_of_several_fields_are_refused(tmp_path: Path) -> None:
    pairs = np.array([(i, i) for i in range(M)], dtype=[("site", "i4"), ("patient", "i4")])
    np.savez(tmp_path / "a.npz", x=RATE[:, None], y=Y, groups=pairs)
    with refused(DataError, "groups", allowed="one value each"):
        Arrays(path=str(tmp_path / "a.npz")).load()


def test_a_data_set_of_any_source_has_features_of_one_name_each(wdbc: Dataset) -> None:
    from dataclasses import replace

    with pytest.raises(DataError) as caught:
        replace(wdbc, feature_names=("mean radius",) * 30)
    assert caught.value.setting == "feature_names"
    with pytest.raises(DataError) as caught:
        replace(wdbc, groups=np.array(["p"] * 568 + ["nan"]))
    assert (caught.value.setting, caught.value.given) == ("groups", 1)


def test_columns_of_a_parquet_file_that_are_alike_are_refused(arrays: Callable[..., Dataset]) -> None:
    with pytest.raises(DataError) as caught:
        arrays({"rate": RATE, "Rate": RATE, "y": Y})
    assert (caught.value.setting, caught.value.given) == ("path", "Rate")


def texts(tmp_path: Path, heading: str, **settings: Any) -> Dataset:
    lines = [f"some words {number},{number % 2},p{number // 2} " for number in range(8)]
    (tmp_path / "notes.csv").write_text("\n".join([heading, *lines]))
    return TextFile(path=str(tmp_path / "notes.csv"), **settings).load()


def test_texts_are_told_apart_by_patients_of_any_usual_name(tmp_path: Path) -> None:
    data = texts(tmp_path, "text,label,Patient ID")
    assert data.groups is not None and data.groups.tolist() == [f"p{number // 2}" for number in range(8)]
    assert texts(tmp_path, "text,label,Patient ID", group="").groups is None
    assert texts(tmp_path, "text,label,ward").groups is None
    with pytest.raises(DataError) as caught:
        texts(tmp_path, "text,label,Label")
    assert caught.value.setting == "path"


GERMAN = ("Patientennummer", "Patienten-Nr.", "Probandenkennung", "patient_name", "patient id (pseudonymised)", "subj")
ROMANCE = ("paciente", "código del paciente", "numéro du patient", "identifiant patient", "sujet")
BLOCKS = np.repeat(np.arange(40), 10)
FLIPPED = np.where(np.random.default_rng(5).random(400) < 0.1, 1 - BLOCKS % 2, BLOCKS % 2)


@pytest.mark.parametrize("name", [*GERMAN, *ROMANCE])
def test_patients_are_known_in_other_words_and_with_qualifiers(name: str) -> None:
    assert names_patients(name)
    assert not any(map(names_patients, ("patient weight", "study arm", "new cases", "hospital", "group name")))


@pytest.mark.parametrize(
    "name", ["hospital_number", "person", "case", "encounter", "unit_number", "donor", "Fallnummer", "Donor ID"]
)
def test_a_name_that_may_be_that_of_patients_is_asked(arrays: Callable[..., Dataset], name: str) -> None:
    columns = {"rate": RNG.normal(70, 10, 400), name: shuffled(BLOCKS), "y": FLIPPED}
    for settings in ({}, {"group": ""}):
        with pytest.raises(DataError) as caught:
            arrays(columns, **settings)
        assert (caught.value.setting, caught.value.given) == ("features", name)
    assert arrays(columns, group=name).groups is not None
    assert arrays(columns, features=(name,)).groups is None


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        pytest.param(BLOCKS + 1, "refuse", id="numbered through"),
        pytest.param(np.random.default_rng(6).permutation(40)[BLOCKS] * 17, "refuse", id="in no order"),
        pytest.param(BLOCKS[:397][::-1], "refuse", id="the last one shorter"),
        pytest.param(np.random.default_rng(6).permutation(40)[np.sort(AGE.repeat(2) % 40)], "warn", id="unequal"),
        pytest.param(np.repeat(np.arange(12) * 5, 30), "warn", id="planned doses"),
        pytest.param(np.sort(RNG.integers(20, 90, 400)), None, id="sorted ages"),
        pytest.param(np.repeat(np.arange(4), 100), None, id="four wards"),
        pytest.param(np.tile(np.arange(40), 10), None, id="hours, over and over"),
    ],
)
def test_stretches_of_one_value_are_a_sign_of_patients_whatever_the_labels(values: np.ndarray, verdict: Any) -> None:
    y = RNG.integers(0, 2, len(values))
    found = suspicion(values.astype(float), y, grouped=False)
    assert (None if found is None else found.verdict) == verdict
    assert suspicion(values.astype(float), y, grouped=True) is None


def test_one_patient_written_in_several_ways_is_one_or_refused() -> None:
    written = ["Müller", "Mu\u0308ller", "Mül\u200bler", "A  B", "A B", "A\u00a0B"]
    assert as_groups(written, where="a").tolist() == ["Müller"] * 3 + ["A B"] * 3
    for pair in (["000001", "1"], ["P001", "P1"], ["a-07", "A-7"]):
        with pytest.raises(DataError) as caught:
            as_groups([*pair, "2"], where="a", column="mrn")
        assert caught.value.setting == "mrn" and all(repr(name) in str(caught.value) for name in pair)
    assert len(set(as_groups(["P10", "P1", "P100", "0"], where="a").tolist())) == 4


@pytest.mark.parametrize("name", ["unknown", "Unknown ", 0, "0", -1, "-1", -9.0, "999"])
def test_a_name_that_stands_for_no_patient_is_none(name: Any) -> None:
    with pytest.raises(DataError) as caught:
        as_groups([type(name)(one) for one in PATIENT + 1] + [name] * 60, where="a", column="mrn")
    assert caught.value.setting == "mrn"
    if not isinstance(name, str) or name.strip("-").isdigit():
        as_groups([type(name)(one) for one in PATIENT + 1] + [name] * 5, where="a")


@pytest.mark.parametrize("name", ["USUBJID", "PTID", "pt_no", "Pt. ID", "UHID", "KVNR", "Versichertennummer"])
def test_patients_are_known_by_what_registers_call_them(name: str) -> None:
    assert names_patients(name)
    assert not any(map(names_patients, ("pt", "pta", "ptt", "patch")))


@pytest.mark.parametrize(
    "name",
    ["Name", "last name", "initials", "Vorname", "client_id", "insurance number", "family_id", "chart no", "RID",
     "patient_visit", "subject scan id", "__index_level_0__"],
)  # fmt: skip
def test_a_name_that_may_be_of_patients_or_their_visits_is_asked(arrays: Callable[..., Dataset], name: str) -> None:
    columns = {"rate": RNG.normal(70, 10, 400), name: shuffled(BLOCKS), "y": FLIPPED}
    with refused(DataError, "features", name):
        arrays(columns)
    assert arrays(columns, group=name).groups is not None


@pytest.mark.parametrize("pair", [("P-5", "P5"), ("P 5", "p_05"), ("S-01-001", "S_01_1"), ("a.7", "A7")])
def test_patients_that_differ_in_marks_between_letters_and_numbers_are_refused(pair: tuple[str, str]) -> None:
    with refused(DataError, "mrn"):
        as_groups([*pair, "q"], where="a", column="mrn")
    assert len(set(as_groups(["1-23", "12-3", "123"], where="a").tolist())) == 3


def test_numbers_that_a_spreadsheet_rounded_name_nobody() -> None:
    with refused(DataError, "mrn", "1.23E+11"):
        as_groups(["1.23E+11", "1.23E+11"], where="a", column="mrn")


def test_patients_are_counted_as_they_are_compared(tmp_path: Path) -> None:
    rows = [f"{age},{number}{'.0' if age % 2 else ''},{y}" for age, number, y in zip(AGE, PATIENT, Y, strict=True)]
    (tmp_path / "a.csv").write_text("\n".join(["age,patient,ill", *rows]))
    dataset = TableSource(path=str(tmp_path / "a.csv"), label="ill").load()
    assert "patients by patient: 40" in dataset.reading


@pytest.mark.parametrize("names", [("X", "Y"), ("data", "labels"), ("x_train", "y_train"), ("x", "target")])
def test_an_archive_without_records_or_labels_says_what_they_must_be_called(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    np.savez(tmp_path / "a.npz", **{names[0]: RNG.normal(size=(N, 2)), names[1]: Y})
    with refused(DataError, "path", sorted(names)):
        Arrays(path=str(tmp_path / "a.npz")).load()


@pytest.mark.parametrize(("y", "given"), [(np.where(Y == 1, 0.5, 0), 0.5), (np.full(N, "ill"), "ill")])
def test_labels_that_are_no_numbers_of_classes_are_shown(tmp_path: Path, y: np.ndarray, given: Any) -> None:
    np.savez(tmp_path / "a.npz", x=RNG.normal(size=(N, 2)), y=y)
    with refused(DataError, "y", given):
        Arrays(path=str(tmp_path / "a.npz")).load()
