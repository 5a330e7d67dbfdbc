"""Interval bounds hold whatever is tried inside the box: sampled ≤ exact ≤ linear relaxation ≤ interval."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from assay.bounds.interval import interval, logits_and_worst
from assay.data.base import Normalisation
from assay.models.front import Normalise
from assay.models.resnet import Basic, Bottleneck
from tests.bounds.networks import (
    DOUBLE,
    ROUNDING,
    box,
    convolutional,
    corners,
    generator,
    inside,
    one_hidden,
    randomised,
    residual_network,
    small_blocks,
    two_hidden,
    worst_logits,
)
from tests.bounds.oracles import Programme

SOLVED = 1e-5


"""What a solver of mixed-integer programmes may leave open."""


seeds = st.integers(0, 10_000)


radii = st.floats(0.01, 2.0)


SMALL: dict[str, tuple[Callable[[int], nn.Module], tuple[int, ...], float]] = {
    "one hidden layer": (one_hidden, (3,), 1.0),
    "two hidden layers": (two_hidden, (3,), 0.5),
    "basic blocks": (lambda seed: small_blocks(Basic, seed), (1, 4, 4), 0.2),
    "bottlenecks": (lambda seed: small_blocks(Bottleneck, seed), (1, 4, 4), 0.2),
    "residual network": (lambda seed: residual_network(Basic, seed), (1, 4, 4), 0.03),
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("seed", range(3))
def test_sampled_exact_relaxed_and_interval_margins_are_in_order(name: str, seed: int) -> None:
    make, shape, radius = SMALL[name]
    model = make(seed)
    low, high = box(shape, radius, seed)
    right = seed % 3
    bound = worst_logits(model, low, high, torch.tensor([right]))[0]
    programme = Programme(low, high)
    outputs = programme.of(model)
    logits = model(inside(low, high, 2000, seed))
    strict = 0
    for wrong in {0, 1, 2} - {right}:
        apart = np.eye(3)[wrong] - np.eye(3)[right]
        sampled = float((logits[:, wrong] - logits[:, right]).max())
        exact, worst = programme.greatest(outputs, apart, exact=True)
        relaxed, _ = programme.greatest(outputs, apart, exact=False)
        reached = model(worst)[0]
        assert float(reached[wrong] - reached[right]) == pytest.approx(exact, abs=SOLVED)
        assert sampled <= exact + SOLVED
        assert exact <= relaxed + SOLVED
        assert relaxed <= float(bound[wrong]) + SOLVED
        strict += (exact > sampled) + (relaxed > exact + SOLVED) + (float(bound[wrong]) > relaxed + SOLVED)
    assert strict, "nothing told the four apart"


@given(seed=seeds, radius=radii)
def test_no_record_of_the_box_leaves_the_bounds(seed: int, radius: float) -> None:
    for model, shape in ((one_hidden(seed), (3,)), (convolutional(seed), (1, 7, 7))):
        low, high = box(shape, radius, seed)
        least, most = interval(model, low, high)
        logits = model(inside(low, high, 500, seed))
        assert (logits >= least - ROUNDING).all()
        assert (logits <= most + ROUNDING).all()
        y = torch.tensor([seed % 3])
        worst = worst_logits(model, low, high, y)
        assert (logits - logits[:, y] <= worst + ROUNDING).all()
        assert worst[0, y] == 0


class Apart(nn.Module):
    """Something that is done to the logits, so that they are bounded each by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.0


@given(seed=seeds, radius=radii)
def test_merging_the_last_layer_is_never_looser(seed: int, radius: float) -> None:
    model, y = one_hidden(seed), torch.tensor([seed % 3])
    low, high = box((3,), radius, seed)
    merged = worst_logits(model, low, high, y)
    apart = worst_logits(nn.Sequential(model, Apart()), low, high, y)
    assert (merged <= apart + ROUNDING).all()


def test_merging_the_last_layer_is_tighter_where_classes_share_neurons() -> None:
    model = one_hidden(0)
    low, high = box((3,), 0.5, 0)
    y = torch.tensor([0])
    apart = worst_logits(nn.Sequential(model, Apart()), low, high, y)
    assert (worst_logits(model, low, high, y)[:, 1:] < apart[:, 1:] - 0.1).all()


def test_a_linear_model_is_bounded_exactly() -> None:
    model = randomised(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), 1)
    low, high = box((2, 2), 1.0, 1)
    W, b = model[1].weight, model[1].bias  # type: ignore[index]
    centre, radius = (low + high).flatten(1) / 2, (high - low).flatten(1) / 2
    apart = W - W[1]
    closed = centre @ apart.T + b - b[1] + radius @ apart.abs().T
    assert torch.allclose(worst_logits(model, low, high, torch.tensor([1])), closed, rtol=0, atol=1e-12)
    least, most = interval(model, low, high)
    logits = model(corners(low, high))
    assert torch.allclose(most[0], logits.amax(0), rtol=0, atol=1e-12)
    assert torch.allclose(least[0], logits.amin(0), rtol=0, atol=1e-12)


def test_without_room_the_bounds_are_the_forward_pass() -> None:
    for model, shape in ((one_hidden(2), (3,)), (convolutional(2), (1, 7, 7))):
        x, _ = box(shape, 1.0, 2)
        logits, y = model(x), torch.tensor([2])
        assert all(torch.equal(end, logits) for end in interval(model, x, x))
        assert torch.equal(worst_logits(model, x, x, y), logits - logits[:, 2:])


@given(seed=seeds, radius=radii)
def test_a_wider_box_never_has_narrower_bounds(seed: int, radius: float) -> None:
    for model, shape in ((one_hidden(seed), (3,)), (convolutional(seed), (1, 7, 7))):
        low, high = box(shape, radius, seed)
        least, most = interval(model, low, high)
        wider_least, wider_most = interval(model, low - 0.1, high + 0.2)
        y = torch.tensor([seed % 3])
        assert (wider_least <= least + ROUNDING).all()
        assert (wider_most >= most - ROUNDING).all()
        assert (worst_logits(model, low - 0.1, high, y) >= worst_logits(model, low, high, y) - ROUNDING).all()


class OwnLinear(nn.Linear):
    """Inherits its forward pass."""


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(5, 3), (5,)),
    "linear without bias": (lambda: nn.Linear(5, 3, bias=False), (5,)),
    "inherited": (lambda: OwnLinear(5, 3), (5,)),
    "conv1d": (lambda: nn.Conv1d(2, 4, 3, stride=2, padding=1, dilation=2, groups=2), (2, 9)),
    "conv1d circular": (lambda: nn.Conv1d(2, 3, 3, padding=1, padding_mode="circular"), (2, 6)),
    "conv2d": (lambda: nn.Conv2d(2, 3, (3, 1), padding="same"), (2, 5, 4)),
    "conv2d reflected": (lambda: nn.Conv2d(1, 2, 3, padding=2, padding_mode="reflect", bias=False), (1, 5, 5)),
    "batch norm 1d": (lambda: nn.BatchNorm1d(4), (4,)),
    "batch norm of series": (lambda: nn.BatchNorm1d(2), (2, 5)),
    "batch norm 2d": (lambda: nn.BatchNorm2d(2), (2, 3, 3)),
    "batch norm, not affine": (lambda: nn.BatchNorm2d(2, affine=False), (2, 3, 3)),
    "average 1d": (lambda: nn.AvgPool1d(2), (2, 6)),
    "average 2d": (lambda: nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False), (1, 5, 5)),
    "adaptive average 1d": (lambda: nn.AdaptiveAvgPool1d(2), (2, 5)),
    "adaptive average 2d": (lambda: nn.AdaptiveAvgPool2d((2, 1)), (2, 5, 4)),
    "maximum 1d": (lambda: nn.MaxPool1d(3, stride=1), (2, 6)),
    "maximum 2d": (lambda: nn.MaxPool2d(2, padding=1), (1, 5, 5)),
    "flatten": (nn.Flatten, (2, 3)),
    "relu": (nn.ReLU, (6,)),
    "relu in place": (lambda: nn.ReLU(inplace=True), (6,)),
    "leaky relu": (lambda: nn.LeakyReLU(0.2, inplace=True), (6,)),
    "normalise": (lambda: Normalise(Normalisation(mean=(0.0, 0.0), deviation=(1.0, 1.0)), (2, 3, 3)), (2, 3, 3)),
    "sigmoid": (nn.Sigmoid, (6,)),
    "tanh": (nn.Tanh, (6,)),
    "identity": (nn.Identity, (6,)),
    "dropout": (lambda: nn.Dropout(0.5), (6,)),
    "nested": (lambda: nn.Sequential(nn.Sequential(nn.Linear(4, 3), nn.Tanh()), nn.Linear(3, 2)), (4,)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_supported_layer_is_bounded(name: str) -> None:
    make, shape = LAYERS[name]
    layer = randomised(make(), 3)
    low, high = box(shape, 1.5, 3)
    given_low, given_high = low.clone(), high.clone()
    least, most = interval(layer, low, high)
    assert torch.equal(low, given_low), "the caller's bounds were changed"
    assert torch.equal(high, given_high), "the caller's bounds were changed"
    outputs = layer(inside(low, high, 4000, 3))
    assert least.shape == most.shape == (1, *outputs.shape[1:])
    assert (outputs >= least - ROUNDING).all()
    assert (outputs <= most + ROUNDING).all()
    at_a_point = interval(layer, low, low)
    assert all(torch.allclose(end, layer(low.clone()), rtol=0, atol=1e-12) for end in at_a_point)


@pytest.mark.parametrize("name", ["linear", "conv1d", "conv2d", "batch norm 1d", "batch norm 2d"])
def test_an_affine_layer_reaches_each_bound_at_a_corner(name: str) -> None:
    make, shape = LAYERS[name]
    layer = randomised(make(), 4)
    low, high = box(shape, 1.0, 4)
    for bound, sign in zip(interval(layer, low, high), (-1, 1), strict=True):
        for place in range(bound.numel()):
            x = low.clone().requires_grad_(True)
            (slope,) = torch.autograd.grad(layer(x).flatten()[place], x)
            reached = layer(torch.where(sign * slope > 0, high, low))
            assert float(reached.flatten()[place]) == pytest.approx(float(bound.flatten()[place]), abs=1e-12)


@pytest.mark.parametrize("name", ["average 2d", "adaptive average 1d", "maximum 2d", "relu", "leaky relu", "tanh"])
def test_a_rising_layer_reaches_its_bounds_at_the_ends(name: str) -> None:
    make, shape = LAYERS[name]
    layer = randomised(make(), 4)
    low, high = box(shape, 1.0, 4)
    for bound, end in zip(interval(layer, low, high), (low, high), strict=True):
        assert torch.allclose(bound, layer(end.clone()), rtol=0, atol=1e-12)


def test_a_layer_used_twice_counts_twice() -> None:
    shared, bend = nn.Linear(3, 3), nn.ReLU()
    twice = randomised(nn.Sequential(shared, bend, shared, bend), 5)
    copied = nn.Sequential(*(copy.deepcopy(layer) for layer in twice))  # type: ignore[arg-type]
    low, high = box((3,), 1.0, 5)
    assert all(torch.equal(*ends) for ends in zip(interval(twice, low, high), interval(copied, low, high), strict=True))


def normalised(seed: int) -> nn.Module:
    """Batch norm and a shortcut, in float64."""
    block = Basic(1, 3, 1, nn.BatchNorm2d)
    return randomised(nn.Sequential(block, nn.Flatten(), nn.Linear(27, 4), nn.BatchNorm1d(4)), seed)


def test_in_training_boxes_are_normalised_by_the_statistics_of_the_records() -> None:
    model = normalised(1).train()
    alone, seen = copy.deepcopy(model), copy.deepcopy(model)
    x = torch.randn(6, 1, 3, 3, generator=generator(1), dtype=DOUBLE)
    y = torch.arange(6) % 4
    logits, worst = logits_and_worst(model, x, x - 0.2, x + 0.1, y)
    torch.testing.assert_close(logits, alone(x))
    for name, tensor in alone.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor, msg=name)
    for layer in seen.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.momentum = 1.0  # running statistics become the batch's, but for Bessel's correction
    seen(x)
    for layer in seen.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            count = 6 if isinstance(layer, nn.BatchNorm1d) else 6 * 9
            assert layer.running_var is not None
            layer.running_var *= (count - 1) / count
    torch.testing.assert_close(worst, worst_logits(seen.eval(), x - 0.2, x + 0.1, y))


def test_records_beside_their_boxes_lose_entries_to_dropout_as_ever() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3)).to(DOUBLE).train()
    x, y = torch.ones(8, 4, dtype=DOUBLE), torch.zeros(8, dtype=torch.int64)
    torch.manual_seed(3)
    logits, worst = logits_and_worst(model, x, x, x, y)
    torch.manual_seed(3)
    assert torch.equal(logits, model(x))
    assert torch.equal(worst, worst_logits(model.eval(), x, x, y))


def test_dropout_is_bounded_as_it_answers_not_as_it_trains() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2)).to(DOUBLE)
    low, high = box((3,), 1.0, 6)
    training = interval(model.train(), low, high)
    assert all(torch.equal(*ends) for ends in zip(training, interval(model.eval(), low, high), strict=True))


def test_bounds_are_differentiable_in_every_weight() -> None:
    model = one_hidden(7)
    low, high = box((3,), 0.5, 7)
    names = [name for name, _ in model.named_parameters()]

    def worst(*values: Tensor) -> Tensor:
        trial = copy.deepcopy(model)
        for name, value in zip(names, values, strict=True):
            owner, _, last = name.rpartition(".")
            delattr(trial.get_submodule(owner), last)
            setattr(trial.get_submodule(owner), last, value)
        return worst_logits(trial, low, high, torch.tensor([0]))

    given = tuple(parameter.detach().clone().requires_grad_(True) for parameter in model.parameters())
    assert torch.autograd.gradcheck(worst, given)
