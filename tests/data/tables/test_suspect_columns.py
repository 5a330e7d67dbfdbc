"""Columns that are not what they seem: codes of missing values, units in cells, the label under another name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assay.data.arrays import Arrays
from assay.data.base import Dataset
from assay.data.sentinels import codes_among
from assay.data.tables.table import TableSource
from assay.errors import DataError
from tests.mistakes import refused

N = 300
RNG = np.random.default_rng(0)
AGE = RNG.integers(18, 86, N)
TEMPERATURE = RNG.normal(37, 0.7, N).round(1)
Y = RNG.integers(0, 2, N)
Load = Callable[..., Dataset]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads columns, tabs between them, beside an age and an outcome: ``load(v=cells, **settings)``."""

    def made(v: Any, outcome: Any = Y, **settings: Any) -> Dataset:
        path = tmp_path / "ward.tsv"
        rows = zip(AGE, v, outcome, strict=True)
        path.write_text("\n".join(["age\tv\toutcome", *("\t".join(map(str, row)) for row in rows)]))
        return TableSource(**{"path": str(path), "label": "outcome", **settings}).load()

    return made


def holding(values: np.ndarray, *codes: float, times: int = 5) -> np.ndarray:
    """Values of which some records hold codes instead."""
    made, places = values.astype(float), np.random.default_rng(1).permutation(len(values))
    for number, code in enumerate(codes):
        made[places[number * times : (number + 1) * times]] = code
    return made


def about(data: Dataset, name: str = "v") -> str:
    return "\n".join(line for line in data.warnings if line.split()[0] == name)


CODES = [
    pytest.param(RNG.normal(3000, 800, N).round(), (7777, 9999), id="7777 and 9999"),
    pytest.param(RNG.integers(0, 11, N), (77, 99), id="77 and 99"),
    pytest.param(RNG.integers(3, 8, N), (-1,), id="-1 among 3 to 7"),
    pytest.param(RNG.integers(0, 21, N), (97, 98, 99), id="97 to 99"),
    pytest.param(RNG.integers(1, 3, N), (9,), id="sex code 9"),
    pytest.param(RNG.normal(0, 1, N), (-9,), id="-9 among both signs"),
    pytest.param(RNG.normal(0, 1, N), (-9999,), id="-9999 among both signs"),
    pytest.param(RNG.normal(0, 1, N), (1e20,), id="1e20"),
    pytest.param(RNG.normal(0, 1, N), (-1e20, 1e20), id="both ends"),
    pytest.param(RNG.normal(0, 100, N).round(), (-32768,), id="-32768"),
]


@pytest.mark.parametrize(("values", "codes"), CODES)
def test_values_that_stand_apart_as_codes_do_are_warned_of_and_can_be_named(
    load: Load, values: np.ndarray, codes: tuple[float, ...]
) -> None:
    data = load(holding(values, *codes))
    assert all(f"{code:g} in 5 records" in about(data) for code in codes)
    assert "kinds: {v: {missing: [" in about(data)
    named = load(holding(values, *codes), kinds={"v": {"missing": codes, "kind": "number"}})
    assert about(named) == ""
    assert np.isnan(np.asarray(named.x)[:, 1]).sum() == 5 * len(codes)
    assert about(load(holding(values, *codes), kinds={"v": {"missing": ()}})) == ""


@pytest.mark.parametrize(
    ("values", "codes"),
    [
        pytest.param(AGE, (-99, -9), id="-9 and -99 do not hide each other"),
        pytest.param(AGE, (7777, 9999), id="7777 and 9999 do not either"),
        pytest.param(TEMPERATURE, (99.9,), id="99.9"),
        pytest.param(RNG.lognormal(1, 0.5, N), (-999.25,), id="-999.25"),
    ],
)
def test_codes_that_can_be_nothing_else_are_refused(load: Load, values: np.ndarray, codes: tuple[float, ...]) -> None:
    with refused(DataError, "missing", codes[0] if len(codes) == 1 else list(codes)):
        load(holding(values, *codes))


def test_a_code_between_other_values_is_found_by_how_often_it_occurs() -> None:
    weight = RNG.normal(95, 15, N).round(1)
    (code,) = codes_among(holding(weight, 99.9, times=40))
    assert code.value == 99.9 and code.count >= 40 and not code.sure
    assert codes_among(holding(weight, 99.9, times=1)) == ()


HONEST: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "ages": lambda rng: rng.integers(18, 95, N),
    "one aged 99": lambda rng: np.append(rng.integers(18, 89, N), 99),
    "platelets": lambda rng: rng.lognormal(5.5, 0.35, N).round(),
    "oxygen saturation": lambda rng: np.clip(rng.normal(97, 2, N).round(), 70, 100),
    "saturation to 99": lambda rng: np.clip(rng.normal(97, 2, N).round(), 70, 99),
    "counts": lambda rng: rng.poisson(1, N),
    "creatine kinase": lambda rng: rng.lognormal(5, 1.3, N).round(),
    "base excess": lambda rng: rng.normal(2, 2, N).round(1),
    "change of a score": lambda rng: rng.integers(-3, 6, N),
    "heavy tails": lambda rng: rng.standard_t(2, N),
    "doses": lambda rng: rng.choice([5, 10, 20, 80], N),
    "mostly zero": lambda rng: np.where(rng.random(N) < 0.8, 0, rng.lognormal(3, 1, N)),
    "scores to 99": lambda rng: rng.integers(0, 100, N),
    "grades": lambda rng: rng.integers(1, 6, N),
    "rare counts and one 8": lambda rng: np.append(rng.choice([0, 1, 2], N, p=[0.9, 0.08, 0.02]), 8),
}


@pytest.mark.parametrize("kind", HONEST)
def test_honest_columns_raise_no_alarm(kind: str) -> None:
    rng = np.random.default_rng(7)
    assert [codes for _ in range(50) if (codes := codes_among(HONEST[kind](rng)))] == []


@pytest.mark.parametrize(("value", "code"), [(1, 9), (0, -9), (5, 999), (1, 99)])
def test_nines_beside_one_value_are_warned_of(load: Load, value: int, code: int) -> None:
    assert f"v holds {code} in 5 records, and otherwise {value}" in about(
        load(holding(np.full(N, value), code).astype(int))
    )
    assert about(load(holding(np.full(N, value), code).astype(int), kinds={"v": "category"})) == ""


@pytest.mark.parametrize("pair", [(0, 1), (1, 2), (-1, 1), (7, 8), (0, 10), (99, 999)])
def test_two_other_values_raise_no_alarm(pair: tuple[int, int]) -> None:
    assert codes_among(RNG.choice(pair, N).astype(float)) == ()


def test_a_class_that_is_written_as_a_code_is_warned_of(load: Load) -> None:
    data = load(TEMPERATURE, outcome=holding(Y, 9).astype(int))
    assert any("label outcome holds 9 in 5 records" in line and "missing: [9]" in line for line in data.warnings)
    assert not any("9 in 5 records" in line for line in data.stated)
    classes = {"well": (0,), "ill": (1,), "unknown": (9,)}
    assert not any("9 in 5" in line for line in load(TEMPERATURE, holding(Y, 9).astype(int), classes=classes).warnings)


@pytest.mark.parametrize("kind", ["npz", "parquet"])
@pytest.mark.parametrize("code", [-9999, 1e20, 9999])
def test_features_of_arrays_are_looked_through_for_codes(tmp_path: Path, kind: str, code: float) -> None:
    path, score = tmp_path / f"a.{kind}", holding(RNG.normal(0, 1, N), code)
    if kind == "npz":
        np.savez(path, x=np.stack([TEMPERATURE, score], 1), y=Y, feature_names=["temperature", "score"])
    else:
        pd.DataFrame({"temperature": TEMPERATURE, "score": score, "y": Y}).to_parquet(path)
    told = [line for line in Arrays(path=str(path)).load().warnings if "in 5 records" in line]
    assert len(told) == 1 and "'score'" in told[0] and "drop: [score]" in told[0]
    assert not any("in 5 records" in line for line in Arrays(path=str(path), features=("score",)).load().warnings)


ONE_UNIT = {
    "°C": [f"{one} °C" for one in TEMPERATURE],
    "/µL": [f"{one * 100:.0f} /µL" for one in TEMPERATURE],
    "$": [f"${one}" for one in TEMPERATURE],
    "%": [f"{one}%" for one in TEMPERATURE],
    "x10^9/L": [f"{one} x10^9/L" for one in TEMPERATURE],
    "10^9/L": [f"{one} 10^9/L" for one in TEMPERATURE],
    "mg/dl": [f"{one} {('mg/dl', 'mg/dL')[row % 2]}" for row, one in enumerate(TEMPERATURE)],
}


@pytest.mark.parametrize("unit", ONE_UNIT)
def test_numbers_with_one_unit_throughout_are_read_and_said(load: Load, unit: str) -> None:
    data = load(ONE_UNIT[unit])
    assert f"a unit stands beside numbers of v ({unit})" in data.reading
    assert any(line.startswith("v: number") and line.endswith(f" {unit}") for line in data.reading)
    factor = 100 if unit == "/µL" else 1
    assert np.allclose(np.asarray(data.x)[:, 1], (TEMPERATURE * factor).round(1))


def test_a_stated_unit_may_stand_behind_some_numbers_alone(load: Load) -> None:
    some = [f"{one} °C" if row % 2 else f"{one}" for row, one in enumerate(TEMPERATURE)]
    with refused(DataError, "kinds", next(cell for cell in some if " " in cell)):
        load(some)
    assert np.allclose(np.asarray(load(some, kinds={"v": {"unit": "°C"}}).x)[:, 1], TEMPERATURE)
    with refused(DataError, "kinds"):
        load(ONE_UNIT["°C"], kinds={"v": {"unit": "K"}})


def cells(*writing: str) -> list[str]:
    return [writing[row % len(writing)].format(one) for row, one in enumerate(TEMPERATURE)]


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(cells("{} °C", "{} °F"), id="two units"),
        pytest.param(cells("{} °C", "{} °C", "unknown"), id="a word among them"),
        pytest.param(cells("<{}", ">{}"), id="limits alone"),
        pytest.param(cells("<={} mg", "{}"), id="limits with a unit"),
        pytest.param(cells("{}", "{} H"), id="flags"),
        pytest.param(cells("{}*"), id="marks"),
        pytest.param([f"{one * 3:.0f}/{one * 2:.0f}" for one in TEMPERATURE], id="two numbers"),
        pytest.param(cells("{} ± 0.1"), id="spreads"),
    ],
)
def test_numbers_with_something_beside_them_are_no_categories(load: Load, written: list[str]) -> None:
    with refused(DataError, "kinds"):
        load(written)
    assert load([cell[:1] for cell in written], kinds={"v": "category"}).feature_names == ("age", "v")


@pytest.mark.parametrize(
    "categories",
    [
        ("stage 1", "stage 2", "stage 3"),
        ("T1", "T2", "T3"),
        ("1st degree", "2nd degree", "3rd degree"),
        ("18-24", "25-64", "65+"),
        ("1 (male)", "2 (female)", "3 (other)"),
        ("1: mild", "2: moderate", "3: severe"),
        ("1+", "2+", "3+"),
    ],
)
def test_categories_with_numbers_stay_categories(load: Load, categories: tuple[str, ...]) -> None:
    assert f"v: category, {', '.join(categories)}" in load(cells(*categories)).reading


WORD = np.array(["benign", "malignant"])[Y]


@pytest.mark.parametrize(
    "v", [pytest.param(Y, id="equal"), pytest.param(WORD, id="renamed"), pytest.param(7 - 3 * Y, id="turned")]
)
def test_the_label_under_another_name_is_refused(load: Load, v: np.ndarray) -> None:
    with refused(DataError, "drop", "v", "drop: [v] or features: [v]"):
        load(v)
    assert load(v, features=("v",)).feature_names == ("age", "v")
    assert load(v, drop=("v",)).feature_names == ("age",)


def test_the_label_before_its_values_were_joined_is_refused(load: Load) -> None:
    grade = RNG.integers(0, 5, N)
    names = np.array(["none", "mild", "moderate", "severe", "fatal"])
    with refused(DataError, "drop", "v"):
        load(names[grade], outcome=grade, classes={"well": (0, 1), "ill": (2, 3, 4)})


def test_the_label_among_arrays_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.stack([TEMPERATURE, 1 - Y], 1), y=Y, feature_names=["temperature", "dead"])
    with refused(DataError, "drop", "dead"):
        Arrays(path=str(tmp_path / "a.npz")).load()
    assert Arrays(path=str(tmp_path / "a.npz"), features=("dead",)).load().shape == (2,)


ALMOST = np.where(np.arange(N) == 3, 1 - Y, Y)


@pytest.mark.parametrize(
    "v",
    [
        pytest.param(np.array(["yes", "no"])[ALMOST], id="all but one"),
        pytest.param(Y * 10 + RNG.normal(0, 1, N).round(3), id="a number far apart"),
        pytest.param(np.array(["a", "b", "c", "d"])[2 * Y + RNG.integers(0, 2, N)], id="two codes a class"),
        pytest.param(np.where(Y == 1, "", TEMPERATURE.astype(str)), id="missing in one class"),
    ],
)
def test_a_feature_that_alone_tells_the_classes_is_warned_of(load: Load, v: np.ndarray) -> None:
    assert any(line.startswith("v: each alone tells the classes") for line in load(v).warnings)


def test_good_predictors_raise_no_alarm(load: Load) -> None:
    for gap in (0.0, 1.0, 2.0):
        assert not any("each alone" in line for line in load((RNG.normal(0, 1, N) + gap * Y).round(3)).warnings)
    assert not any("each alone" in line for line in load(np.where(RNG.random(N) < 0.9, WORD, WORD[::-1])).warnings)


TIMES = np.arange(N) % 6
MORE = {
    "dates in words": ([f"{1 + k}. {'März' if k % 2 else 'April'} 2020" for k in TIMES], "kinds"),
    "months": ([("Jan 2020", "2021-Mar", "1 de mayo de 2020", "Dec-20", "June 3, 2021", "avr. 2020")[k] for k in TIMES],
               "kinds"),
    "dates as numbers": ([20200101 + 100 * (k % 4) + k for k in TIMES], "features"),
    "months as numbers": ([202001 + k % 12 + 100 * (k % 3) for k in range(N)], "features"),
    "durations": ([f"{k + 1} days, 0:00:00" for k in TIMES], "kinds"),
    "weeks and days": ([f"3{k}+{k}" for k in TIMES], "kinds"),
    "minus behind": ([f"{k}-" for k in TIMES], "kinds"),
    "brackets": ([f"({k})" if k % 2 else str(k) for k in TIMES], "kinds"),
    "numbers kept as text": ([f"'{k}" for k in TIMES], "kinds"),
    "formulas": ([f'"=""{k}"""' for k in TIMES], "kinds"),
    "errors of a spreadsheet": (["#DIV/0!" if k == 3 else "high" for k in TIMES], "kinds"),
    "lists": ([f"[{k} 2]" for k in TIMES], "kinds"),
}  # fmt: skip


@pytest.mark.parametrize("what", MORE)
def test_what_no_number_and_no_word_says_is_refused(load: Load, what: str) -> None:
    cells, setting = MORE[what]
    with refused(DataError, setting):
        load(cells)
    stated: dict[str, Any] = {"kinds": {"v": "category"}} if setting == "kinds" else {"features": ("v",)}
    assert load(cells, **stated).shape == (2,)


@pytest.mark.parametrize("words", [["3+4", "4+3"], ["set 12", "marker 2020"], ["0-10", "10-20"], ["CT 64", "MR 3"]])
def test_words_with_numbers_stay_words(load: Load, words: list[str]) -> None:
    assert load([words[k % 2] for k in range(N)]).shape == (2,)


def test_any_minus_before_a_number_is_one(load: Load) -> None:
    cells = [f"{'−' if k % 2 else '–'}{k + 1}.5" if k % 3 else f"{k}.0" for k in TIMES]
    assert np.asarray(load(cells).x)[:, 1].min() == -6.5


@pytest.mark.parametrize("figure", ["sum", "mean"])
def test_a_line_of_totals_is_no_record(load: Load, figure: str) -> None:
    cells = [*TEMPERATURE[:-1], getattr(np, figure)(TEMPERATURE[:-1])]
    with refused(DataError, "path", f"line {N + 1}"):
        load(cells)


def test_the_last_of_large_numbers_that_lie_close_is_a_record(load: Load) -> None:
    milliseconds = np.random.default_rng(4).integers(1_600_000_000_000, 1_600_000_009_999, N)
    data = load(milliseconds.tolist())
    held = np.asarray(data.x)[:, 1]
    assert len(data) == N and (data.low[1] <= held.min()) and (held.max() <= data.high[1])


def test_a_heading_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sex,outcome\n" + "f,ill\nm,ok\n" * 20 + "sex,outcome\n" + "f,ok\nm,ill\n" * 20)
    with refused(DataError, "path", "line 42"):
        TableSource(path=str(tmp_path / "a.csv"), label="outcome").load()


UNITS = {
    "percent and shares": np.where(TIMES < 3, RNG.integers(80, 100, N), RNG.integers(80, 100, N) / 100),
    "kilograms and grams": np.where(TIMES < 1, RNG.normal(80_000, 9_000, N), RNG.normal(80, 9, N)).round(),
    "degrees": np.where(TIMES < 1, RNG.normal(98.6, 0.9, N), TEMPERATURE).round(1),
}


@pytest.mark.parametrize("what", UNITS)
def test_two_clusters_far_apart_may_be_two_units(load: Load, tmp_path: Path, what: str) -> None:
    assert any("two units" in line for line in load(UNITS[what]).warnings)
    np.savez(tmp_path / "a.npz", x=np.stack([AGE, UNITS[what]], 1), y=Y)
    assert any("two units" in line for line in Arrays(path=str(tmp_path / "a.npz")).load().warnings)


@pytest.mark.parametrize(
    "values", [10 ** RNG.uniform(0, 8, N), RNG.lognormal(1, 1, N), 2.0**TIMES, AGE, RNG.normal(0, 1, N)]
)
def test_one_unit_is_not_taken_for_two(load: Load, values: np.ndarray) -> None:
    assert not any("two units" in line for line in load(values).warnings)


def test_numbers_with_zeros_in_front_may_be_codes(load: Load) -> None:
    codes = [f"{k + 1:03d}" for k in TIMES]
    assert any("zeros in front" in line for line in load(codes).warnings)
    for kind in ("category", "number"):
        assert not any("zeros in front" in line for line in load(codes, kinds={"v": kind}).warnings)


def test_cells_that_were_merged_are_warned_of(load: Load) -> None:
    words = [f"ward {k // 20}" if k % 20 == 0 else "" for k in range(N)]
    assert any("merged" in line for line in load(words).warnings)
    assert not any("merged" in line for line in load([f"ward {k % 3}" if k % 5 else "" for k in range(N)]).warnings)


@pytest.mark.parametrize("values", [19310103 + 2 * TIMES, 44996.58 + TIMES / 3, 86.9 + 1e9 * (TIMES + 1)])
def test_bounds_hold_values_that_32_bits_cannot_write(load: Load, values: np.ndarray) -> None:
    prepared = load(values, features=("v",)).prepared(np.arange(N // 2), seed=0)
    assert np.isfinite(np.asarray(prepared.x)).all()


def test_values_that_32_bits_cannot_tell_apart_are_warned_of(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.stack([AGE, 1.6e9 + RNG.normal(0, 50, N)], 1), y=Y)
    assert any("32 bits" in line for line in Arrays(path=str(tmp_path / "a.npz")).load().warnings)
