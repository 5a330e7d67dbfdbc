"""Integrated gradients against Captum and where they have a closed form."""

import pytest
import torch
from captum import attr as captum_attr
from torch import Tensor, nn
from torch.nn import functional

from assay.explain.base import gradient_of
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.explain.scalars import log_odds
from tests.explaining import integrated_gradients, reference

DOUBLE = torch.float64


@pytest.fixture
def smooth() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3)).to(DOUBLE)


@pytest.fixture
def linear() -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(6, 2).to(DOUBLE)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(5, 6, dtype=DOUBLE, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def target() -> Tensor:
    return torch.tensor([0, 1, 2, 0, 1])


BASELINE = torch.linspace(-1, 1, 6, dtype=DOUBLE)[None]


def test_a_smooth_network_is_explained_as_captum_explains_it(smooth: nn.Module, x: Tensor, target: Tensor) -> None:
    def odds(x: Tensor, target: Tensor) -> Tensor:
        return log_odds(smooth(x), target)

    captum = captum_attr.IntegratedGradients(odds)
    ours = integrated_gradients(smooth, x, target, baseline=BASELINE, points=64).values
    settings = {"additional_forward_args": (target,)}
    same_points = captum.attribute(x, BASELINE, n_steps=64, method="riemann_middle", **settings)
    others = captum.attribute(x, BASELINE, n_steps=64, method="gausslegendre", **settings)
    assert torch.allclose(ours, same_points, rtol=0, atol=1e-7)
    assert torch.allclose(ours, others, rtol=0, atol=1e-3)


def found_weight(linear: nn.Linear, target: Tensor) -> Tensor:
    """Weights of the log-odds of the target, one of two classes."""
    return linear.weight[target] - linear.weight[1 - target]


def test_a_linear_model_is_explained_in_closed_form(linear: nn.Linear, x: Tensor) -> None:
    target = torch.tensor([0, 1, 1, 0, 1])
    found = integrated_gradients(linear, x, target, baseline=BASELINE, points=1)
    difference = found_weight(linear, target) * (x - BASELINE)
    assert torch.allclose(found.values, difference, rtol=0, atol=1e-12)
    assert found.error.max() < 1e-12


def test_attributions_sum_to_the_change_of_the_log_odds(smooth: nn.Module, x: Tensor, target: Tensor) -> None:
    found = integrated_gradients(smooth, x, target, baseline=BASELINE)
    rise = log_odds(smooth(x), target) - log_odds(smooth(BASELINE).expand(5, 3), target)
    assert torch.allclose(found.change, rise)
    assert torch.allclose(found.values.sum(1), rise, rtol=0, atol=1e-3)
    assert found.error.max() < 1e-3


def test_the_error_is_the_share_that_is_missing(x: Tensor) -> None:
    class Cubic(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([torch.zeros_like(x[:, 0]), x[:, 0] ** 3], dim=1)

    # The midpoint rule with one point sees 3/4 of the rise of a cubic that starts at nothing.
    ones = torch.ones(5, dtype=torch.long)
    found = integrated_gradients(Cubic(), x, ones, baseline=torch.zeros(1, 6, dtype=DOUBLE), points=1)
    assert torch.allclose(found.error, torch.full((5,), 0.25, dtype=DOUBLE))
    finer = integrated_gradients(Cubic(), x, ones, baseline=torch.zeros(1, 6, dtype=DOUBLE), points=10)
    assert torch.allclose(finer.error, torch.full((5,), 0.0025, dtype=DOUBLE))


def test_a_record_at_the_baseline_has_no_attribution(smooth: nn.Module, target: Tensor) -> None:
    found = integrated_gradients(smooth, BASELINE.expand(5, 6), target, baseline=BASELINE)
    assert not found.values.any()


def test_attributions_keep_the_shape_of_images(target: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)).to(DOUBLE)
    images = torch.randn(5, 1, 4, 4, dtype=DOUBLE)
    found = integrated_gradients(model, images, target, baseline=torch.zeros(1, dtype=DOUBLE))
    assert found.values.shape == images.shape
    assert found.error.max() < 1e-3


def test_the_weights_receive_no_gradient(smooth: nn.Module, x: Tensor, target: Tensor) -> None:
    with torch.no_grad():
        found = integrated_gradients(smooth, x, target, baseline=BASELINE)
    assert not found.values.requires_grad
    assert all(parameter.grad is None for parameter in smooth.parameters())


class Kinks(nn.Module):
    """relu(x₁ − 0.7) − relu(x₂ − 0.7): the sum is right at any number of points, slopes at points give wrong values."""

    def forward(self, x: Tensor) -> Tensor:
        value = (x[:, 0] - 0.7).relu() - (x[:, 1] - 0.7).relu()
        return torch.stack([torch.zeros_like(value), value], dim=1)


class Bends(nn.Module):
    """Kinks, rounded a little: their slopes are taken at the points."""

    def forward(self, x: Tensor) -> Tensor:
        value = functional.softplus(x[:, 0] - 0.7, beta=80) - functional.softplus(x[:, 1] - 0.7, beta=80)
        return torch.stack([torch.zeros_like(value), value], dim=1)


@pytest.mark.parametrize("points", [2, 3, 4, 16])
def test_kinks_are_exact_where_their_inputs_are_linear(points: int) -> None:
    x, about = torch.ones(1, 2, dtype=DOUBLE), reference(torch.zeros(1, 2, dtype=DOUBLE))
    found = IntegratedGradients(points=points, most=points).explain(Kinks(), x, torch.tensor([1]), about)
    torch.testing.assert_close(found.values, torch.tensor([[0.3, -0.3]], dtype=DOUBLE), rtol=0, atol=1e-12)


def test_points_are_added_until_the_values_agree_not_until_the_sum_is_right() -> None:
    x, target = torch.ones(1, 2, dtype=DOUBLE), torch.tensor([1])
    about = reference(torch.zeros(1, 2, dtype=DOUBLE))
    for points in (1, 3, 7):
        coarse = IntegratedGradients(points=points, most=2 * points + 1).explain(Bends(), x, target, about)
        assert float(coarse.error) < 1e-12
        assert float(coarse.value_error) > 0.01
    found = IntegratedGradients(points=1, most=1023, tolerance=0.01).explain(Bends(), x, target, about)
    torch.testing.assert_close(found.values, torch.tensor([[0.3, -0.3]], dtype=DOUBLE), rtol=0, atol=0.003)
    assert float(found.value_error) <= 0.01


def test_the_error_is_unknown_where_there_is_no_room_for_a_second_rule() -> None:
    x, about = torch.ones(1, 2, dtype=DOUBLE), reference(torch.zeros(1, 2, dtype=DOUBLE))
    alone = IntegratedGradients(points=5, most=9).explain(Bends(), x, torch.tensor([1]), about)
    assert bool(alone.value_error.isnan())


def test_points_are_added_only_where_two_rules_disagree() -> None:
    asked: list[int] = []

    class Mixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            asked.append(len(x))
            bends: Tensor = Bends()(x)
            return torch.where(x[:, 2:3] > 0, bends, x[:, :1] * torch.tensor([[0.0, 1.0]], dtype=DOUBLE))

    x = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]], dtype=DOUBLE)
    baseline = reference(torch.zeros(1, 3, dtype=DOUBLE))
    IntegratedGradients(points=3, most=63, tolerance=1e-9).explain(Mixed(), x, torch.tensor([1, 1]), baseline)
    # Three answers for the change, of two records and their one baseline; seven to learn whether rows keep their order;
    # three and seven points of both records, the rest of the first alone.
    assert sum(asked) == 3 + 7 + 2 * (3 + 7) + (15 + 31 + 63)


@pytest.mark.parametrize("n", [1, 5])
def test_the_values_do_not_depend_on_how_points_are_put_together(
    smooth: nn.Module, x: Tensor, target: Tensor, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for together in (1, 2**15):
        monkeypatch.setattr("assay.explain.line._TOGETHER", together)
        found.append(integrated_gradients(smooth, x[:n], target[:n], baseline=BASELINE).values)
    torch.testing.assert_close(*found, rtol=0, atol=1e-12)


def by_a_plain_loop(model: nn.Module, x: Tensor, target: Tensor, points: int) -> Tensor:
    """Gradients at midpoints from a baseline of zeros, one point after the other, with PyTorch's own slopes."""
    total = torch.zeros_like(x)
    for number in range(points):
        total += gradient_of(model, (number + 0.5) / points * x, target, log_odds)
    return total / points * x


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("tolerance", [0.05, 0.01])
def test_the_stated_error_holds_for_networks_with_kinks(seed: int, tolerance: float) -> None:
    """Against 2,001 points: the true error of nearly every record is within the tolerance that was asked for."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3)).to(DOUBLE)
    x = torch.randn(60, 8, dtype=DOUBLE)
    target = torch.arange(60) % 3
    about = reference(torch.zeros(1, 8, dtype=DOUBLE))
    found = IntegratedGradients(most=2047, tolerance=tolerance).explain(model, x, target, about)
    exact = by_a_plain_loop(model, x, target, 2_001)
    error = (found.values - exact).abs().amax(1) / exact.abs().amax(1)
    assert float(found.value_error.max()) <= tolerance
    assert float(error.quantile(0.95)) <= tolerance


def test_more_points_are_taken_where_the_sum_is_wrong() -> None:
    """One narrow step, which both rules miss at first."""

    class Step(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            value = torch.tanh(1000 * (x[:, 0] - 0.3)) + 0.1 * x[:, 1]
            return torch.stack([torch.zeros_like(value), value], dim=1)

    x, target = torch.rand(20, 2, dtype=DOUBLE) + 0.4, torch.ones(20, dtype=torch.long)
    about = reference(torch.zeros(1, 2, dtype=DOUBLE))
    found = IntegratedGradients(most=2047).explain(Step(), x, target, about)
    assert float(found.error.max()) <= 0.05
