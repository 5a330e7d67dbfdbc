"""Deletion and insertion curves against a loop over single features of single records."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from assay.explain.measures.curves import ranked, ranks
from assay.explain.scalars import log_odds
from tests.explaining import curves, measured

REPLACEMENT = torch.tensor([[0.5, -0.5, 0.0, 1.0]])


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


@pytest.fixture
def x() -> Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(1))


TARGET = torch.tensor([0, 1, 2, 0, 1, 2])


def odds(model: nn.Module, x: Tensor, target: int) -> float:
    """Log-odds of a class of one record."""
    p = float(model(x[None]).detach().double().softmax(1)[0, target])
    return math.log(p / (1 - p))


def by_hand(model: nn.Module, record: Tensor, target: int, scores: Tensor, *, begin: Tensor, end: Tensor) -> float:
    """Mean of the log-odds while one input after the other changes from ``begin`` to ``end``."""
    current, seen = begin.clone(), []
    for place in [None, *sorted(range(len(record)), key=lambda i: -float(scores[i]))]:
        if place is not None:
            current[place] = end[place]
        seen.append(odds(model, current, target))
    return sum((one + other) / 2 for one, other in pairwise(seen)) / len(record)


def test_curves_are_those_of_a_loop(model: nn.Module, x: Tensor) -> None:
    scores = torch.randn(6, 4, generator=torch.Generator().manual_seed(2))
    found = curves(model, x, TARGET, scores, REPLACEMENT)
    for i in range(6):
        for area, begin, end in ((found.deletion, x[i], REPLACEMENT[0]), (found.insertion, REPLACEMENT[0], x[i])):
            expected = by_hand(model, x[i], int(TARGET[i]), scores[i], begin=begin, end=end)
            assert float(area[i]) == pytest.approx(expected, abs=1e-5)
        assert float(found.whole[i]) == pytest.approx(odds(model, x[i], int(TARGET[i])), abs=1e-5)
        assert float(found.without[i]) == pytest.approx(odds(model, REPLACEMENT[0], int(TARGET[i])), abs=1e-5)


def linear_in_order(inputs: int, values: list[float]) -> tuple[nn.Module, Tensor, Tensor]:
    """A model whose logit of class 1 is the weighted sum of its inputs; a record of ones; its attributions."""
    model = nn.Linear(inputs, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.stack([torch.zeros(inputs), torch.tensor(values)]))
    return model, torch.ones(1, inputs), torch.tensor([values])


def test_the_true_order_beats_every_other_one() -> None:
    model, x, truth = linear_in_order(6, [3.0, 2.0, 1.0, -1.0, -2.0, -3.0])
    target, nothing = torch.tensor([1]), torch.zeros(1, 6)
    generator = torch.Generator().manual_seed(0)
    best = curves(model, x, target, truth, nothing)
    for _ in range(50):
        other = curves(model, x, target, torch.randn(1, 6, generator=generator), nothing)
        assert float(other.deletion) >= float(best.deletion) - 1e-6
        assert float(other.insertion) <= float(best.insertion) + 1e-6


def test_many_inputs_are_taken_fifty_times_at_a_stretch() -> None:
    inputs = 200
    model, x, truth = linear_in_order(inputs, torch.linspace(0.1, -0.1, inputs).tolist())
    calls: list[Tensor] = []
    model.register_forward_hook(lambda _, given, __: calls.append(given[0]))
    curves(model, x, torch.tensor([1]), truth, torch.zeros(1, inputs))
    removed, whole, without, restored = calls
    assert (whole.sum(1).tolist(), without.sum(1).tolist()) == ([200.0], [0.0])
    assert restored.sum(1).tolist() == list(range(4, 200, 4))
    assert removed.sum(1).tolist() == list(range(196, 0, -4))
    assert bool((restored.diff(dim=1) <= 0).all()) and bool((removed.diff(dim=1) >= 0).all())


def test_the_curve_of_a_constant_model_is_its_log_odds() -> None:
    model, x, _ = linear_in_order(4, [0.0] * 4)
    found = curves(model, x, torch.tensor([1]), x, torch.zeros(1, 4))
    assert (float(found.deletion), float(found.insertion), float(found.change)) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("equal", [0.0, -3.0])
def test_a_constant_map_is_worth_exactly_what_the_random_one_is(equal: float, model: nn.Module, x: Tensor) -> None:
    ties = torch.rand(x.shape, generator=torch.Generator().manual_seed(3))
    found = [curves(model, x, TARGET, scores, REPLACEMENT, ties) for scores in (torch.full_like(x, equal), ties)]
    assert torch.equal(found[0].deletion, found[1].deletion)
    assert torch.equal(found[0].insertion, found[1].insertion)


def test_equal_scores_are_in_no_order_of_their_places() -> None:
    scores = torch.zeros(500, 6)
    scores[:, 4] = 1.0
    ties = torch.rand(scores.shape, generator=torch.Generator().manual_seed(0))
    found = ranks(scores, ties)
    assert bool((found[:, 4] == 0).all())
    others = found[:, [0, 1, 2, 3, 5]].double().mean(0)
    assert float((others - 3.0).abs().max()) < 0.25


def test_a_state_of_a_record_is_asked_about_once(model: nn.Module, x: Tensor) -> None:
    asked = []

    class Counting(nn.Module):
        def forward(self, given: Tensor) -> Tensor:
            asked.append(len(given))
            return model(given[:, :4])

    scores = torch.randn(6, 40, generator=torch.Generator().manual_seed(2))
    long, features = torch.cat([x, torch.zeros(6, 36)], 1), torch.arange(40).expand(6, 40) < 4
    replacement = torch.cat([REPLACEMENT, torch.zeros(1, 36)], 1)
    # More steps than a record has features, as in a text that is shorter than others.
    features[0, :10] = True
    found = curves(Counting(), long, TARGET, scores, replacement, features=features)
    # Four features have three states between the ends, and ten have nine, for each of the two curves; the ends are the
    # same for both.
    assert sum(asked) == 2 * (5 * 3 + 9) + 2 * 6
    states = [
        log_odds(model(torch.where(rank_below(scores[:, :4], count), REPLACEMENT, x)), TARGET) for count in range(5)
    ]
    # Each state counts by the share of the features that are replaced in it, not by how often it was asked for.
    expected = torch.trapezoid(torch.stack(states), dx=1 / 4, dim=0)
    assert torch.allclose(found.deletion[1:], expected[1:], atol=1e-5)


def rank_below(scores: Tensor, count: int) -> Tensor:
    """Which entries are among the ``count`` highest of their record."""
    return scores.argsort(dim=1, descending=True).argsort(dim=1) < count


def test_ranks_among_the_ties_of_records_are_those_of_two_stable_sorts(model: nn.Module, x: Tensor) -> None:
    records = measured(model, x, TARGET)
    scores = torch.tensor([1.0, 0.0, 1.0, 0.0]).expand_as(x)
    order = [sorted(range(4), key=lambda k, r=r: (-float(scores[r, k]), -float(records.ties[r, k]))) for r in range(6)]
    expected = [[places.index(k) for k in range(4)] for places in order]
    assert ranked(records, scores).tolist() == expected
    assert torch.equal(ranked(records, scores), ranks(scores, records.ties, records.features))
