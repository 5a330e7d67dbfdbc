"""Nested lists become an array of exactly the shape of records, or are refused before NumPy sees them."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.inputs import numbers
from serve.inputs.numbers import array_of, number_of, records_in, tensor_of
from serve.refusals import RefusedError

SECRET = "Ada Lovelace"


@pytest.mark.parametrize("shape", [(3,), (1, 2), (2, 1, 3), (1, 4, 4)])
def test_numbers_become_the_array_that_numpy_makes(shape: tuple[int, ...]) -> None:
    expected = np.arange(5.0 * np.prod(shape)).reshape(5, *shape) / 7
    found = array_of(expected.tolist(), shape, most=5)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(array_of(np.arange(6).reshape(2, 3).tolist(), (3,), most=2), [[0, 1, 2], [3, 4, 5]])


REFUSED: list[Any] = [
    [[1.0, 2.0, "3"]],
    [[1.0, 2.0, True]],
    [[1.0, 2.0, None]],
    [[1.0, 2.0, {}]],
    [[1.0, 2.0, []]],
    [[1.0, 2.0, [1.0]]],
    [[1.0, 2.0]],
    [[1.0, 2.0, 3.0, 4.0]],
    [[1.0, 2.0, 3.0], [1.0, 2.0]],
    [[1.0, 2.0, 3.0], 4.0],
    [[1.0, 2.0, 3.0], "abc"],
    [1.0, 2.0, 3.0],
    [[[1.0], [2.0], [3.0]]],
    [[1.0, 2.0, float("nan")]],
    [[1.0, 2.0, float("inf")]],
    [[1.0, 2.0, 10**400]],
    [],
    {},
    None,
    "abc",
    {"0": [1.0, 2.0, 3.0]},
    [SECRET],
    [[SECRET, SECRET, SECRET]],
    [[1.0, 2.0, 3.0]] * 5,
]


@pytest.mark.parametrize("sent", REFUSED)
def test_all_else_is_refused_without_a_word_of_it(sent: Any) -> None:
    with pytest.raises(RefusedError) as refused:
        array_of(sent, (3,), most=4)
    assert refused.value.status == 422
    assert SECRET not in str(refused.value) and len(str(refused.value)) < 300


def test_the_record_at_fault_is_named() -> None:
    with pytest.raises(RefusedError, match=r"record 2 .* position 1 of 3"):
        array_of([[1.0] * 3, [1.0] * 3, [1.0, "a", 1.0]], (3,), most=9)
    with pytest.raises(RefusedError, match=r"record 1 is not of the shape .* 2 × 2"):
        array_of([[[1.0, 1], [1, 1]], [[1.0, 1], [1]]], (2, 2), most=9)


@pytest.mark.parametrize(
    "sent",
    [
        [["x" * 800_000, *[""] * 29]],
        [["x"] * 200_000] * 2,
        [["x" * 400_000] + [0.0] * 29] * 256,
        [[0.0] * 500_000],
        [[[0.0]] * 500_000],
        [[10**300] * 30] * 200 + [[10**5000] * 30],
    ],
)
def test_a_refusal_takes_no_memory(sent: Any) -> None:
    tracemalloc.start()
    with pytest.raises(RefusedError):
        array_of(sent, (30,), most=256)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_numpy_never_sees_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers.np, "array", lambda *_: pytest.fail("an array was made"))
    for sent in ([["a"] * 30], [["0.5"] * 30], [[True] * 30], [[0.0] * 29 + ["0"]]):
        with pytest.raises(RefusedError):
            array_of(sent, (30,), most=256)


_ITEMS = st.recursive(
    st.none()
    | st.booleans()
    | st.text(max_size=3)
    | st.integers()
    | st.integers(min_value=10**308)
    | st.floats()
    | st.dictionaries(st.text(max_size=1), st.integers(), max_size=1),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=10,
)
_FLOATS = st.floats(allow_nan=False, allow_infinity=False)
_RECORDS = st.lists(st.lists(st.lists(_FLOATS | st.integers(-99, 99), min_size=2, max_size=2), min_size=2, max_size=2))


def _allowed(sent: Any, shape: tuple[int, ...]) -> bool:
    """Whether a value is a list, nested as a shape says, of finite numbers: the definition, value by value."""
    if not shape:
        return type(sent) in (int, float) and -1.8e308 < sent < 1.8e308
    return type(sent) is list and len(sent) == shape[0] and all(_allowed(one, shape[1:]) for one in sent)


@settings(max_examples=400, deadline=None)
@given(st.lists(_ITEMS, max_size=3) | _ITEMS | _RECORDS, st.sampled_from([(2,), (1,), (2, 2), (1, 2)]))
def test_an_array_is_made_exactly_of_records_of_the_shape(sent: Any, shape: tuple[int, ...]) -> None:
    wanted = type(sent) is list and 0 < len(sent) <= 2 and _allowed(sent, (len(sent), *shape))
    try:
        found = array_of(sent, shape, most=2)
    except RefusedError:
        assert not wanted
    else:
        assert wanted
        assert found.tolist() == np.array(sent, np.float64).tolist() and found.shape == (len(sent), *shape)


@pytest.mark.parametrize(
    "shape",
    [
        [9223372036854775807, 30],
        [4294967296, 4294967296],
        [-1, 30],
        [0, 30],
        [float("inf"), 30],
        [10**4999, 30],
        ["1", "30"],
        [True, 30],
        [1.0, 30],
        [1, 30.0],
        [1, 29],
        [30],
        [1, 30, 1],
        [],
        None,
        "1,30",
        {"0": 1},
        [0] * 500_000,
    ],
)
def test_a_shape_is_whole_numbers_that_fit_the_model(shape: Any) -> None:
    with pytest.raises(RefusedError) as refused:
        records_in(shape, (30,), most=256)
    assert len(str(refused.value)) < 200
    with pytest.raises(RefusedError):
        tensor_of([0.0] * 30, shape, (30,), most=256)


def test_tensors_are_flat_or_nested() -> None:
    x = np.arange(12.0).reshape(2, 2, 3)
    for data in (x.tolist(), x.flatten().tolist()):
        np.testing.assert_array_equal(tensor_of(data, [2, 2, 3], (2, 3), most=2), x)
    for data in ([], x.tolist()[:1], x.flatten().tolist()[:-1], [*x.flatten().tolist(), 0.0], {}, None, "a", [["a"]]):
        with pytest.raises(RefusedError):
            tensor_of(data, [2, 2, 3], (2, 3), most=2)
    with pytest.raises(RefusedError):
        tensor_of([True] * 12, [2, 2, 3], (2, 3), most=2)


@pytest.mark.parametrize(("value", "number"), [(1, 1.0), (0.5, 0.5), (5e-324, 5e-324), (1e308, 1e308)])
def test_numbers_are_numbers(value: Any, number: float) -> None:
    assert number_of(value) == number


@pytest.mark.parametrize("value", [True, False, None, "1", [1], {}, float("nan"), float("inf"), 10**400])
def test_other_values_are_none(value: Any) -> None:
    assert number_of(value) is None
