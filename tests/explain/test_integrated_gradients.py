"""Integrated gradients against Captum and where they have a closed form."""

import pytest
import torch
from captum.attr import IntegratedGradients
from torch import Tensor, nn

from assay.explain.integrated_gradients import integrated_gradients

DOUBLE = torch.float64


@pytest.fixture
def smooth() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3)).to(DOUBLE)


@pytest.fixture
def linear() -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(6, 3).to(DOUBLE)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(5, 6, dtype=DOUBLE, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def target() -> Tensor:
    return torch.tensor([0, 1, 2, 0, 1])


BASELINE = torch.linspace(-1, 1, 6, dtype=DOUBLE)[None]


def test_a_smooth_network_is_explained_as_captum_explains_it(smooth: nn.Module, x: Tensor, target: Tensor) -> None:
    captum = IntegratedGradients(smooth)
    ours = integrated_gradients(smooth, x, target, baseline=BASELINE, points=16).values
    same_points = captum.attribute(x, BASELINE, target, n_steps=16, method="gausslegendre")
    many_steps = captum.attribute(x, BASELINE, target, n_steps=2000, method="riemann_middle")
    assert torch.allclose(ours, same_points, rtol=0, atol=1e-7)
    assert torch.allclose(ours, many_steps, rtol=0, atol=1e-5)


def test_a_linear_model_is_explained_in_closed_form(linear: nn.Linear, x: Tensor, target: Tensor) -> None:
    found = integrated_gradients(linear, x, target, baseline=BASELINE, points=1)
    assert torch.allclose(found.values, linear.weight[target] * (x - BASELINE), rtol=0, atol=1e-12)
    assert found.error.max() < 1e-12


def test_attributions_sum_to_the_change_of_the_logit(smooth: nn.Module, x: Tensor, target: Tensor) -> None:
    found = integrated_gradients(smooth, x, target, baseline=BASELINE)
    rise = (smooth(x) - smooth(BASELINE)).gather(1, target[:, None]).squeeze(1)
    assert torch.allclose(found.values.sum(1), rise, rtol=0, atol=1e-6)
    assert found.error.max() < 1e-6


def test_the_error_is_what_is_missing(x: Tensor, target: Tensor) -> None:
    class Cubic(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :3] ** 3

    # One Gauss point is the midpoint rule: it sees 3/4 of the rise of a cubic that starts at nothing.
    found = integrated_gradients(Cubic(), x, target, baseline=torch.zeros(1, 6, dtype=DOUBLE), points=1)
    chosen = x.gather(1, target[:, None]).squeeze(1)
    assert torch.allclose(found.error, chosen.abs() ** 3 / 4)
    exact = integrated_gradients(Cubic(), x, target, baseline=torch.zeros(1, 6, dtype=DOUBLE), points=2)
    assert exact.error.max() < 1e-12


def test_a_record_at_the_baseline_has_no_attribution(smooth: nn.Module, target: Tensor) -> None:
    found = integrated_gradients(smooth, BASELINE.expand(5, 6), target, baseline=BASELINE)
    assert not found.values.any()


def test_attributions_keep_the_shape_of_images(target: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)).to(DOUBLE)
    images = torch.randn(5, 1, 4, 4, dtype=DOUBLE)
    found = integrated_gradients(model, images, target, baseline=torch.zeros(1, dtype=DOUBLE))
    assert found.values.shape == images.shape
    assert found.error.max() < 1e-6


def test_the_weights_receive_no_gradient(smooth: nn.Module, x: Tensor, target: Tensor) -> None:
    with torch.no_grad():
        found = integrated_gradients(smooth, x, target, baseline=BASELINE)
    assert not found.values.requires_grad
    assert all(parameter.grad is None for parameter in smooth.parameters())
