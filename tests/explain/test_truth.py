"""Measures against a known truth: closed forms, ties over all orders, empty maps, padding, and nothing in place."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from assay.explain.measures.truth import (
    average_precision,
    enrichment,
    known_mean,
    pointing_game,
    relevance_mass,
    relevance_rank,
)

Measure = Callable[..., Tensor]
ALL: list[Measure] = [relevance_mass, relevance_rank, pointing_game, average_precision, enrichment]


def one(measure: Measure, values: list[float], truth: list[int]) -> float:
    return float(measure(torch.tensor([values]), torch.tensor([truth]).bool()))


@pytest.mark.parametrize(
    ("measure", "right"),
    [
        (relevance_mass, 7 / 10),
        (enrichment, 7 / 10 * 4 / 2),
        (relevance_rank, 1 / 2),
        (pointing_game, 1.0),
        (average_precision, (1 + 2 / 3) / 2),
    ],
)
def test_a_map_of_four_features_in_closed_form(measure: Measure, right: float) -> None:
    assert one(measure, [5, 3, -2, 0], [1, 0, 1, 0]) == pytest.approx(right)


@pytest.mark.parametrize("measure", ALL)
def test_a_map_on_the_truth_alone_is_perfect(measure: Measure) -> None:
    expected = 8 / 3 if measure is enrichment else 1.0
    assert one(measure, [0, 0, -2, 1, 0, 0, 3, 0], [0, 0, 1, 1, 0, 0, 1, 0]) == pytest.approx(expected)


@pytest.mark.parametrize("share", [1, 7, 35, 99])
def test_a_uniform_map_is_enriched_once_whatever_the_size_of_the_truth(share: int) -> None:
    truth = (torch.arange(100) < share).expand(3, 100)
    assert enrichment(torch.full((3, 100), -0.3), truth).tolist() == pytest.approx([1.0] * 3)


@pytest.mark.parametrize("measure", [relevance_rank, pointing_game, average_precision])
@pytest.mark.parametrize("values", [[1, 1, 1, 1, 1], [2, 1, 1, 1, 0], [3, 3, 1, 1, 1], [0, 0, 5, 0, 0]])
def test_ties_count_as_the_mean_over_all_orders(measure: Measure, values: list[float]) -> None:
    truth = [1, 0, 1, 0, 1]
    # Tiny differences in every order break the ties, without moving what is not tied.
    broken = [
        one(measure, [v + 1e-4 * o for v, o in zip(values, order, strict=True)], truth)
        for order in itertools.permutations(range(1, 6))
    ]
    assert one(measure, values, truth) == pytest.approx(np.mean(broken), abs=1e-9)


def test_average_precision_without_ties_is_that_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    values, truth = torch.randn(20, 40, generator=generator), torch.rand(20, 40, generator=generator) < 0.3
    expected = [average_precision_score(t, abs(v)) for v, t in zip(values.numpy(), truth.numpy(), strict=True)]
    np.testing.assert_allclose(average_precision(values, truth), expected)


@pytest.mark.parametrize("measure", ALL)
def test_an_empty_map_or_truth_is_left_out_and_counted(measure: Measure) -> None:
    values = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    truth = torch.tensor([[1, 0, 0], [1, 0, 0], [0, 0, 0]]).bool()
    found = known_mean(measure(values, truth))
    assert (found.n, found.left_out) == (1, 2)
    assert found.value == (3.0 if measure is enrichment else 1.0)
    nothing = known_mean(measure(values[1:], truth[1:]))
    assert (nothing.n, nothing.left_out) == (0, 2)
    assert math.isnan(nothing.value)


@pytest.mark.parametrize("measure", ALL)
def test_a_record_is_measured_alike_alone_and_in_any_batch(measure: Measure) -> None:
    generator = torch.Generator().manual_seed(1)
    values, truth = torch.randn(6, 1, 5, 5, generator=generator), torch.rand(6, 1, 5, 5, generator=generator) < 0.2
    values[2] = 0
    whole = measure(values, truth)
    alone = torch.cat([measure(values[row : row + 1], truth[row : row + 1]) for row in range(6)])
    torch.testing.assert_close(whole, alone, equal_nan=True, rtol=0, atol=0)
    loud = values.clone()
    loud[0] *= 1e6
    torch.testing.assert_close(measure(loud, truth), whole, equal_nan=True)


@pytest.mark.parametrize("measure", ALL)
def test_nothing_is_changed_in_place(measure: Measure) -> None:
    values, truth = torch.tensor([[1.0, -2.0, 0.0]]), torch.tensor([[True, False, False]])
    features = torch.tensor([[True, True, False]])
    before = [given.clone() for given in (values, truth, features)]
    measure(values, truth, features)
    assert all(torch.equal(*pair) for pair in zip((values, truth, features), before, strict=True))


@pytest.mark.parametrize("measure", ALL)
def test_padding_changes_nothing(measure: Measure) -> None:
    values, truth = torch.tensor([[0.0, 2.0, 2.0, 1.0]]), torch.tensor([[1, 1, 0, 0]]).bool()
    longer = [torch.cat([given, torch.ones_like(given)], 1) for given in (values, truth)]
    found = measure(*longer, torch.arange(8).expand(1, 8) < 4)
    torch.testing.assert_close(found, measure(values, truth))


def test_a_truth_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"truth of shape \(1, 3\) for maps of shape \(1, 4\)"):
        relevance_mass(torch.ones(1, 4), torch.ones(1, 3).bool())
