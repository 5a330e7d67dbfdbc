"""A stand-in answers as the model does, bit for bit, and leads an attack where the model led it nowhere."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks.adaptive import LogitsOfProbabilities, answers
from assay.attacks.expectation import Expectation
from assay.attacks.gradients import input_gradient
from assay.attacks.losses import margin
from assay.attacks.pgd import PGD
from assay.attacks.straight_through import straight_through
from assay.models.cnn import CNN
from assay.threats import Bounds, Threat

FEATURES = 6
BOUNDS = Bounds(low=torch.full((FEATURES,), -1.0), high=torch.full((FEATURES,), 1.0))


class Behind(nn.Module):
    """A linear network behind a function of its inputs."""

    def __init__(self, function: Callable[[Tensor], Tensor], inputs: int = FEATURES) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function, self.network = function, nn.Linear(inputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.function(x))


class Negated(nn.Module):
    """Rounds to tenths, upside down, where no gradient can follow."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor((-10 * x).detach().numpy().round())


class Thermometer(nn.Module):
    """How many of three marks each input exceeds, as bits (Buckman et al. 2018): three times as many outputs."""

    def forward(self, x: Tensor) -> Tensor:
        read = x.detach().numpy()
        return torch.cat([torch.tensor((read > mark).astype("float32")) for mark in (-0.4, 0.0, 0.4)], dim=1)


class Rectifier(nn.Module):
    """An honest layer of the user's own, silent on seven inputs of ten."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0.4, x - 0.4, 0.0)


class After(nn.Module):
    """A network, and something done to its logits."""

    def __init__(self, network: nn.Module, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.function = network, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.network(x))


def margins(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Gradient of the margin, (n, ...)."""
    point = x.clone().requires_grad_(True)
    return input_gradient(margin(model(point), y), point)


@pytest.fixture
def x() -> Tensor:
    return torch.rand(60, FEATURES, generator=torch.Generator().manual_seed(1)) * 1.8 - 0.9


def slope(model: nn.Module, x: Tensor) -> Tensor:
    """Gradient of the first logit, (n, ...)."""
    point = x.clone().requires_grad_(True)
    return input_gradient(model(point)[:, 0], point)


def silently(x: Tensor) -> Tensor:
    with torch.no_grad():
        return 2 * x


RISING: dict[str, Callable[[Tensor], Tensor]] = {
    "round": lambda x: torch.round(3 * x) / 3,
    "round_": lambda x: (3 * x).round_(),
    "floor": lambda x: (4 * x).floor(),
    "floor_divide": lambda x: x // 0.2,
    "floor_divide, by name": lambda x: torch.floor_divide(x, other=0.2),
    "division, rounded": lambda x: torch.div(x, 0.2, rounding_mode="floor"),
    "less its remainder": lambda x: x - x % 0.25,
    "less its remainder towards 0": lambda x: x - torch.fmod(x, 0.25),
    "threshold": lambda x: F.threshold(x, 0.85, -1.0),
    "bins": lambda x: (torch.bucketize(x, torch.linspace(-1, 1, 9)) - 1).clamp(0) * 0.25,
    "bins, searched for": lambda x: torch.searchsorted(torch.linspace(-1, 1, 9), x).float(),
    "bins, looked up": lambda x: torch.linspace(-1, 1, 10)[torch.bucketize(x, torch.linspace(-1, 1, 9))],
    "sign": torch.sign,
    "heaviside": lambda x: torch.heaviside(x, torch.zeros(())),
    "greater": lambda x: (x > 0.1).float(),
    "greater, as a factor": lambda x: 2.0 * (x > 0.1),
    "where": lambda x: torch.where(x >= 0.1, 1.0, -1.0),
    "bytes": lambda x: (255 * (x + 1) / 2).byte() / 255,
    "to integers and back": lambda x: (9 * x).to(torch.int32).float(),
    "sigmoid": lambda x: torch.sigmoid(1000 * x),
    "tanh": lambda x: torch.tanh(1000 * x),
    "clamp": lambda x: (100 * x).clamp(-1, 1),
    "hardtanh": lambda x: F.hardtanh(100 * x),
    "detach": lambda x: x.detach() ** 3,
    "no_grad": silently,
}
UNDEFINED = ("floor_divide", "floor_divide, by name", "heaviside")
"""Of these PyTorch has no derivative at all."""


@pytest.mark.parametrize("name", [name for name in RISING if name != "detach"])
def test_a_rising_function_that_kills_gradients_is_bridged_wherever_it_is_called(name: str, x: Tensor) -> None:
    model = Behind(RISING[name])
    stand_in = straight_through(model, x)
    assert torch.equal(stand_in(x), model(x))
    assert (slope(model, x) == 0).double().mean() > 0.8 or name == "heaviside"
    assert (slope(stand_in, x).sign() == model.network.weight[0].sign()).all()


def test_what_was_detached_is_differentiated_again(x: Tensor) -> None:
    model = Behind(RISING["detach"])
    assert torch.allclose(slope(straight_through(model, x), x), 3 * x**2 * model.network.weight[0])


@pytest.mark.parametrize("below", [lambda x: (x < 0.1).float(), lambda x: torch.where(x <= 0.1, 1.0, 0.0)])
def test_a_falling_threshold_is_followed_downwards(below: Callable[[Tensor], Tensor], x: Tensor) -> None:
    model = Behind(below)
    stand_in = straight_through(model, x)
    assert torch.equal(stand_in(x), model(x))
    assert (slope(stand_in, x).sign() == -model.network.weight[0].sign()).all()


def test_a_blind_layer_is_bridged_by_the_slope_that_it_has_on_average(x: Tensor) -> None:
    model = Behind(Negated())
    stand_in = straight_through(model, x)
    assert torch.equal(stand_in(x), model(x))
    assert torch.allclose(slope(stand_in, x), -10 * model.network.weight[0].expand_as(x), rtol=0.05)


class Top(nn.Module):
    """A network whose own method leaves PyTorch on the way."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network, self.change = nn.Linear(FEATURES, 3), change

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.change(x))


@pytest.mark.parametrize(
    "change",
    [
        lambda x: torch.from_numpy(np.round(4 * x.detach().numpy()) / 4),
        lambda x: torch.tensor(np.floor(9 * x.detach().cpu().numpy()) / 9),
        lambda x: torch.from_numpy(np.round(np.asarray(x.detach(), np.float64) * 8) / 8).float(),
        lambda x: torch.from_numpy((127 * x.detach().numpy()).astype(np.int16)).float() / 127,
        lambda x: torch.tensor([[round(4 * value) / 4 for value in row] for row in x.tolist()]),
    ],
    ids=["from_numpy", "tensor", "in double precision", "as integers", "lists"],
)
def test_rounding_by_numpy_in_a_method_of_the_top_module_is_bridged(
    change: Callable[[Tensor], Tensor], x: Tensor
) -> None:
    model = Top(change)
    stand_in = straight_through(model, x)
    assert torch.equal(stand_in(x), model(x))
    assert not slope(model, x).any()
    assert F.cosine_similarity(slope(stand_in, x), model.network.weight[0].expand_as(x)).min() > 0.99


def test_a_constant_of_the_same_shape_is_not_taken_for_what_came_back_from_numpy(x: Tensor) -> None:
    def change(x: Tensor) -> Tensor:
        x.detach().numpy()
        return torch.where(x > 0, x, torch.zeros_like(x))

    assert torch.equal(slope(straight_through(Top(change), x), x), slope(Top(change), x))


def test_a_blind_layer_of_another_shape_is_bridged_by_a_line(x: Tensor) -> None:
    model = Behind(Thermometer(), inputs=3 * FEATURES)
    stand_in = straight_through(model, x)
    assert torch.equal(stand_in(x), model(x))
    whole = model.network.weight[0].view(3, FEATURES).sum(0)
    assert F.cosine_similarity(slope(stand_in, x), whole.expand_as(x)).min() > 0.9


def test_the_line_of_a_layer_that_is_one_is_found(x: Tensor) -> None:
    matrix = torch.randn(FEATURES, 4, generator=torch.Generator().manual_seed(4))

    class Hidden(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor(x.detach().numpy() @ matrix.numpy())

    model = Behind(Hidden(), inputs=4)
    expected = (model.network.weight[0] @ matrix.T).expand_as(x)
    assert torch.allclose(slope(straight_through(model, x), x), expected, rtol=0.05, atol=0.01)


def test_a_network_that_is_one_blind_layer_is_bridged_whole(x: Tensor) -> None:
    model = Negated()
    stand_in = straight_through(model, x)
    assert torch.equal(stand_in(x), model(x))
    assert (slope(stand_in, x)[:, 0] < -9).all()


def test_the_model_is_left_as_it_was(x: Tensor) -> None:
    model = nn.Sequential(nn.Linear(FEATURES, FEATURES), Negated(), nn.Linear(FEATURES, 3)).eval()
    layers, weights = list(model.modules()), copy.deepcopy(model.state_dict())
    stand_in = straight_through(model, x)
    assert slope(stand_in, x).any()
    assert list(model.modules()) == layers
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert all(not layer._forward_pre_hooks for layer in model.modules())
    assert not slope(model, x).any()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_the_gradient_mode_is_left_as_it_was(mode: type, x: Tensor) -> None:
    def switched(x: Tensor) -> Tensor:
        with mode():
            return 2 * x

    stand_in = straight_through(Behind(switched), x)
    with torch.no_grad():
        stand_in(x)
        assert not torch.is_grad_enabled()
    stand_in(x)
    assert torch.is_grad_enabled()


def test_an_honest_network_keeps_its_gradient(x: Tensor) -> None:
    images = torch.rand(9, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    cnn = CNN(channels=(4, 8), hidden=16).build((1, 8, 8), 3, seed=0).eval()
    pooled = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    for model, records in ((cnn, images), (pooled.eval(), images), (Behind(Rectifier()), x)):
        assert torch.equal(slope(straight_through(model, records), records), slope(model, records))


def test_through_the_stand_in_a_quantised_linear_model_falls_to_its_worst_corner() -> None:
    # The worst change of a linear model behind a rising function is known: every input to the end of its range.
    model = Behind(RISING["round"]).eval()
    x = torch.rand(400, FEATURES, generator=torch.Generator().manual_seed(3)) * 1.4 - 0.7
    y = model(x)[:, :2].argmax(1)
    model.network.bias.data[2] = -99.0
    way = (model.network.weight[1] - model.network.weight[0]).sign() * (1 - 2 * y[:, None])
    worst = float((model(x + 0.25 * way).argmax(1) == y).double().mean())
    threat = Threat(norm="linf", epsilon=0.25, bounds=BOUNDS)
    blind = PGD(loss="margin").run(model, x, y, threat, seed=0).accuracy
    seen = PGD(loss="margin").run(model, x, y, threat, seed=0, through=straight_through(model, x)).accuracy
    assert (blind, seen) == (1.0, worst)
    assert worst < 0.7


class Dropped(Behind):
    """Forgets half of its inputs, whatever mode it is in."""

    def __init__(self) -> None:
        super().__init__(lambda x: F.dropout(x, training=True))


def test_the_expectation_is_the_logarithm_of_mean_probabilities_and_has_its_gradient(x: Tensor) -> None:
    model = Dropped()
    torch.manual_seed(5)
    point = x.clone().requires_grad_(True)
    passes = torch.stack([model(point).softmax(1) for _ in range(7)])
    expected = input_gradient(passes.mean(0).log()[:, 0], point)
    torch.manual_seed(5)
    assert torch.allclose(Expectation(model, 7)(x), passes.mean(0).log(), atol=1e-6)
    torch.manual_seed(5)
    assert torch.allclose(slope(Expectation(model, 7), x), expected, atol=1e-6)


def test_the_expectation_of_a_model_without_randomness_is_its_answer(x: Tensor) -> None:
    model = nn.Linear(FEATURES, 3)
    assert torch.allclose(Expectation(model, 4)(x), model(x).log_softmax(1), atol=1e-6)


def test_the_expectation_keeps_no_more_than_records_and_answers_of_each_pass(x: Tensor) -> None:
    wide = nn.Sequential(nn.Linear(FEATURES, 5000), nn.ReLU(), nn.Dropout(), nn.Linear(5000, 3))
    kept = 0

    def weigh(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(weigh, lambda tensor: tensor):
        Expectation(wide, 10)(x.requires_grad_(True))
    assert kept < len(x) * 5000


@pytest.mark.parametrize("samples", [0, -1])
def test_an_expectation_over_nothing_is_refused(samples: int) -> None:
    with pytest.raises(ValueError, match=f"samples must be at least 1, given: {samples}"):
        Expectation(nn.Linear(2, 2), samples)


@pytest.mark.parametrize(
    "softmax",
    [nn.Softmax(1), lambda x: F.softmax(x, dim=-1), lambda x: x.softmax(1), lambda x: torch.softmax(x, 1)],
)
def test_the_logarithm_of_a_saturated_softmax_leads_as_its_logits_do(
    softmax: Callable[[Tensor], Tensor], x: Tensor
) -> None:
    model = Behind(lambda x: x)
    behind = After(model, lambda logits: softmax(1000 * logits))
    y = model(x).argmax(1)
    assert (margins(behind, x, y) == 0).double().mean() > 0.8
    torch.testing.assert_close(margins(LogitsOfProbabilities(behind), x, y), 1000 * margins(model, x, y))


def test_a_saturated_softmax_within_a_network_is_bridged_by_a_milder_one(x: Tensor) -> None:
    model = After(Behind(lambda x: x), lambda logits: (1000 * logits).softmax(1).clamp(0, 1))
    plain, y = model.network, model(x).argmax(1)
    stand_in = straight_through(model, x)
    assert torch.equal(stand_in(x), model(x))
    led, honest = margins(stand_in, x, y), margins(plain, x, y)
    assert (margins(model, x, y) == 0).double().mean() > 0.8
    assert F.cosine_similarity(led, honest).min() > 0.6


def test_a_softmax_that_is_not_saturated_keeps_its_gradient(x: Tensor) -> None:
    model = After(Behind(lambda x: x), lambda logits: (2 * logits).softmax(1))
    assert torch.equal(slope(straight_through(model, x), x), slope(model, x))


def test_a_layer_may_change_its_input_in_place(x: Tensor) -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.clamp_(-1e3, 1e3).mul_(3).round_()

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(FEATURES, FEATURES), InPlace(), nn.Linear(FEATURES, 3))
    stand_in = straight_through(model, x)
    assert torch.equal(stand_in(x), model(x))
    expected = 3 * model[2].weight[0] @ model[0].weight
    assert torch.allclose(slope(stand_in, x), expected.expand_as(x), atol=1e-5)


def test_the_line_of_a_bridge_moves_with_its_network(x: Tensor) -> None:
    stand_in = straight_through(Behind(Negated()), x)
    (line,) = (values for name, values in stand_in.named_buffers() if name.endswith("line"))
    assert line.dtype == torch.float32
    (moved,) = (values for name, values in stand_in.double().named_buffers() if name.endswith("line"))
    assert moved.dtype == torch.float64


def test_the_logarithm_of_probabilities_has_the_margins_of_the_logits(x: Tensor) -> None:
    model = nn.Linear(FEATURES, 3)
    said = LogitsOfProbabilities(nn.Sequential(model, nn.Softmax(1)))(x)
    assert torch.allclose(said, model(x).log_softmax(1), atol=1e-5)


def quantised() -> nn.Module:
    return Behind(RISING["round"]).eval()


@pytest.mark.parametrize(
    ("raised", "model", "labels"),
    [
        ((), quantised(), []),
        (("train_mode", "finite_outputs"), quantised(), []),
        (("zero_gradients",), quantised(), ["pgd_straight_through", "spsa", "square", "hop_skip_jump"]),
        (
            ("black_box_against_white_box",),
            quantised(),
            ["pgd_straight_through", "pgd_smoothed_input", "pgd_long", "spsa", "square", "hop_skip_jump"],
        ),
        (
            ("black_box_on_survivors",),
            quantised(),
            ["pgd_straight_through", "pgd_smoothed_input", "pgd_long", "spsa", "square", "hop_skip_jump"],
        ),
        (("unbounded_attack",), nn.Linear(FEATURES, 3), ["spsa", "square", "hop_skip_jump"]),
        (
            ("true_slopes",),
            nn.Linear(FEATURES, 3),
            ["pgd_smoothed_input", "pgd_long", "spsa", "square", "hop_skip_jump"],
        ),
        (("stronger_attack",), nn.Linear(FEATURES, 3), ["pgd_long"]),
        (("gradient_masking",), nn.Linear(FEATURES, 3), ["pgd_margin", "square"]),
        (("randomised_forward",), Dropped(), ["pgd_expectation"]),
        (
            ("black_box_against_white_box", "randomised_forward"),
            Dropped(),
            ["pgd_expectation", "pgd_smoothed_input", "pgd_long", "spsa", "square", "hop_skip_jump"],
        ),
        (("probability_outputs",), nn.Sequential(nn.Linear(FEATURES, 3), nn.Softmax(1)), ["pgd_logarithm"]),
        (("step_size", "boundary_reached"), nn.Linear(FEATURES, 3), ["pgd_long"]),
        (
            ("unbounded_attack", "randomised_forward", "probability_outputs"),
            nn.Sequential(Dropped(), Negated(), nn.Softmax(1)),
            ["pgd_straight_through_logarithm_expectation", "spsa", "square", "hop_skip_jump"],
        ),
    ],
)
def test_each_suspicion_has_its_answer(raised: tuple[str, ...], model: nn.Module, labels: list[str], x: Tensor) -> None:
    found = answers(raised, model.eval(), x, steps=4, samples=3)
    assert [answer.label for answer in found] == labels
    assert all(answer.because and set(answer.because) <= set(raised) for answer in found)
    assert all(torch.isfinite(answer.through(x)).all() for answer in found if answer.through is not None)
