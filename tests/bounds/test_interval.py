"""Interval bounds hold whatever is tried inside the box: sampled ≤ exact ≤ linear relaxation ≤ interval."""

import copy
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Tensor, nn

from assay.attacks.losses import margin
from assay.attacks.pgd import PGD
from assay.bounds.interval import _RULES, UnboundableError, certified, interval, worst_logits
from assay.data.base import Dataset, Normalisation
from assay.models.front import Normalise
from assay.threats import Bounds, Norm, Threat

DOUBLE = torch.float64
ROUNDING = 1e-9

seeds = st.integers(0, 10_000)
radii = st.floats(0.01, 2.0)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randomised(model: nn.Module, seed: int) -> nn.Module:
    """The network in float64 and evaluation mode, every weight and statistic drawn anew."""
    draw = generator(seed)
    model = model.to(DOUBLE).eval().requires_grad_(False)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                drawn = torch.randn(tensor.shape, generator=draw, dtype=DOUBLE)
                tensor.copy_(drawn.abs() + 0.1 if name.endswith("running_var") else drawn)
    return model


def one_hidden(seed: int, *, inputs: int = 3, hidden: int = 5, classes: int = 3) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))
    return randomised(model, seed)  # type: ignore[return-value]


def convolutional(seed: int) -> nn.Module:
    features = nn.Sequential(nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True))
    return randomised(nn.Sequential(features, nn.Flatten(), nn.Linear(12, 6), nn.LeakyReLU(0.1), nn.Linear(6, 3)), seed)


def box(shape: tuple[int, ...], radius: float, seed: int) -> tuple[Tensor, Tensor]:
    """A box of one record, narrower in some inputs than in others."""
    draw = generator(seed + 1)
    centre = torch.randn((1, *shape), generator=draw, dtype=DOUBLE)
    reach = radius * torch.rand((1, *shape), generator=draw, dtype=DOUBLE)
    return centre - reach, centre + reach


def inside(low: Tensor, high: Tensor, count: int, seed: int) -> Tensor:
    """Records of the box: half of them corners."""
    share = torch.rand((count, *low.shape[1:]), generator=generator(seed + 2), dtype=DOUBLE)
    share[: count // 2] = share[: count // 2].round()
    return low + share * (high - low)


def corners(low: Tensor, high: Tensor) -> Tensor:
    ends = torch.stack([low.flatten(), high.flatten()], 1).tolist()
    return torch.tensor(list(itertools.product(*ends)), dtype=DOUBLE).view(-1, *low.shape[1:])


def weights(model: nn.Sequential) -> tuple[np.ndarray, ...]:
    """W, b, V, c of a network with one hidden layer."""
    first, _, last = model
    return tuple(t.detach().numpy() for t in (first.weight, first.bias, last.weight, last.bias))


def exact(model: nn.Sequential, low: Tensor, high: Tensor, wrong: int, right: int) -> float:
    """Greatest difference of two logits in the box: one linear programme for each pattern of active neurons."""
    W, b, V, c = weights(model)
    ends = np.stack([low.numpy()[0], high.numpy()[0]], 1)
    best = -np.inf
    for pattern in itertools.product((0.0, 1.0), repeat=len(b)):
        on = np.array(pattern)
        gain = (V[wrong] - V[right]) * on
        signs = (1 - 2 * on)[:, None]  # an active neuron is at least 0, another at most
        found = linprog(-(gain @ W), A_ub=signs * W, b_ub=-signs[:, 0] * b, bounds=ends)
        if found.status == 0:
            best = max(best, gain @ b + c[wrong] - c[right] - found.fun)
    return float(best)


def relaxed(model: nn.Sequential, low: Tensor, high: Tensor, wrong: int, right: int) -> float:
    """The same over the triangle around every unstable ReLU (Ehlers 2017), with interval bounds below it."""
    W, b, V, c = weights(model)
    below, above = (t.detach().numpy()[0] for t in interval(model[0], low, high))
    inputs, hidden = W.shape[1], len(b)
    gain = V[wrong] - V[right]
    rows, limits = [], []
    for j in range(hidden):
        unit = np.eye(hidden)[j]
        rows.append(np.concatenate([W[j], -unit]))  # h ≥ Wx + b
        limits.append(-b[j])
        if below[j] >= 0:
            rows.append(np.concatenate([-W[j], unit]))  # h ≤ Wx + b
            limits.append(b[j])
        elif above[j] > 0:
            slope = above[j] / (above[j] - below[j])
            rows.append(np.concatenate([-slope * W[j], unit]))  # h ≤ slope (Wx + b − below)
            limits.append(slope * (b[j] - below[j]))
    ends = [*zip(low.numpy()[0], high.numpy()[0], strict=True), *((0.0, max(0.0, end)) for end in above)]
    found = linprog(np.concatenate([np.zeros(inputs), -gain]), A_ub=np.stack(rows), b_ub=limits, bounds=ends)
    assert found.status == 0, found.message
    return float(-found.fun + c[wrong] - c[right])


@given(seed=seeds, radius=radii)
@settings(max_examples=12)
def test_sampled_exact_relaxed_and_interval_margins_are_in_order(seed: int, radius: float) -> None:
    model = one_hidden(seed)
    low, high = box((3,), radius, seed)
    right = seed % 3
    bound = worst_logits(model, low, high, torch.tensor([right]))[0]
    logits = model(inside(low, high, 2000, seed))
    for wrong in {0, 1, 2} - {right}:
        sampled = float((logits[:, wrong] - logits[:, right]).max())
        true, linear = (f(model, low, high, wrong, right) for f in (exact, relaxed))
        assert sampled <= true + ROUNDING
        assert true <= linear + ROUNDING
        assert linear <= float(bound[wrong]) + ROUNDING


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


@given(seed=seeds, radius=radii)
def test_merging_the_last_layer_is_never_looser(seed: int, radius: float) -> None:
    model, y = one_hidden(seed), torch.tensor([seed % 3])
    low, high = box((3,), radius, seed)
    merged = worst_logits(model, low, high, y)
    apart = worst_logits(nn.Sequential(model, nn.Identity()), low, high, y)
    assert (merged <= apart + ROUNDING).all()


def test_merging_the_last_layer_is_tighter_where_classes_share_neurons() -> None:
    model = one_hidden(0)
    low, high = box((3,), 0.5, 0)
    y = torch.tensor([0])
    apart = worst_logits(nn.Sequential(model, nn.Identity()), low, high, y)
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


class Squared(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x


class Doubled(nn.Linear):
    """Looks like a linear layer and is none."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Residual(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.Sequential(Squared(), nn.Linear(2, 2))), r"layer '1.0' \(Squared\)"),
        (nn.Sequential(nn.Linear(2, 2), nn.Softmax(1)), r"layer '1' \(Softmax\).*supported: nn.Sequential of Linear"),
        (nn.Sequential(Doubled(2, 2)), r"layer '0' \(Doubled\)"),
        (Residual(nn.Linear(2, 2)), r"the model \(Residual\)"),
        (nn.Sequential(nn.LeakyReLU(-0.1)), "falls where its slope is -0.1"),
        (nn.Sequential(nn.BatchNorm1d(2)), "only in evaluation mode"),
        (nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False)).eval(), "mixes the records of a batch"),
    ],
)
def test_what_cannot_be_bounded_is_an_error_that_names_it(model: nn.Module, said: str) -> None:
    x = torch.zeros(2, 2)
    y = torch.tensor([0, 1])
    with pytest.raises(UnboundableError, match=said):
        interval(model, x, x + 1)
    with pytest.raises(UnboundableError, match=said):
        worst_logits(model, x, x + 1, y)


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


def wide(norm: Norm, epsilon: float, reach: float = 100.0) -> Threat:
    bounds = Bounds(low=torch.tensor(-reach, dtype=DOUBLE), high=torch.tensor(reach, dtype=DOUBLE))
    return Threat(norm=norm, epsilon=epsilon, bounds=bounds)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_is_certified_is_never_fooled(
    norm: Norm, trained: nn.Module, records: tuple[Tensor, Tensor], wdbc: Dataset
) -> None:
    x, y = records
    seen = 0
    for epsilon in (0.01, 0.03, 0.1, 0.3):
        threat = Threat(norm=norm, epsilon=epsilon, bounds=wdbc.bounds)
        proven = certified(trained, x, y, threat)
        fooled = PGD(steps=40, loss="margin", restarts=2).run(trained, x, y, threat, seed=0).fooled
        assert not bool((proven & fooled).any())
        seen += int(proven.sum()) and int(fooled.sum())
    assert seen, "no radius had both certified and fooled records"


def test_a_convolutional_certificate_is_never_broken() -> None:
    model = convolutional(8).float()
    x = torch.rand(64, 1, 7, 7, generator=generator(8))
    y = model(x).argmax(1)
    threat = Threat(norm="linf", epsilon=0.02, bounds=Bounds(low=torch.zeros(1), high=torch.ones(1)))
    proven = certified(model, x, y, threat)
    assert 0 < int(proven.sum()) < 64
    assert not bool((proven & PGD(loss="margin", restarts=3).run(model, x, y, threat, seed=1).fooled).any())


def test_the_bounds_of_valid_records_make_more_certifiable() -> None:
    model = nn.Linear(1, 2).to(DOUBLE)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        model.bias.zero_()
    x, y = torch.tensor([[0.5]], dtype=DOUBLE), torch.tensor([0])
    assert not certified(model, x, y, wide("linf", 0.6))
    positive = Bounds(low=torch.tensor([0.1], dtype=DOUBLE), high=torch.tensor([1.0], dtype=DOUBLE))
    assert certified(model, x, y, Threat(norm="linf", epsilon=0.6, bounds=positive))
    assert certified(model, x, y, Threat(norm="linf", epsilon=float("inf"), bounds=positive))


def test_at_radius_zero_it_is_being_right_without_a_tie(trained: nn.Module, records: tuple[Tensor, Tensor]) -> None:
    x, y = records
    with torch.no_grad():
        right = margin(trained(x), y) < 0
    assert 0 < int(right.sum()) < len(y)
    assert torch.equal(certified(trained, x, y, wide("linf", 0.0)), right)
    tied = nn.Linear(2, 2, bias=False)
    nn.init.ones_(tied.weight)
    assert not certified(tied, torch.ones(1, 2), torch.tensor([0]), wide("linf", 0.0))


def test_fewer_records_are_certified_at_a_larger_radius(trained: nn.Module, records: tuple[Tensor, Tensor]) -> None:
    shares = [certified(trained, *records, wide("linf", epsilon)) for epsilon in (0.0, 1e-9, 0.01, 0.05, 0.2, 2.0)]
    assert all(bool((larger <= smaller).all()) for smaller, larger in itertools.pairwise(shares))
    assert not shares[-1].any()


def test_a_euclidean_ball_is_bounded_by_its_box(trained: nn.Module, records: tuple[Tensor, Tensor]) -> None:
    boxed, ball = (certified(trained, *records, wide(norm, 0.05)) for norm in ("linf", "l2"))
    assert bool((ball <= boxed).all())


def test_a_margin_that_rounding_could_close_is_not_certified() -> None:
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1e6, -1e6], [0.0, 0.0]]))
        model.bias.copy_(torch.tensor([1e-3, 0.0]))
    x, y, threat = torch.tensor([[0.7, 0.7]]), torch.tensor([0]), wide("linf", 1e-12)
    own = copy.deepcopy(model).double()
    low, high = x.double() - 1e-12, x.double() + 1e-12
    assert worst_logits(own, low, high, y)[0, 1] < 0
    assert not certified(model, x, y, threat)
    assert certified(own, x.double(), y, threat)


@pytest.mark.parametrize("after", [(), (nn.ReLU(), nn.Linear(2, 2, bias=False))])
def test_rounding_grows_with_the_terms_of_a_sum(after: tuple[nn.Module, ...]) -> None:
    """A row of n terms of total size n may be off by n² roundings: no margin below that is proven in float32."""
    n = 1000
    first = nn.Linear(n, 2)
    with torch.no_grad():
        first.weight.copy_(torch.stack([torch.ones(n), torch.ones(n)]))
        first.weight[:, ::2] *= -1
        for layer in after:
            if isinstance(layer, nn.Linear):
                layer.weight.copy_(torch.eye(2))
        x, y = torch.ones(1, n), torch.tensor([0])
        for share, proven in ((0.2, False), (5.0, True)):
            first.bias.copy_(torch.tensor([1.0, 1.0 - share * n * n * 2 * torch.finfo(torch.float32).eps]))
            assert bool(certified(nn.Sequential(first, *after), x, y, wide("linf", 1e-12))) == proven


def test_rounding_of_a_normalised_record_is_allowed_for() -> None:
    """Each end gives way by some roundings of what float32 answers there, so no float32 answer lies outside."""
    layer = Normalise(Normalisation(mean=(0.1307, -7.3), deviation=(0.3081, 1e-3)), (2, 50))
    x = 4 * torch.rand(64, 2, 50, generator=generator(9)) - 2
    answer, own = layer(x).double(), copy.deepcopy(layer).double()
    unit = torch.finfo(torch.float32).eps
    low, high = _RULES[Normalise](own, x.double(), x.double(), 2 * unit)
    assert not bool((own(x.double()) == answer).all()), "nothing was rounded"
    assert bool(((low <= answer) & (answer <= high)).all())
    assert bool((high - low <= 8 * unit * answer.abs() * (1 + 1e-6)).all())


def test_a_certificate_holds_through_a_normalisation() -> None:
    figures = Normalisation(mean=(0.5,), deviation=(0.05,))
    model = nn.Sequential(Normalise(figures, (1, 7, 7)), convolutional(8).float())
    x = torch.rand(64, 1, 7, 7, generator=generator(8))
    y = model(x).argmax(1)
    threat = Threat(norm="linf", epsilon=0.001, bounds=Bounds(low=torch.zeros(1), high=torch.ones(1)))
    proven = certified(model, x, y, threat)
    assert 0 < int(proven.sum()) < 64
    assert not bool((proven & PGD(loss="margin", restarts=3).run(model, x, y, threat, seed=1).fooled).any())


def test_at_radius_zero_the_smallest_margin_counts() -> None:
    model = nn.Sequential(nn.Linear(1, 2), Squared())
    with torch.no_grad():
        model[0].weight.zero_()  # type: ignore[operator]
        model[0].bias.copy_(torch.tensor([1.0 + 2**-22, 1.0]))  # type: ignore[operator]
    assert certified(model, torch.zeros(1, 1), torch.tensor([0]), wide("linf", 0.0))


def test_certifying_leaves_the_model_alone(trained: nn.Module, records: tuple[Tensor, Tensor]) -> None:
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    trained.train()
    found = certified(trained, *records, wide("linf", 0.1))
    assert found.dtype == torch.bool
    assert all(layer.training for layer in trained.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.state_dict().items())
    assert all(p.grad is None and p.dtype == torch.float32 for p in trained.parameters())


def test_nothing_is_certified_of_a_broken_model(records: tuple[Tensor, Tensor]) -> None:
    model = nn.Linear(30, 2)
    nn.init.constant_(model.weight, float("nan"))
    for epsilon in (0.0, 0.1):
        assert not certified(model, *records, wide("linf", epsilon)).any()
