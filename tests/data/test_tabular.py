"""Wisconsin breast cancer: the fixed figures are the published ones."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from assay.data.base import Dataset
from assay.data.tabular import WDBC_DEVIATION, WDBC_MAXIMUM, WDBC_MEAN, WisconsinBreastCancer

RAW = load_breast_cancer()


@pytest.mark.parametrize(
    ("stated", "true"),
    [
        pytest.param(WDBC_MEAN, RAW.data.mean(0), id="mean"),
        pytest.param(WDBC_DEVIATION, RAW.data.std(0), id="standard deviation"),
        pytest.param(WDBC_MAXIMUM, RAW.data.max(0), id="maximum"),
    ],
)
def test_stated_figures_are_the_published_ones_to_six_digits(stated: tuple[float, ...], true: np.ndarray) -> None:
    assert list(stated) == [float(f"{value:.6g}") for value in true]


def test_one_is_malignant(wdbc: Dataset) -> None:
    assert wdbc.y.sum() == 212
    assert len(wdbc) == WisconsinBreastCancer.records == 569
    assert wdbc.class_names[1] == "malignant"
    assert np.array_equal(wdbc.y == 1, RAW.target == list(RAW.target_names).index("malignant"))


def test_every_record_lies_within_the_bounds(wdbc: Dataset) -> None:
    assert (wdbc.x >= wdbc.low).all()
    assert (wdbc.x <= wdbc.high).all()


def test_bounds_are_zero_and_the_published_maximum(wdbc: Dataset) -> None:
    mean, deviation = np.array(WDBC_MEAN), np.array(WDBC_DEVIATION)
    np.testing.assert_allclose(wdbc.low * deviation + mean, 0, atol=1e-5 * mean.max())
    np.testing.assert_allclose(wdbc.high * deviation + mean, WDBC_MAXIMUM, rtol=2e-6)


def test_records_can_be_turned_back_into_the_published_ones(wdbc: Dataset) -> None:
    np.testing.assert_allclose(
        wdbc.x * np.array(WDBC_DEVIATION) + np.array(WDBC_MEAN), RAW.data, rtol=1e-5, atol=1e-6 * RAW.data.max(0).min()
    )
    assert wdbc.feature_names == tuple(RAW.feature_names)


def test_the_scaling_is_public_and_paid_for(wdbc: Dataset) -> None:
    assert not wdbc.unpaid_preprocessing
    assert "published mean" in wdbc.preprocessing
    assert wdbc.epsilons[0] == 0.0


def test_arrays_have_the_promised_types(wdbc: Dataset) -> None:
    assert wdbc.x.dtype == wdbc.low.dtype == wdbc.high.dtype == np.float32
    assert wdbc.y.dtype == np.int64
    assert wdbc.shape == (30,)
    assert wdbc.classes == 2


def test_the_digest_is_the_same_at_every_load(wdbc: Dataset) -> None:
    assert WisconsinBreastCancer().load().digest == wdbc.digest
