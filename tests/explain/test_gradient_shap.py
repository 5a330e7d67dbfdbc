"""GradientSHAP: the mean of expected gradients by random draws, and an error of the right size."""

import numpy as np
import torch
from torch import Tensor, nn

import assay.explain.methods.gradient_shap as module
from assay.explain.base import Attribution
from assay.explain.methods.expected_gradients import ExpectedGradients
from assay.explain.methods.gradient_shap import GradientShap, sums_between
from assay.explain.scalars import log_odds
from tests.explaining import reference

DOUBLE = torch.float64


class Squares(nn.Module):
    """Log-odds Σ x² for class 1: the expected gradients are x² minus the mean square of the background."""

    def forward(self, x: Tensor) -> Tensor:
        value = x.square().flatten(1).sum(1)
        return torch.stack([torch.zeros_like(value), value], dim=1)


X = torch.rand(4, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
BACKGROUND = torch.rand(30, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(2)) - 0.5
EXACT = X.square() - BACKGROUND.square().mean(0)
ONES = torch.ones(4, dtype=torch.long)


def explained(*, draws: int = 200, seed: int = 0) -> Attribution:
    return GradientShap(samples=draws).explain(Squares(), X, ONES, reference(BACKGROUND), seed=seed)


def test_the_mean_over_seeds_is_the_exact_value() -> None:
    found = torch.stack([explained(draws=2000, seed=seed).values for seed in range(100)])
    error = found.std(0) / 100**0.5
    assert float(((found.mean(0) - EXACT) / error).abs().max()) < 4


def test_the_stated_error_is_that_of_the_mean() -> None:
    """Other libraries state the variance of a draw divided by the root of their number."""
    stated, true = [], []
    for seed in range(200):
        found = explained(draws=40, seed=seed)
        greatest = found.values.abs().amax(1)
        stated.append(found.value_error * greatest)
        true.append((found.values - EXACT).abs().amax(1))
    ratio = torch.stack(true).square().mean().sqrt() / torch.stack(stated).square().mean().sqrt()
    assert 0.85 < float(ratio) < 1.15


def test_equal_steps_through_the_whole_background_have_a_far_smaller_error() -> None:
    random = np.mean([float((explained(draws=180, seed=seed).values - EXACT).square().mean()) for seed in range(10)])
    steps = ExpectedGradients().explain(Squares(), X, ONES, reference(BACKGROUND)).values
    assert float((steps - EXACT).square().mean()) < random / 20


def test_one_seed_gives_the_same_bits() -> None:
    assert torch.equal(explained(seed=3).values, explained(seed=3).values)
    assert not torch.equal(explained(seed=3).values, explained(seed=4).values)


def test_sums_do_not_depend_on_how_many_points_are_computed_together(monkeypatch: object) -> None:
    points = [(0, 0.5, 0), (3, 0.25, 1), (3, 0.75, 0), (7, 1.0, 1), (2, 0.0, 1)]
    expected = [torch.zeros_like(X), torch.zeros_like(X)]
    for start, place, half in points:
        difference = X - BACKGROUND[start]
        expected[half] += 2 * (BACKGROUND[start] + place * difference) * difference
    for together in (1, 30, 10**6):
        monkeypatch.setattr(module, "_TOGETHER", together)  # type: ignore[attr-defined]
        for sums, right in zip(sums_between(Squares(), X, ONES, BACKGROUND, points, log_odds), expected, strict=True):
            torch.testing.assert_close(sums, right)
