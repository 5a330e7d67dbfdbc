"""Signals come with their sampling rate and unit; texts are valid Unicode."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.data.base import Dataset
from assay.data.planted.ecg import PlantedECG
from assay.data.text.sources import TextFile
from assay.data.text.words import words_of
from serve.inputs.read import Reader
from serve.refusals import RefusedError

SECRET = "Ada Lovelace"


@pytest.fixture(scope="module")
def ecg() -> Dataset:
    return PlantedECG(size=20).load()


def test_signals_are_the_records_of_the_data_set(ecg: Dataset) -> None:
    x = np.asarray(ecg.x)[:3]
    reader = Reader(ecg)
    for sent in (
        [{"signal": one.tolist(), "rate": 360} for one in x],
        [{"signal": one[0].tolist(), "rate": 360.0, "unit": "mV"} for one in x],
        [{"signal": (1000.0 * one[0].astype(float)).tolist(), "rate": 360, "unit": "uV"} for one in x],
        x.tolist(),
    ):
        found = reader.read(sent)
        np.testing.assert_allclose(found.x.numpy(), x, atol=1e-6)
        assert found.warnings == ()
    found = reader.read([{"signal": x[0].tolist()}])
    assert found.warnings == (("the sampling rate is not given: 360 samples a second were assumed",),)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rate": 250}, "rate must be 360 samples a second, with 252 samples"),
        ({"rate": "360"}, "rate must be 360"),
        ({"rate": True}, "rate must be 360"),
        ({"rate": float("inf")}, "rate must be 360"),
        ({"signal": [0.0] * 251}, "record 1: it is not of the shape"),
        ({"signal": [0.0] * 251 + [SECRET]}, "record 1: it holds something else than finite numbers"),
        ({"signal": [[0.0] * 252] * 2}, "record 1: it is not of the shape"),
        ({"signal": SECRET}, "record 1"),
        ({"signal": None}, "record 1"),
        ({"unit": "kg"}, "unit must be mV"),
        ({"unit": 7}, "unit must be mV"),
        ({"unit": SECRET}, "unit must be mV"),
        ({"lead": "II"}, "record 1 must be a list of numbers"),
        ({"signal": [900.0] * 252}, "is not a number from"),
    ],
)
def test_other_signals_are_refused(ecg: Dataset, changed: dict[str, Any], message: str) -> None:
    good = {"signal": np.asarray(ecg.x)[0].tolist(), "rate": 360}
    with pytest.raises(RefusedError, match=message) as refused:
        Reader(ecg).read([good, {**good, **changed}])
    assert SECRET not in str(refused.value) and "record 1" in str(refused.value)


def test_where_no_rate_is_stated_none_is_taken(ecg: Dataset) -> None:
    bare = replace(ecg, rate=None)
    signal = np.asarray(ecg.x)[0].tolist()
    assert Reader(bare).read([{"signal": signal}]).warnings == ()
    with pytest.raises(RefusedError, match="states no sampling rate"):
        Reader(bare).read([{"signal": signal, "rate": 360}])


def test_a_signal_beyond_its_bounds_is_answered_with_a_warning(ecg: Dataset) -> None:
    x = np.asarray(ecg.x)[:2].copy()
    x[0, 0, 5] = 3.5
    x[1, 0, :40] = -3.5
    found = Reader(ecg).take(x)
    assert found.outside == (True, True)
    assert found.warnings[0] == ("1 of 252 values lie outside -3 to 3 (mV)",)
    assert found.abstain == ("", "more than 5% of the values lie outside the range")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("texts") / "texts.csv"
    path.write_text("text,label\n" + "\n".join(["a dull film,0", "a fine film,1"] * 8))
    source = TextFile(path=str(path), embedding={"name": "learned", "dimension": 4})
    return source.load().prepared(np.arange(16), seed=0)


def test_texts_are_the_records_of_the_data_set(texts: Dataset, tmp_path: Path) -> None:
    found = Reader(texts).read(["A fine film!", "dull 😀"])
    assert texts.language is not None
    np.testing.assert_array_equal(
        found.x, texts.language.encode([words_of(one) for one in ("A fine film!", "dull 😀")])
    )
    assert found.words is not None and found.words[0][:3] == ["a", "fine", "film"]


@pytest.mark.parametrize(
    "sent",
    [["gut \ud800"], ["gut \udc00"], ["a", "\ud83d"], ["  "], [""], [7], [None], [["a"]], [{"text": "a"}], [True]],
)
def test_what_is_no_text_is_refused(texts: Dataset, sent: list[Any]) -> None:
    with pytest.raises(RefusedError) as refused:
        Reader(texts).read(sent)
    assert f"record {len(sent) - 1}" in str(refused.value)
    str(refused.value).encode()


def test_a_model_of_texts_takes_no_tensor(texts: Dataset) -> None:
    with pytest.raises(RefusedError, match="reads texts"):
        Reader(texts).take(np.zeros((1, 4), np.float32))
