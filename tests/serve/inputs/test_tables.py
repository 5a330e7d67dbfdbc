"""Records by name, in clinical units, are those that the model was trained on."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer

from assay.data.base import Dataset
from assay.data.features import Feature
from assay.data.tables.table import TableSource
from assay.data.tabular import WisconsinBreastCancer
from serve.inputs.ranges import AbstentionRule
from serve.inputs.read import Reader
from serve.inputs.records import Records
from serve.refusals import RefusedError

SECRET = "Ada Lovelace"


@pytest.fixture(scope="module")
def wdbc() -> Dataset:
    return WisconsinBreastCancer().load()


@pytest.fixture(scope="module")
def values() -> list[dict[str, float]]:
    """The published records, by the names of their features."""
    raw = load_breast_cancer()
    names = [str(name) for name in raw.feature_names]
    return [dict(zip(names, row, strict=True)) for row in raw.data.tolist()]


def test_published_values_are_the_records_of_the_data_set(wdbc: Dataset, values: list[dict[str, float]]) -> None:
    found = Reader(wdbc).read(values, most=600)
    assert found.x.dtype == torch.float32
    np.testing.assert_allclose(found.x.numpy(), wdbc.x, rtol=0, atol=1e-6)
    assert (found.warnings, found.outside, found.abstain) == ((), (), ())
    by_list = Reader(wdbc).read(np.asarray(wdbc.x).tolist(), most=600)
    np.testing.assert_array_equal(by_list.x.numpy(), wdbc.x)


WARD = """age,height,temperature,pressure,stage,sex,ward,outcome
50,170,37.0,120,II,f,north,ill
61,,38.5,0,I,m,south,healthy
33,181,36.6,140,III,f,,ill
72,165,39.1,110,,m,east,healthy
-9,158,37.2,95,I,f,north,ill
45,175,37.9,150,II,m,south,healthy
58,169,36.9,0,III,f,east,ill
29,177,38.2,130,II,m,,healthy
"""
KINDS: dict[str, Any] = {
    "age": {"range": [0, 120], "unit": "years"},
    "height": {"unit": "cm"},
    "temperature": {"center": 37, "scale": 1, "unit": "°C"},
    "pressure": {"range": [0, 300], "unit": "mmHg", "missing": [0]},
    "stage": {"order": ["I", "II", "III"]},
}


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("ward") / "ward.csv"
    path.write_text(WARD)
    source = TableSource(path=str(path), label="outcome", kinds=KINDS, missing=(-9,), group="", subgroups=())
    return source.load().prepared(np.arange(6), seed=0)


def rows() -> list[dict[str, Any]]:
    """The rows of the file, as a caller would send them: numbers as numbers, nothing where it is empty."""
    names, *lines = (line.split(",") for line in WARD.strip().split("\n"))
    numbers = {"age", "height", "temperature", "pressure"}
    return [
        {name: float(cell) if name in numbers else cell for name, cell in zip(names[:-1], line, strict=False) if cell}
        for line in lines
    ]


def test_rows_of_a_file_are_the_records_of_its_data_set(ward: Dataset) -> None:
    found = Reader(ward).read(rows())
    np.testing.assert_allclose(found.x.numpy(), ward.x, rtol=0, atol=1e-6)


def test_a_filled_value_is_a_warning(ward: Dataset) -> None:
    warnings = Reader(ward).read(rows()).warnings
    assert warnings[0] == ()
    assert any("'height' is missing and was filled with 170 cm" in one for one in warnings[1])
    assert any("'pressure' is missing and was filled with 150 mmHg" in one for one in warnings[1])
    assert any("'ward' is missing and was filled with missing" in one for one in warnings[2])
    assert any("'stage' is missing and was filled with II" in one for one in warnings[3])
    assert any("'age' is missing and was filled with 60 years" in one for one in warnings[4])
    explicit = rows()
    explicit[1] |= {"height": None}
    explicit[2] |= {"ward": {"value": None}}
    assert Reader(ward).read(explicit).warnings == warnings


def one(ward: Dataset, **changed: Any) -> Records:
    return Reader(ward).read([{**rows()[0], **changed}])


@pytest.mark.parametrize(
    ("name", "value", "unit"),
    [
        ("height", 1.7, "m"),
        ("height", 1700, "mm"),
        ("height", 66.92913385826772, "[in_i]"),
        ("age", 600, "mo"),
        ("age", 50, "years"),
        ("age", 50, "a"),
        ("temperature", 98.6, "[degF]"),
        ("temperature", 98.6, "°F"),
        ("temperature", 310.15, "K"),
        ("pressure", 15.99864, "kPa"),
        ("pressure", 120, "mm[Hg]"),
        ("pressure", 120, None),
    ],
)
def test_values_in_other_units_are_the_same_record(ward: Dataset, name: str, value: float, unit: str) -> None:
    found = one(ward, **{name: {"value": value, "unit": unit}})
    np.testing.assert_allclose(found.x.numpy(), ward.x[:1], rtol=0, atol=1e-6)
    assert found.warnings == ()


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"height": {"value": 1.7, "unit": "kg"}}, "'height' must be in cm, or another unit"),
    ({"height": {"value": 1.7, "unit": SECRET}}, "'height' must be in cm"),
    ({"height": {"value": 1.7, "unit": "m" * 5000}}, "'height' must be in cm"),
    ({"height": {"value": 1.7, "unit": 7}}, "'height' must be in cm"),
    ({"height": {"value": 1.7, "unit": ["m"]}}, "'height' must be in cm"),
    ({"height": {"value": 1.7, "units": "m"}}, "'height' must be a number or an object"),
    ({"height": {"unit": "m"}}, "'height' must be a number or an object"),
    ({"height": {"value": "1.7", "unit": "m"}}, "'height' must be a finite number"),
    ({"height": "170"}, "'height' must be a finite number in cm, without quotation marks"),
    ({"height": True}, "'height' must be a finite number"),
    ({"height": float("nan")}, "'height' must be a finite number"),
    ({"height": 10**400}, "'height' must be a finite number"),
    ({"height": [170]}, "'height' must be a finite number"),
    ({"height": {"value": {"value": 1}}}, "'height' must be a finite number"),
    ({"height": 1e30}, "'height' is not a number from"),
    ({"height": {"value": 1e308, "unit": "m"}}, "'height' is not a number from"),
    ({"age": -1}, "'age' is not a number from 0 to 120 years"),
    ({"age": 121}, "'age' is not a number from 0 to 120 years"),
    ({"stage": "IV"}, "'stage' must be one of I, II, III"),
    ({"stage": SECRET}, "'stage' must be one of"),
    ({"stage": "x" * 100_000}, "'stage' must be one of"),
    ({"stage": {"value": "II", "unit": "m"}}, "'stage' must be one of"),
    ({"sex": None}, "'sex' is missing, and the data set states no replacement"),
    ({"sex": 7}, "'sex' must be one of f, m"),
    ({SECRET: 1}, "names 1 feature that the model does not have; it has age, height"),
    ({SECRET: 1, "b": 1}, "names 2 features"),
    ({"Age": 50}, "names 1 feature"),
]


@pytest.mark.parametrize(("changed", "message"), REFUSED)
def test_what_is_no_value_of_a_column_is_refused(ward: Dataset, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedError) as refused:
        one(ward, **changed)
    assert message in str(refused.value)
    assert "record 0" in str(refused.value)
    assert SECRET not in str(refused.value) and len(str(refused.value)) < 500


def test_names_and_lists_do_not_mix(ward: Dataset, wdbc: Dataset) -> None:
    with pytest.raises(RefusedError, match="of all records, or of none"):
        Reader(ward).read([rows()[0], [0.0] * 8])
    with pytest.raises(RefusedError, match="record 1 is not of the shape"):
        Reader(wdbc).read([[0.0] * 30, {}])


def test_a_unit_where_none_is_stated_is_refused(wdbc: Dataset, values: list[dict[str, float]]) -> None:
    with pytest.raises(RefusedError, match="has no stated unit"):
        Reader(wdbc).read([{**values[0], "mean radius": {"value": 1.79, "unit": "cm"}}])
    stated = replace(wdbc, features=tuple(replace(feature, unit="um") for feature in wdbc.features))
    found = Reader(stated).read([{**values[0], "mean radius": {"value": 0.01799, "unit": "mm"}}])
    np.testing.assert_allclose(found.x.numpy(), wdbc.x[:1], rtol=0, atol=1e-6)


def test_a_missing_value_without_a_stated_replacement_is_refused(wdbc: Dataset, values: list[dict[str, float]]) -> None:
    with pytest.raises(RefusedError, match="'mean area' is missing, and the data set states no replacement"):
        Reader(wdbc).read([{name: value for name, value in values[0].items() if name != "mean area"}])


def test_a_long_list_of_names_is_cut(wdbc: Dataset) -> None:
    names = tuple(f"feature number {number} of a wide table" for number in range(3000))
    x = np.zeros((2, 3000), np.float32)
    ends = np.zeros(3000, np.float32), np.ones(3000, np.float32)
    wide = replace(
        wdbc, x=x, y=np.array([0, 1]), feature_names=names, features=(), low=ends[0], high=ends[1], part_of=None
    )
    with pytest.raises(RefusedError) as refused:
        Reader(wide).read([{SECRET: 1}])
    assert len(str(refused.value)) < 4000 and "more, which the metadata name" in str(refused.value)


def test_a_table_without_stated_scales_is_read_in_the_units_of_the_model(wdbc: Dataset) -> None:
    bare = replace(wdbc, features=())
    record = dict(zip(wdbc.feature_names, np.asarray(wdbc.x)[3].tolist(), strict=True))
    found = Reader(bare).read([record])
    np.testing.assert_array_equal(found.x.numpy(), wdbc.x[3:4])
    assert found.warnings == (("values were taken as inputs of the model, in standard deviations of the feature",),)


def test_categories_without_an_input_are_known(wdbc: Dataset) -> None:
    features = (
        Feature(name="sex", column="sex", kind="category", categories=("0", "1")),
        *(Feature(name=f"cp={n}", column="cp", kind="category", categories=("1", "2", "3", "4")) for n in (2, 3, 4)),
    )
    small = replace(
        wdbc,
        x=np.zeros((2, 4), np.float32),
        y=np.array([0, 1]),
        feature_names=tuple(feature.name for feature in features),
        features=features,
        low=np.zeros(4, np.float32),
        high=np.ones(4, np.float32),
    )
    sent = [{"sex": 1, "cp": 1}, {"sex": "0", "cp": "3"}, {"sex": 1.0, "cp": 4}]
    assert Reader(small).read(sent).x.tolist() == [[1, 0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1]]


Make = Callable[..., Reader]


@pytest.fixture(scope="module")
def reader(wdbc: Dataset) -> Make:
    def made(**rule: Any) -> Reader:
        return Reader(wdbc, train=np.arange(400), rule=AbstentionRule(**rule))

    return made


def beyond(wdbc: Dataset, **steps: float) -> list[float]:
    """A record in the middle of the training range, of which some inputs lie so many widths above it."""
    train = np.asarray(wdbc.x)[:400].astype(float)
    record = train.mean(0)
    for name, widths in steps.items():
        place = wdbc.feature_names.index(name.replace("_", " "))
        record[place] = train.max(0)[place] + widths * np.ptp(train[:, place])
    return record.tolist()


def test_values_outside_the_training_range_are_answered_with_a_warning(wdbc: Dataset, reader: Make) -> None:
    found = reader().read([beyond(wdbc), beyond(wdbc, mean_radius=0.5)])
    assert found.outside == (False, True) and found.abstain == ()
    (warning,) = found.warnings[1]
    assert found.warnings[0] == ()
    raw = load_breast_cancer().data[:400, 0]
    assert warning == (
        f"'mean radius' lies above the range of the training records, {raw.min():.4g} to {raw.max():.4g}"
    )


def test_the_answer_abstains_where_too_much_lies_outside_or_too_far(wdbc: Dataset, reader: Make) -> None:
    three = {"mean_radius": 0.1, "mean_area": 0.1, "mean_texture": 0.1}
    assert "more than 2 features lie outside" in reader().read([beyond(wdbc, **three)]).abstain[0]
    assert reader(most_features=3).read([beyond(wdbc, **three)]).abstain == ()
    found = reader().read([beyond(wdbc, mean_radius=0.9), beyond(wdbc, mean_radius=1.1)])
    assert found.abstain[0] == "" and "'mean radius' lies more than 1 widths" in found.abstain[1]
    assert reader(most_widths=2).read([beyond(wdbc, mean_radius=1.1)]).abstain == ()


def test_impossible_values_are_refused(wdbc: Dataset, reader: Make) -> None:
    for widths in (30.0, 1e30, -3.0):
        with pytest.raises(RefusedError, match="record 1: 'mean radius' is not a number from 0 to"):
            reader().read([beyond(wdbc), beyond(wdbc, mean_radius=widths)])
    for value in (float("nan"), float("inf"), 1e38):
        x = np.asarray(wdbc.x)[:2].copy()
        x[1, 4] = value
        with pytest.raises(RefusedError, match="record 1: 'mean smoothness'"):
            reader().take(x)


def test_training_records_of_a_private_model_are_not_told(wdbc: Dataset) -> None:
    by_radius = np.argsort(np.asarray(wdbc.x)[:, 0])
    x = np.asarray(wdbc.x)[by_radius[-1:]].copy()
    assert Reader(wdbc, train=by_radius[:400]).take(x).outside == (True,)
    assert Reader(wdbc, train=None).take(x).outside == ()
    x[0, 0] = wdbc.high[0] + 0.5
    (warning,) = Reader(wdbc, train=None).take(x).warnings[0]
    assert warning == "'mean radius' lies above the range of valid inputs, 0 to 28.11"


def test_warnings_are_bounded(wdbc: Dataset, reader: Make) -> None:
    record = beyond(wdbc, **{name.replace(" ", "_"): 0.2 for name in wdbc.feature_names})
    (warnings,) = reader().read([record]).warnings
    assert len(warnings) == 9 and warnings[-1].startswith("22 more features")


def test_binary_tensors_are_judged_alike(wdbc: Dataset) -> None:
    x = np.asarray(wdbc.x)[:4]
    np.testing.assert_array_equal(Reader(wdbc).take(x).x.numpy(), x)
    for wrong in (x[:, :29], x[:0], x[0], np.repeat(x, 100, axis=0)):
        with pytest.raises(RefusedError):
            Reader(wdbc).take(wrong)


def test_columns_are_described(ward: Dataset) -> None:
    assert Reader(ward).columns is not None
    described = {one["name"]: one for one in Reader(ward).columns.describe()}  # type: ignore[union-attr]
    assert described["age"]["unit"] == "years" and "mo" in described["age"]["units"]
    assert described["stage"]["categories"] == ["I", "II", "III"]
    assert described["ward"]["categories"] == ["east", "north", "south", "missing"]
    assert (described["sex"]["may_be_missing"], described["height"]["may_be_missing"]) == (False, True)
