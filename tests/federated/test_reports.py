"""What a client reports is refused where it would spoil an average; ordinary reports pass."""

import math

import numpy as np
import pytest

from assay.federated.reports import (
    LARGEST,
    Expected,
    capped_count,
    dominating,
    fault_in_array,
    fault_in_arrays,
    fault_in_count,
)

WEIGHTS = Expected(shape=(3,), dtypes=frozenset({"float32"}))
COUNTER = Expected(shape=(), dtypes=frozenset({"float64", "int64"}))
GOOD = np.array([1.0, -2.0, 3.0], np.float32)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([1, np.nan, 3], np.float32), "1 values that are not finite"),
        (np.array([np.inf, -np.inf, 3], np.float32), "2 values that are not finite"),
        (np.array([1, 2, 1e38], np.float32), "beyond"),
        (np.array([1, 2, -1e38], np.float32), "beyond"),
        (GOOD[:2], "shape"),
        (GOOD[None], "shape"),
        (GOOD.astype(np.float64), "float64"),
        (GOOD.astype(np.float16), "float16"),
        (GOOD.astype(np.int64), "int64"),
        (GOOD.astype(np.complex64), "no real number"),
        (np.array(["a", "b", "c"]), "no real number"),
        (np.array([1, 2, 3], dtype=object), "no real number"),
    ],
)
def test_an_array_that_would_spoil_the_average_is_refused(array: np.ndarray, words: str) -> None:
    assert words in fault_in_array(array, WEIGHTS)
    assert words in fault_in_arrays({"w": array}, {"w": WEIGHTS})


@pytest.mark.parametrize("array", [GOOD, np.full(3, LARGEST, np.float32) * 0.5, np.zeros(3, np.float32)])
def test_ordinary_weights_pass(array: np.ndarray) -> None:
    assert fault_in_array(array, WEIGHTS) == ""


def test_a_flat_vector_of_all_weights_is_checked_in_the_same_way() -> None:
    expected = Expected(shape=(10_000,), dtypes=frozenset({"float64"}))
    vector = np.zeros(10_000)
    assert fault_in_array(vector, expected) == ""
    vector[-1] = math.nan
    assert "not finite" in fault_in_array(vector, expected)


def test_keys_are_those_expected_in_any_order() -> None:
    expected = {"w": WEIGHTS, "n": COUNTER}
    assert fault_in_arrays({"n": np.array(4), "w": GOOD}, expected) == ""
    assert fault_in_arrays({"w": GOOD}, expected) == "lacks 'n'"
    assert fault_in_arrays({}, expected) == "lacks 'n', 'w'"
    assert fault_in_arrays({"w": GOOD, "n": np.array(4.0), "x": GOOD}, expected) == "has the unknown 'x'"
    assert fault_in_arrays({"anything": GOOD}, None) == ""


def test_bytes_of_a_serialised_model_have_any_length() -> None:
    expected = Expected(shape=None, dtypes=frozenset({"uint8"}))
    assert fault_in_array(np.zeros(0, np.uint8), expected) == fault_in_array(np.zeros(9, np.uint8), expected) == ""


@pytest.mark.parametrize("claimed", [0, -300, math.nan, math.inf, 1e9, 10**9, True, "7", [7], None])
def test_a_count_that_is_no_count_is_refused(claimed: object) -> None:
    assert fault_in_count(claimed)


@pytest.mark.parametrize("claimed", [1, 7.0, 0.5, 10**6])
def test_an_ordinary_count_is_believed(claimed: float) -> None:
    assert fault_in_count(claimed) == ""


def test_nobody_has_more_records_than_the_server_knows() -> None:
    assert capped_count(10_000, 80) == (80, True)
    assert capped_count(64, 80) == (64, False)
    assert capped_count(10_000, None) == (10_000, False)


def test_a_client_that_decides_alone_is_named() -> None:
    assert dominating({1: 10, 2: 12, 3: 10_000}) == 3
    assert dominating({1: 10, 2: 12, 3: 60}) is None
    assert dominating({1: 10, 2: 10_000}) is None, "one of two may be a large hospital"
