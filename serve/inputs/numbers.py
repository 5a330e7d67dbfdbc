"""Arrays from nested lists of numbers, with one exact shape.

Types and lengths are checked before NumPy sees a value: of a list with texts NumPy would make an array of texts, each
as wide as the longest, and of truth values numbers.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from serve.refusals import RefusedError

_NUMBERS = ({int, float}, {int}, {float})


def array_of(given: Any, shape: Sequence[int], *, most: int) -> np.ndarray:
    """Converts records to an array.

    Args:
        given: a list of records, each a list nested as ``shape`` says.
        shape: of a record.
        most: greatest number of records.

    Returns:
        (n, *shape) float64, all finite.

    Raises:
        RefusedError: there are no or too many records, a level is no list or of another length, or a value is no
            finite number. Names the record.
    """
    refuse_count(given, most=most)
    values: list[Any] = given
    for depth, length in enumerate(shape):
        # A list of another length is refused before it is joined to the others, so what is built here is never larger
        # than the records that are allowed.
        if set(map(type, values)) != {list} or set(map(len, values)) != {length}:
            raise _misshapen(given, shape, depth)
        values = list(chain.from_iterable(values))
    return _as_float(values, shape).reshape(len(given), *shape)


def tensor_of(data: Any, shape: Any, form: Sequence[int], *, most: int) -> np.ndarray:
    """Converts the data of a tensor of the Open Inference Protocol, flat in row-major order or nested.

    Args:
        data: the numbers.
        shape: as it was sent: number of records, then the shape of a record.
        form: shape of a record of the model.
        most: greatest number of records.

    Returns:
        (n, *form) float64, all finite.

    Raises:
        RefusedError: the shape is not that of records of the model, or the data are not as many finite numbers.
    """
    count = records_in(shape, form, most=most)
    if type(data) is not list:
        raise RefusedError("the data of a tensor must be a list of numbers")
    size = int(np.prod(form))
    if data and type(data[0]) is list:
        array = array_of(data, form, most=most)
        if len(array) != count:
            raise RefusedError(f"the data hold {len(array)} records, and shape says another number")
        return array
    if len(data) != count * size:
        raise RefusedError(f"the data must hold as many numbers as shape says, {size} for each record")
    return _as_float(data, form).reshape(count, *form)


def records_in(shape: Any, form: Sequence[int], *, most: int) -> int:
    """Returns the number of records that the shape of a tensor states.

    Args:
        shape: as it was sent.
        form: shape of a record of the model.
        most: greatest number of records.

    Returns:
        The number, from 1 to ``most``.

    Raises:
        RefusedError: it is no list of whole numbers, or not the shape of records of the model.
    """
    axes = ", ".join(["records", *map(str, form)])
    wanted = f"shape must be [{axes}], whole numbers, with 1 to {most} records"
    if type(shape) is not list or len(shape) != len(form) + 1 or set(map(type, shape)) != {int}:
        raise RefusedError(wanted, reason="shape")
    if shape[1:] != list(form) or not 1 <= shape[0] <= most:
        raise RefusedError(wanted, reason="shape")
    return int(shape[0])


def number_of(value: Any) -> float | None:
    """Returns a value as a finite number; None if it is none. Truth values and texts are not numbers.

    Args:
        value: of parsed JSON.

    Returns:
        The number, or None.
    """
    if type(value) is not float and type(value) is not int:
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if abs(number) != np.inf and number == number else None  # noqa: PLR0124 - NaN differs from itself


def refuse_count(given: Any, *, most: int) -> None:
    """Raises unless records are a list of one to ``most``.

    Args:
        given: as it was sent.
        most: greatest number of records.

    Raises:
        RefusedError: they are not.
    """
    if type(given) is not list or not given:
        raise RefusedError("records must be a list with at least one record")
    if len(given) > most:
        raise RefusedError(f"at most {most} records a call; {len(given)} were sent", reason="too_many_records")


def _as_float(values: list[Any], shape: Sequence[int]) -> np.ndarray:
    """Returns (values,) float64 of numbers, which are ordered by record."""
    if set(map(type, values)) not in _NUMBERS:
        raise _no_number(values, shape)
    try:
        array = np.array(values, np.float64)
    except OverflowError:  # a whole number beyond float64
        raise _no_number(values, shape) from None
    if not np.isfinite(array).all():
        raise _no_number(values, shape)
    return array


def _no_number(values: list[Any], shape: Sequence[int]) -> RefusedError:
    place = next((place for place, value in enumerate(values) if number_of(value) is None), 0)
    size = max(int(np.prod(shape)), 1)
    return RefusedError(
        f"record {place // size} holds something else than finite numbers, at position {place % size} of {size}; "
        "texts, truth values and null are not numbers",
        reason="not_a_number",
    )


def _misshapen(given: list[Any], shape: Sequence[int], depth: int) -> RefusedError:
    """Returns the error of the first record that has another shape, of which ``depth`` axes are right everywhere."""
    inner = int(np.prod(shape[:depth]))
    values: list[Any] = given
    for _ in range(depth):
        values = list(chain.from_iterable(values))
    wrong = next(place for place, one in enumerate(values) if type(one) is not list or len(one) != shape[depth])
    written = " × ".join(map(str, shape))
    return RefusedError(
        f"record {wrong // max(inner, 1)} is not of the shape that the model takes: lists of numbers, {written}",
        reason="shape",
    )
