"""Copies of a record count once, equal records of different people as often as they are."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from assay.data.base import Dataset
from assay.data.clusters import clusters, copied, copies
from assay.data.splits import LazyRows


def table(x: np.ndarray, **settings: Any) -> Dataset:
    x = np.asarray(x, np.float32)
    defaults: dict[str, Any] = {
        "name": "made",
        "y": np.arange(len(x)) % 2,
        "class_names": ("no", "yes"),
        "feature_names": (),
        "low": np.full(x.shape[1:], x.min() - 1),
        "high": np.full(x.shape[1:], x.max() + 1),
        "units": "units",
        "epsilons": (0.1,),
    }
    return Dataset(x=x, **{**defaults, **settings})


def measured(n: int, features: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, features))


@pytest.mark.parametrize("features", [1, 2, 10])
def test_copies_are_found_wherever_they_stand(features: int) -> None:
    dataset = table(np.tile(measured(40, features), (20, 1)))
    found = copies(dataset, np.arange(800))
    assert np.array_equal(found.reshape(20, 40), np.tile(found[:40], (20, 1)))
    assert len(np.unique(found)) == 40
    assert copied(dataset, np.arange(800)) == 760
    assert copied(dataset, np.arange(40)) == 0
    assert clusters(dataset, np.arange(40)) is None


def test_equal_records_of_a_table_with_few_values_are_other_people() -> None:
    # Three findings, present or not: 500 patients cannot but agree.
    x = np.random.default_rng(0).integers(2, size=(500, 3))
    dataset = table(x)
    assert copied(dataset, np.arange(500)) == 0
    assert clusters(dataset, np.arange(500)) is None
    # Of images as few values are copies all the same: nobody photographs the same pixels twice.
    image = replace(
        dataset, x=x.reshape(500, 1, 1, 3).astype(np.float32), modality="image", low=dataset.low[None, None]
    )
    assert copied(image, np.arange(500)) == 492


def test_a_copy_joins_its_patients_and_patients_join_their_records() -> None:
    x = measured(8, 5)
    x[5] = x[0]  # a record of patient c is a copy of one of patient a
    found = clusters(table(x, groups=np.array(list("aabbccdd"))), np.arange(8))
    assert found is not None
    a, b, c, d = (set(found[i : i + 2].tolist()) for i in (0, 2, 4, 6))
    assert a == c
    assert len(a | b | d) == 3


def test_patients_without_copies_stay_who_they_are() -> None:
    groups = np.array(list("aabbccdd"))
    found = clusters(table(measured(8, 5), groups=groups), np.array([1, 6, 7]))
    assert found is not None
    assert found.tolist() == ["a", "d", "d"]


def test_negative_zero_is_zero_and_the_last_bit_counts() -> None:
    x = measured(4, 3)
    x[0], x[1] = (0.0, 1.0, 2.0), (-0.0, 1.0, 2.0)
    x[2], x[3] = x[0], x[0]
    x = x.astype(np.float32)
    x[3, 1] = np.nextafter(np.float32(1), np.float32(2))
    found = copies(table(x), np.arange(4))
    assert found[0] == found[1] == found[2] != found[3]


def test_records_that_are_decoded_when_asked_for_are_compared_too() -> None:
    x = np.tile(measured(10, 4), (2, 1)).astype(np.float32)

    class Files(LazyRows):
        def fingerprint(self) -> str:
            return ""

    dataset = table(x)
    lazy = replace(dataset, x=Files(x, np.arange(20)))  # type: ignore[arg-type]
    assert copied(lazy, np.arange(20)) == 10
