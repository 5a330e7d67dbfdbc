"""Means and deviations from sums of sites: those of all records, and nothing learnt from other records."""

from typing import Any

import numpy as np
import pytest

from assay.data.base import Dataset
from assay.data.standardisation import Moments, Standardisation
from assay.recipes import Federation

SITES = np.array(["a", "b", "c"])
N = 90


def dataset(**about: Any) -> Dataset:
    generator = np.random.default_rng(0)
    site = SITES[np.arange(N) % 3]
    x = generator.normal(100, 10, (N, 2)) * np.where(site == "a", 1, 3)[:, None]
    given: dict[str, Any] = {
        "name": "made",
        "x": np.column_stack([x, np.full(N, 7.0)]).astype(np.float32),
        "y": np.arange(N) % 2,
        "class_names": ("well", "ill"),
        "feature_names": ("u", "v", "w"),
        "low": np.zeros(3, np.float32),
        "high": np.full(3, 1000, np.float32),
        "units": "units",
        "epsilons": (0.0,),
        "site": site,
    }
    return Dataset(**{**given, **about})


TRAIN = np.arange(60)


def test_sums_of_sites_give_mean_and_deviation_of_all_records() -> None:
    x = np.random.default_rng(1).normal(250, 50, (500, 3))
    parts = np.split(np.arange(500), [1, 20, 300])
    together = sum((Moments.of(x[part]) for part in parts), Moments.none(3))
    np.testing.assert_allclose(together.mean, x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(together.deviation, x.std(0, ddof=1), rtol=1e-10)


@pytest.mark.parametrize("values", [[3.3] * 7, [0.0] * 5, [1e6 + 0.1] * 9, [4.2]])
def test_a_feature_that_does_not_vary_is_divided_by_one(values: list[float]) -> None:
    assert Moments.of(np.array(values)[:, None]).deviation.tolist() == [1.0]


def test_by_site_each_site_has_mean_zero_and_deviation_one() -> None:
    data = dataset()
    made = Standardisation(how="by_site").fit(data, TRAIN, seed=0)
    for site in SITES:
        own = TRAIN[data.site[TRAIN] == site]  # type: ignore[index]
        raw = np.asarray(data.x, float)
        expected = (raw[data.site == site] - raw[own].mean(0)) / [*raw[own, :2].std(0, ddof=1), 1.0]
        np.testing.assert_allclose(np.asarray(made.x)[data.site == site], expected, atol=1e-5)
    assert made.unpaid_preprocessing
    assert made.preparation is None
    assert (made.low < made.high).all()


def test_federated_is_by_the_figures_of_all_training_records() -> None:
    data = dataset()
    made = Standardisation(how="federated").fit(data, TRAIN, seed=0)
    raw = np.asarray(data.x, float)
    expected = (raw[:, :2] - raw[TRAIN, :2].mean(0)) / raw[TRAIN, :2].std(0, ddof=1)
    np.testing.assert_allclose(np.asarray(made.x)[:, :2], expected, atol=1e-5)
    np.testing.assert_allclose(made.low[:2], -raw[TRAIN, :2].mean(0) / raw[TRAIN, :2].std(0, ddof=1), rtol=1e-5)


@pytest.mark.parametrize("how", ["by_site", "federated"])
def test_records_beyond_training_and_other_sites_change_nothing(how: Any) -> None:
    data = dataset()
    changed = np.asarray(data.x).copy()
    changed[60:] = 500
    after = Standardisation(how=how).fit(dataset(x=changed), TRAIN, seed=0)
    before = Standardisation(how=how).fit(data, TRAIN, seed=0)
    assert np.array_equal(np.asarray(after.x)[:60], np.asarray(before.x)[:60])
    own = data.site == "a"
    changed = np.asarray(data.x).copy()
    changed[~own] *= 2
    elsewhere = Standardisation(how=how).fit(dataset(x=changed), TRAIN, seed=0)
    assert np.array_equal(np.asarray(elsewhere.x)[own], np.asarray(before.x)[own]) == (how == "by_site")


def test_a_site_without_training_records_uses_the_figures_of_all() -> None:
    data = dataset()
    train = TRAIN[data.site[TRAIN] != "c"]  # type: ignore[index]
    by_site = Standardisation(how="by_site").fit(data, train, seed=0)
    together = Standardisation(how="federated").fit(data, train, seed=0)
    rows = data.site == "c"
    assert np.array_equal(np.asarray(by_site.x)[rows], np.asarray(together.x)[rows])
    assert "c, without training records" in by_site.preprocessing


@pytest.mark.parametrize(
    ("how", "federation", "possible"),
    [
        ("by_site", Federation(partition="natural"), True),
        ("by_site", Federation(partition="natural", by="patient"), False),
        ("by_site", Federation(), False),
        ("federated", Federation(), True),
    ],
)
def test_clients_learn_by_site_only_where_each_is_a_site(how: Any, federation: Federation, possible: bool) -> None:
    assert (Standardisation(how=how).pools(federation) == "") is possible
    assert "no ε is charged" in Standardisation(how=how).owes()
