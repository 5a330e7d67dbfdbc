"""LIME: ridge regression as scikit-learn's, standard errors as the spread over seeds, equal bits for equal seeds."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn

from assay import seeds
from assay.explain.methods.lime import Lime, Surrogate, fit
from assay.explain.methods.occlusion import Occlusion
from assay.explain.scalars import log_odds
from tests.explaining import reference

DOUBLE = torch.float64


def network(inputs: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, 16), nn.Tanh(), nn.Linear(16, 3)).to(DOUBLE)


X = torch.randn(3, 8, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
ABOUT = reference(torch.randn(4, 8, dtype=DOUBLE, generator=torch.Generator().manual_seed(2)))
TARGET = torch.tensor([0, 2, 1])


def surrogate(seed: int, **settings: float) -> Surrogate:
    explainer = Lime.model_validate({"name": "lime", **settings})
    with torch.no_grad():
        return explainer.surrogate(network(8), X, TARGET, ABOUT, seeds.stream(seed, "test"))


@pytest.mark.parametrize("ridge", [0.0, 1.0, 30.0])
def test_the_regression_is_that_of_scikit_learn(ridge: float) -> None:
    random = np.random.default_rng(0)
    shown, answers = random.random((60, 5)) < 0.5, random.normal(size=(2, 60)) + 7
    weights = random.random(60)
    found = fit(torch.from_numpy(shown), torch.from_numpy(weights), torch.from_numpy(answers), ridge)
    for row in range(2):
        peer = Ridge(alpha=ridge).fit(shown.astype(float), answers[row], sample_weight=weights)
        np.testing.assert_allclose(found.coefficients[row], peer.coef_, atol=1e-10)
        assert float(found.intercept[row]) == pytest.approx(peer.intercept_)


def test_the_standard_error_is_the_spread_over_seeds() -> None:
    found = [surrogate(seed, samples=300) for seed in range(150)]
    spread = torch.stack([each.coefficients for each in found]).std(0)
    stated = torch.stack([each.standard_error for each in found]).mean(0)
    # A spread over 150 seeds is itself known to 6 %; the mean over records is known better.
    ratio = (stated / spread).log().mean(1).exp()
    assert float(ratio.min()) > 0.9
    assert float(ratio.max()) < 1.1


def test_the_stated_error_of_values_is_of_the_same_size() -> None:
    found = [Lime(samples=300).explain(network(8), X, TARGET, ABOUT, seed=seed) for seed in range(60)]
    mean = torch.stack([each.values for each in found]).mean(0)
    true = torch.stack([(each.values - mean).abs().amax(1) for each in found]).square().mean().sqrt()
    stated = torch.stack([each.value_error * each.values.abs().amax(1) for each in found]).square().mean().sqrt()
    assert 0.7 < float(stated / true) < 1.4


def test_the_same_call_twice_gives_the_same_bits() -> None:
    explainer = Lime()
    first, again, other = (explainer.explain(network(8), X, TARGET, ABOUT, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.values, again.values)
    assert not torch.equal(first.values, other.values)
    torch.testing.assert_close(surrogate(1).coefficients, surrogate(1).coefficients, rtol=0, atol=0)


def test_without_a_penalty_a_linear_model_gets_its_own_coefficients() -> None:
    model = nn.Linear(8, 2).to(DOUBLE)
    target = torch.tensor([0, 1, 1])
    found = Lime(ridge=0).explain(model, X, target, ABOUT).values
    weight = (model.weight[target] - model.weight[1 - target]).detach()
    torch.testing.assert_close(found, weight * (X - ABOUT.background.mean(0)), rtol=0, atol=1e-9)
    torch.testing.assert_close(found, Occlusion().explain(model, X, target, ABOUT).values, rtol=0, atol=1e-9)


def test_the_record_itself_is_among_the_coalitions() -> None:
    """So that the linear model passes through its answer, where nothing else has a weight."""
    found = surrogate(0, samples=10, width=0.01, ridge=0.0)
    with torch.no_grad():
        whole = log_odds(network(8)(X), TARGET)
    torch.testing.assert_close(found.intercept + found.coefficients.sum(1), whole)


def test_a_narrow_kernel_sees_the_record_alone() -> None:
    """The regression then rests on coalitions that lack few groups."""
    model = network(8)
    occluded = Occlusion().explain(model, X, TARGET, ABOUT).values
    near, far = (
        Lime(samples=4000, width=width, ridge=0).explain(model, X, TARGET, ABOUT).values for width in (0.05, 1.0)
    )
    assert float((near - occluded).abs().mean()) < float((far - occluded).abs().mean())
