"""Kernel SHAP: samples, both estimators against brute force, and errors of the right size."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import assay.explain.methods.kernel_shap as module
from assay.explain.base import ExplanationError
from assay.explain.methods.kernel_shap import KernelShap
from assay.explain.methods.shapley import ExactShapley
from assay.explain.sampling import Pairs, Sampling, sampled_pairs
from assay.explain.shapley_fits import Fit, value_weights
from tests.explaining import reference

DOUBLE = torch.float64
FITS: list[Fit] = ["smooth", "linear"]
SAMPLINGS: list[Sampling] = ["leverage", "kernel"]


# Samples


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize(("count", "wanted"), [(2, 1), (5, 9), (6, 20), (9, 60), (16, 40), (16, 500), (40, 300)])
def test_no_coalition_is_drawn_twice_nor_beside_its_complement(sampling: Sampling, count: int, wanted: int) -> None:
    pairs = sampled_pairs(count, wanted, sampling, np.random.default_rng(0))
    both = {row.tobytes() for row in np.concatenate([pairs.shown, ~pairs.shown])}
    assert len(both) == 2 * len(pairs.shown)
    assert len(pairs.shown) == min(wanted, 2 ** (count - 1) - 1)
    assert not pairs.shown.all(1).any()
    assert pairs.shown.any(1).all()


def test_by_leverage_every_size_is_drawn_equally_often() -> None:
    pairs = sampled_pairs(20, 200, "leverage", np.random.default_rng(0))
    sizes = Counter(pairs.shown.sum(1).tolist())
    # All 20 of size 1, and equal parts of the rest; pairs of two halves count once for two coalitions.
    each = 180 / 8.5
    assert sizes[1] == 20
    assert all(abs(sizes[size] - each) <= 1 for size in range(2, 10))
    assert abs(sizes[10] - each / 2) <= 1


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_weights_are_those_of_the_kernel_over_the_chance(sampling: Sampling) -> None:
    """So the weights of a size add up to those of all its coalitions, however many are drawn."""
    count = 12
    pairs = sampled_pairs(count, 150, sampling, np.random.default_rng(3))
    for size in range(1, 7):
        drawn = pairs.shown.sum(1) == size
        own = (0.5 if 2 * size == count else 1.0) / (size * (count - size))
        for weights in (pairs.weights, *pairs.halves):
            assert weights[drawn].sum() == pytest.approx(own)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_groups_of_a_size_are_drawn_with_equal_chance(sampling: Sampling) -> None:
    found = np.zeros(7)
    for seed in range(400):
        pairs = sampled_pairs(7, 12, sampling, np.random.default_rng(seed))
        found += pairs.shown[pairs.shown.sum(1) == 2].sum(0)
    assert found.min() > 0.85 * found.mean()
    assert found.max() < 1.15 * found.mean()


def test_the_halves_share_only_what_has_no_chance() -> None:
    pairs = sampled_pairs(12, 100, "leverage", np.random.default_rng(0))
    both = (pairs.halves[0] > 0) & (pairs.halves[1] > 0)
    assert ((pairs.halves[0] > 0) | (pairs.halves[1] > 0)).all()
    assert set(pairs.shown[both].sum(1).tolist()) == {1}


# Estimators


def every_pair(count: int) -> Pairs:
    shown = [row for row in itertools.product([True, False], repeat=count) if row[0] and not all(row)]
    array = np.array(shown)
    sizes = array.sum(1)
    weights = np.array([1 / (math.comb(count, s) * s * (count - s)) for s in sizes.tolist()])
    return Pairs(shown=array, weights=weights, halves=(weights, weights))


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("count", [4, 5, 6])
def test_all_coalitions_give_the_exact_values(fit: Fit, count: int) -> None:
    answers = np.random.default_rng(count).normal(size=2**count)
    bits = 2 ** np.arange(count)
    exact = np.zeros(count)
    for order in itertools.permutations(range(count)):
        present = 0
        for group in order:
            exact[group] += (answers[present + bits[group]] - answers[present]) / math.factorial(count)
            present += bits[group]
    pairs, change = every_pair(count), answers[-1] - answers[0]
    odd = (answers[pairs.shown @ bits] - answers[~pairs.shown @ bits]) / 2
    beyond = odd - change * (pairs.shown.mean(1) - 0.5)
    found = change / count + beyond @ value_weights(pairs, pairs.weights, fit)
    np.testing.assert_allclose(found, exact, atol=1e-6 if fit == "smooth" else 1e-12)


def test_the_smooth_fit_is_the_mean_of_a_random_game_given_the_answers() -> None:
    """A second implementation: every product is listed, with its variance, and single groups have a large one."""
    count, rho = 6, 0.5
    pairs = sampled_pairs(count, 11, "leverage", np.random.default_rng(1))
    products = [t for k in (1, 3, 5) for t in itertools.combinations(range(count), k)]
    variance = np.array([1e7 if len(t) == 1 else rho ** len(t) for t in products])
    signs = 2.0 * np.concatenate([pairs.shown, np.ones((1, count))]) - 1
    basis = np.array([[row[list(t)].prod() for t in products] for row in signs])
    shares = np.array([[2 / len(t) if group in t else 0.0 for group in range(count)] for t in products])
    covariance = (basis * variance) @ basis.T
    expected = np.linalg.solve(covariance, basis * variance @ shares)
    answers = np.random.default_rng(2).normal(size=len(pairs.shown))
    found = answers @ value_weights(pairs, pairs.weights, "smooth")
    # The change is 0 here, which is the answer to the coalition of all groups.
    np.testing.assert_allclose(found, answers @ expected[:-1], atol=1e-4)


@pytest.mark.parametrize("fit", FITS)
def test_the_values_of_a_linear_model_are_exact_and_all_there(fit: Fit) -> None:
    """Also with fewer answers than the selection of ten features in other libraries would leave."""
    torch.manual_seed(0)
    model = nn.Linear(30, 2).to(DOUBLE)
    x, background = torch.randn(3, 30, dtype=DOUBLE), torch.randn(50, 30, dtype=DOUBLE)
    target = torch.tensor([0, 1, 1])
    found = KernelShap(budget=100, fit=fit).explain(model, x, target, reference(background))
    weight = (model.weight[target] - model.weight[1 - target]).detach()
    torch.testing.assert_close(found.values, weight * (x - background.mean(0)), rtol=0, atol=1e-8)
    assert float(found.error.max()) < 1e-12


def network(inputs: int) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(inputs, 24), nn.ReLU(), nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, 3)]
    return nn.Sequential(*layers).to(DOUBLE)


X = 3 * torch.randn(6, 11, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
TARGET = torch.tensor([0, 1, 2, 0, 1, 2])
ABOUT = reference(torch.randn(5, 11, dtype=DOUBLE, generator=torch.Generator().manual_seed(2)))
EXACT = ExactShapley().explain(network(11), X, TARGET, ABOUT).values


def squared_error(values: Tensor) -> float:
    return float(((values - EXACT) ** 2).sum(1).mean())


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_more_answers_come_nearer_and_all_of_them_are_exact(fit: Fit, sampling: Sampling) -> None:
    def error(budget: int) -> float:
        explainer = KernelShap(budget=budget, fit=fit, sampling=sampling)
        found = [explainer.explain(network(11), X, TARGET, ABOUT, seed=seed) for seed in range(5)]
        assert max(float(each.error.max()) for each in found) < 1e-12, "the values add up"
        return float(np.mean([squared_error(each.values) for each in found]))

    few, more, many = error(44), error(176), error(704)
    assert few > 2 * more > 4 * many
    exact = KernelShap(budget=2048, fit=fit, sampling=sampling).explain(network(11), X, TARGET, ABOUT)
    torch.testing.assert_close(exact.values, EXACT, rtol=0, atol=1e-12)
    assert not exact.value_error.any()


def test_the_smooth_fit_has_the_smaller_error() -> None:
    errors = [
        np.mean(
            [
                squared_error(KernelShap(budget=220, fit=fit).explain(network(11), X, TARGET, ABOUT, seed=seed).values)
                for seed in range(10)
            ]
        )
        for fit in FITS
    ]
    assert errors[0] < 0.8 * errors[1]


def test_with_few_answers_the_sample_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def error() -> float:
        found = [KernelShap(budget=26).explain(network(11), X, TARGET, ABOUT, seed=seed).values for seed in range(8)]
        return float(np.median([squared_error(values) for values in found]))

    chosen = error()
    monkeypatch.setattr(module, "_SAMPLES", 1)
    assert chosen < error() / 2


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("budget", [22, 26, 44, 88, 352])
def test_the_stated_error_is_not_smaller_than_the_true_one(fit: Fit, budget: int) -> None:
    stated, true = [], []
    for seed in range(12):
        found = KernelShap(budget=budget, fit=fit).explain(network(11), X, TARGET, ABOUT, seed=seed)
        stated.append(found.value_error)
        true.append((found.values - EXACT).abs().amax(1) / EXACT.abs().amax(1))
    mean_stated, mean_true = (float(torch.stack(each).square().mean().sqrt()) for each in (stated, true))
    assert mean_true < 1.25 * mean_stated
    if budget == 352:
        assert mean_stated < 3 * mean_true, "and not much greater"


def test_over_the_background_it_plays_the_marginal_game() -> None:
    exact = ExactShapley(absent="background").explain(network(11), X, TARGET, ABOUT)
    found = KernelShap(absent="background", budget=1000).explain(network(11), X, TARGET, ABOUT)
    torch.testing.assert_close(found.change, exact.change)
    assert float(found.error.max()) < 1e-12
    assert float((found.values - exact.values).abs().max()) < 0.02 * float(exact.values.abs().max())
    assert float((exact.values - EXACT).abs().max()) > 0.05 * float(EXACT.abs().max()), "the games differ"


def test_a_seed_gives_the_same_bits_and_another_gives_others() -> None:
    first, again, other = (
        KernelShap(budget=100).explain(network(11), X, TARGET, ABOUT, seed=seed).values for seed in (4, 4, 5)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_too_small_a_budget_is_refused_with_the_least() -> None:
    with pytest.raises(ExplanationError, match="20 answers does not determine 11 groups: give 22 or more"):
        KernelShap(budget=20).explain(network(11), X, TARGET, ABOUT)


def test_single_groups_come_first_where_they_are_asked_for() -> None:
    found = sampled_pairs(9, 14, "leverage", np.random.default_rng(0), singles=True)
    sizes = np.minimum(found.shown.sum(1), 9 - found.shown.sum(1))
    assert (sizes == 1).sum() == 9
    assert len(found.shown) == 14
    few = sampled_pairs(9, 6, "leverage", np.random.default_rng(0), singles=True)
    assert few.shown.sum(1).tolist() == [1] * 6
    assert not any(bool((one[:9] * other[:9]).any()) for one, other in [found.halves])


def test_the_fewest_answers_lose_little_of_a_linear_model_and_its_sum_not_at_all() -> None:
    weights = torch.linspace(-1, 1, 9, dtype=torch.float64)
    model = nn.Sequential(nn.Linear(9, 2)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.stack([torch.zeros(9), weights]))
    x = torch.linspace(1, 2, 9, dtype=torch.float64)[None]
    about = reference(torch.zeros(1, 9, dtype=torch.float64))
    exact = weights * x
    for budget, error in ((18, 0.05 * 2), (20, 1e-7)):
        found = KernelShap(budget=budget).explain(model, x, torch.tensor([1]), about)
        assert float((found.values - exact).abs().max()) < error
        assert float(found.error) < 1e-9


@pytest.mark.parametrize("fit", ["linear", "smooth"])
@pytest.mark.parametrize("groups", [5, 6, 8, 10])
def test_a_wrong_value_of_a_linear_model_is_never_without_an_error(groups: int, fit: str) -> None:
    """With few answers some samples do not determine the values: then no two halves may agree on them in silence."""
    torch.manual_seed(0)
    model, x = nn.Linear(groups, 2).double(), 3 * torch.randn(2, groups, dtype=torch.float64)
    target, about = torch.tensor([0, 1]), reference(torch.zeros(1, groups, dtype=torch.float64))
    exact = x * (model.weight[1] - model.weight[0]).detach() * torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    for budget in (2 * groups, 2 * groups + 2, 3 * groups, 4 * groups):
        for seed in range(8):
            found = KernelShap(budget=budget, fit=fit).explain(model, x, target, about, seed=seed)
            error = (found.values - exact).abs().amax(1) / exact.abs().amax(1)
            assert not bool(((error > 0.1) & (found.value_error < 0.05)).any()), (budget, seed)
