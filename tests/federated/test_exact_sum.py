"""Sums of updates are exact: the same bits in any order, close to float64, and nothing is added that is refused."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from assay.errors import FederationError
from assay.federated.exact_sum import ExactSum, FixedPoint

SIZE = 40_000
"""More than one span of elements that are processed together."""


def vectors(count: int, *, largest: float = 1.0, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        largest * torch.randn(SIZE, generator=generator, dtype=torch.float64).clamp(-4, 4) / 4 for _ in range(count)
    ]


def summed(scale: FixedPoint, values: list[Tensor], weights: list[float]) -> ExactSum:
    total = ExactSum(SIZE, scale)
    for value, weight in zip(values, weights, strict=True):
        total.add(value, weight)
    return total


@given(st.permutations(range(5)), st.integers(1, 4))
def test_order_and_number_of_workers_change_no_bit(order: list[int], workers: int) -> None:
    values, weights = vectors(5, largest=100.0), [1.0, 1000.0, 3.5, 0.25, 77.0]
    scale = FixedPoint.of(weights=weights, largest=2.0**10)
    expected = summed(scale, values, weights)
    together = ExactSum(SIZE, scale)
    for worker in range(workers):
        mine = order[worker::workers]
        own = summed(scale, [values[i] for i in mine], [weights[i] for i in mine])
        together.join(own.total, own.weight)
    assert torch.equal(together.total, expected.total)
    assert torch.equal(together.sum(), expected.sum())
    assert together.weight == expected.weight


@pytest.mark.parametrize("weights", [[50.0] * 4, [10.0, 1000.0], [1.0, 2.0**20], [1e-3, 2e-3], [1.0] * 100])
def test_the_mean_is_within_two_to_the_minus_thirty_of_float64(weights: list[float]) -> None:
    values = vectors(len(weights))
    found = summed(FixedPoint.of(weights=weights, largest=2.0**10), values, weights)
    exact = sum(w * v for w, v in zip(weights, values, strict=True)) / math.fsum(weights)
    error = float((found.mean() - exact).abs().max())
    assert error <= 2.0**-30
    assert error <= found.scale.error_of_mean(weights) + 1e-15


def test_sizes_10_and_1000_weigh_as_they_should() -> None:
    total = ExactSum(1, FixedPoint.of(weights=[10, 1000], largest=2.0**10))
    total.add(torch.zeros(1), 10)
    total.add(torch.ones(1), 1000)
    assert float(total.mean()) == pytest.approx(1000 / 1010, abs=2.0**-30)


def test_values_at_the_limit_do_not_overflow() -> None:
    weights = [5000.0, 5000.0, 500.0]
    scale = FixedPoint.of(weights=weights, largest=2.0**10)
    for sign in (-1.0, 1.0):
        total = summed(scale, [torch.full((SIZE,), sign * 2.0**10)] * 3, weights)
        assert torch.equal(total.mean(), torch.full((SIZE,), sign * 2.0**10, dtype=torch.float64))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 2000.0, -2000.0, 1e38])
@pytest.mark.parametrize("place", [0, SIZE - 1])
def test_what_is_not_finite_or_too_large_is_refused_and_adds_nothing(bad: float, place: int) -> None:
    (good,) = vectors(1)
    scale = FixedPoint.of(weights=[3.0, 3.0], largest=2.0**10)
    total = summed(scale, [good], [3.0])
    before = total.total.clone()
    wrong = good.clone()
    wrong[place] = bad
    with pytest.raises(FederationError, match=r"not finite|more than the limit 1024"):
        total.add(wrong, 3.0)
    with pytest.raises(FederationError):
        total.refuse(wrong, 3.0)
    assert torch.equal(total.total, before)
    assert total.weight == 3.0


@pytest.mark.parametrize("weight", [-300.0, 1e9, float("nan"), float("inf")])
def test_a_weight_that_the_servers_counts_do_not_allow_is_refused(weight: float) -> None:
    total = ExactSum(SIZE, FixedPoint.of(weights=[3.0, 5.0], largest=2.0**10))
    with pytest.raises(FederationError, match=r"not between 0 and 5"):
        total.add(torch.zeros(SIZE), weight)


def test_differences_are_taken_in_float64() -> None:
    """1 + 2**-24 is no float32 number, and a difference of float32 numbers would be rounded."""
    total = ExactSum(1, FixedPoint.of(weights=[1.0], largest=2.0**10))
    total.add(torch.tensor([1e-9]), 1.0, minus=torch.tensor([1.0], dtype=torch.float64))
    assert float(total.mean()) == pytest.approx(1e-9 - 1.0, abs=1e-12)


def test_clients_without_a_record_are_an_error() -> None:
    with pytest.raises(FederationError, match="at least one record"):
        FixedPoint.of(weights=[0, 0], largest=2.0**10)


def test_nothing_added_is_nothing() -> None:
    total = ExactSum(3, FixedPoint.of(weights=[1.0], largest=1.0))
    assert torch.equal(total.mean(), torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize(("size", "minus"), [(7, None), (3, None), (5, 4)])
def test_vectors_of_another_length_are_refused(size: int, minus: int | None) -> None:
    """The compiled loops check no bounds: they would write beyond the end of the sum."""
    total = ExactSum(5, FixedPoint.of(weights=[1.0], largest=2.0))
    with pytest.raises(FederationError, match=f"{size} values cannot be added to a sum of 5"):
        total.add(torch.ones(size), 1.0, minus=None if minus is None else torch.ones(minus))
    assert not total.total.any()
