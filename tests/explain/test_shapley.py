"""Shapley values and interactions against brute force over orders, and in closed form."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from assay.explain.base import ExplanationError
from assay.explain.groups import grouped, spread
from assay.explain.methods.expected_gradients import ExpectedGradients
from assay.explain.methods.occlusion import Occlusion
from assay.explain.methods.permutation import PermutationShapley
from assay.explain.methods.shapley import ExactShapley, combinations, interactions, shapley_values
from assay.explain.scalars import log_odds
from tests.explaining import reference

DOUBLE = torch.float64


class Product(nn.Module):
    """Log-odds x₀·x₁ + x₂ for class 1."""

    def forward(self, x: Tensor) -> Tensor:
        value = x[:, 0] * x[:, 1] + x[:, 2]
        return torch.stack([torch.zeros_like(value), value], dim=1)


ONES, CLASS_1 = torch.ones(1, 3, dtype=DOUBLE), torch.tensor([1])
ZEROS = torch.zeros(1, 3, dtype=DOUBLE)


def test_a_product_is_shared_and_its_interaction_is_found() -> None:
    found = ExactShapley().explain(Product(), ONES, CLASS_1, reference(ZEROS))
    torch.testing.assert_close(found.values, torch.tensor([[0.5, 0.5, 1.0]], dtype=DOUBLE))
    assert float(found.error) < 1e-12
    answers = combinations(Product(), ONES, CLASS_1, ZEROS, torch.arange(3)[None], log_odds)
    expected = torch.zeros(1, 3, 3, dtype=DOUBLE)
    expected[0, 0, 1] = expected[0, 1, 0] = 1.0
    torch.testing.assert_close(interactions(answers), expected)


def network(inputs: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, 16), nn.Tanh(), nn.Linear(16, 3)).to(DOUBLE)


def by_orders(model: nn.Module, x: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
    """Mean change over all orders in which the inputs of one record are restored."""
    inputs = x.shape[1]
    total = torch.zeros(inputs, dtype=DOUBLE)
    orders = list(itertools.permutations(range(inputs)))
    with torch.no_grad():
        for order in orders:
            mixed = baseline.clone()
            before = log_odds(model(mixed), target)
            for place in order:
                mixed[0, place] = x[0, place]
                after = log_odds(model(mixed), target)
                total[place] += float(after - before)
                before = after
    return total / len(orders)


def test_values_are_those_of_all_orders() -> None:
    x = torch.randn(2, 5, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    background = torch.randn(1, 5, dtype=DOUBLE, generator=torch.Generator().manual_seed(2))
    target = torch.tensor([0, 2])
    found = ExactShapley().explain(network(5), x, target, reference(background)).values
    for row in range(2):
        expected = by_orders(network(5), x[row : row + 1], background, target[row : row + 1])
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-12)


def test_random_orders_come_near_and_tell_their_error() -> None:
    x = torch.randn(3, 6, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    target = torch.tensor([0, 2, 1])
    exact = ExactShapley().explain(network(6), x, target, reference(torch.zeros(1, 6, dtype=DOUBLE))).values
    few, many = (
        PermutationShapley(orders=orders).explain(network(6), x, target, reference(torch.zeros(1, 6, dtype=DOUBLE)))
        for orders in (4, 200)
    )
    assert float(few.error.max()) < 1e-9, "every order adds up"
    assert float((many.values - exact).abs().max()) < 0.03 * float(exact.abs().max())
    assert float(many.value_error.max()) < float(few.value_error.max())


def test_an_image_of_a_linear_model_is_shared_by_patches() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).to(DOUBLE)
    x = torch.rand(2, 1, 8, 8, dtype=DOUBLE)
    about = reference(torch.zeros(1, 1, 8, 8, dtype=DOUBLE), "image")
    found = ExactShapley(groups=4).explain(model, x, torch.tensor([1, 0]), about).values
    weight = (model[1].weight[1] - model[1].weight[0]).view(8, 8)
    share = (x[0, 0] * weight)[:4, 4:].sum()
    torch.testing.assert_close(found[0, 0, :4, 4:].sum(), share)
    assert bool((found[0, 0, :4, 4:] == found[0, 0, 0, 4]).all())
    occluded = Occlusion(groups=4).explain(model, x, torch.tensor([1, 0]), about).values
    torch.testing.assert_close(occluded, found)


@pytest.mark.parametrize(("shape", "most", "groups"), [((1, 8, 8), 12, 12), ((3, 9, 5), 9, 9), ((1, 2, 2), 14, 4)])
def test_patches_cover_an_image_with_all_its_channels(shape: tuple[int, ...], most: int, groups: int) -> None:
    found = grouped(torch.zeros(2, *shape), reference(torch.zeros(1, *shape), "image"), most)
    assert sorted(found.unique().tolist()) == list(range(groups))
    assert bool((found == found[:, :1]).all())


def test_words_have_groups_and_padding_has_none() -> None:
    x = torch.zeros(2, 6, 2)
    x[0, :3], x[1, :5] = 1.0, 1.0
    found = grouped(x, reference(torch.zeros(1, 6, 2), "text"), 3)[..., 0]
    assert found.tolist() == [[0, 1, 2, -1, -1, -1], [0, 0, 1, 1, 2, -1]]
    assert spread(torch.ones(2, 3), found)[1].sum() == pytest.approx(3.0)


def test_no_room_for_a_group_is_refused() -> None:
    with pytest.raises(ExplanationError, match="0 groups"):
        grouped(torch.zeros(1, 3), reference(torch.zeros(1, 3)), 0)


def test_shapley_values_of_one_group_are_the_change() -> None:
    torch.testing.assert_close(shapley_values(torch.tensor([[1.0, 4.0]])), torch.tensor([[3.0]]))


def test_expected_gradients_are_the_mean_over_the_background() -> None:
    x = torch.randn(3, 5, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    background = torch.randn(7, 5, dtype=DOUBLE, generator=torch.Generator().manual_seed(2))
    model = nn.Linear(5, 2).to(DOUBLE)
    target = torch.tensor([0, 1, 1])
    found = ExpectedGradients().explain(model, x, target, reference(background))
    weight = model.weight[target] - model.weight[1 - target]
    torch.testing.assert_close(found.values, weight * (x - background.mean(0)))
    assert float(found.error.max()) < 1e-12
    assert float(found.value_error.max()) < 1e-12


def test_expected_gradients_state_an_error_of_the_right_size() -> None:
    class Squares(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            value = x.square().sum(1)
            return torch.stack([torch.zeros_like(value), value], dim=1)

    x = torch.rand(4, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    background = torch.rand(40, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(2)) - 0.5
    found = ExpectedGradients().explain(Squares(), x, torch.ones(4, dtype=torch.long), reference(background))
    exact = x.square() - background.square().mean(0)
    true = (found.values - exact).abs().amax(1) / exact.abs().amax(1)
    assert float(true.max()) < 0.05
    assert float(found.value_error.max()) < 0.1
