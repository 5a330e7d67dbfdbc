"""Interval bounds hold whatever is tried inside the box: sampled ≤ exact ≤ linear relaxation ≤ interval."""

import copy
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks.losses import margin
from assay.attacks.pgd import PGD
from assay.bounds.interval import UnboundableError, certified, interval, logits_and_worst, worst_logits
from assay.bounds.spans import Span
from assay.data.base import Dataset, Normalisation
from assay.models.front import Normalise
from assay.models.resnet import Basic, Bottleneck, ResNet, Stem
from assay.threats import Bounds, Norm, Threat
from tests.bounds.oracles import Programme

DOUBLE = torch.float64
ROUNDING = 1e-9
SOLVED = 1e-5
"""What a solver of mixed-integer programmes may leave open."""

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


def two_hidden(seed: int) -> nn.Module:
    return randomised(nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), seed)


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


def small_blocks(kind: type[Basic] | type[Bottleneck], seed: int) -> nn.Module:
    """One residual block whose shortcut has weights, and one whose shortcut has none."""
    width = 2 if kind is Basic else 1
    first, second = kind(1, width, 2, nn.BatchNorm2d), kind(width * kind.expansion, width, 1, nn.BatchNorm2d)
    end = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(width * kind.expansion, 3))
    return randomised(nn.Sequential(first, second, *end), seed)


def residual_network(kind: type[Basic] | type[Bottleneck], seed: int, *, stem: Stem = "small") -> nn.Module:
    """All four sizes, with few channels."""
    torch.manual_seed(seed)
    network = ResNet(kind, (1, 1, 1, 1), 1, 3, norm="batch", stem=stem, width=2)
    statistics = dict(randomised(copy.deepcopy(network), seed).named_buffers())
    network.load_state_dict(statistics, strict=False)
    return network.to(DOUBLE).eval().requires_grad_(False)


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


class Done(nn.Module):
    """Any function of the records."""

    def __init__(self, apply: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.apply_to = apply

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_to(x)


class Squared(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x


class Doubled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Residual(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Functional(nn.Module):
    """A network as users write them: nothing but the weights is a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 1), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - 0.3) / torch.tensor([2.0, -4.0]).view(1, 2, 1, 1)[:, :1]
        x = F.relu(self.first(x))
        x = x - torch.tanh(self.second(F.dropout(x, training=self.training))) * 0.5
        pooled = F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 2).mean((2, 3))
        joined = torch.cat([x[:, :, 0].reshape(x.size(0), -1), 1 - pooled], 1)
        return self.last(joined.view(x.shape[0], -1))


class InPlace(nn.Module):
    """A block as torchvision writes them; ``copies`` makes it the same without a change in place."""

    def __init__(self, *, copies: bool) -> None:
        super().__init__()
        self.inner, self.copies, self.bend = nn.Linear(4, 4), copies, nn.ReLU(inplace=not copies)

    def forward(self, x: Tensor) -> Tensor:
        x = x * 1
        bent = self.bend(x)
        out = self.inner(bent)
        if self.copies:
            return out + bent
        out += x
        return out


class ChangedView(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        seen = x.view(len(x), -1)
        F.relu(x, inplace=True)
        return seen


class Choosing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Masking(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (x == 0)


COMPOSED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "shortcut": (lambda: Residual(nn.Linear(4, 4), nn.ReLU()), (4,)),
    "scaled": (lambda: Doubled(4, 3), (4,)),
    "functional": (Functional, (1, 4, 4)),
    "in place": (lambda: InPlace(copies=False), (4,)),
    "difference": (lambda: nn.Sequential(Residual(nn.Linear(4, 4)), nn.Flatten(), nn.Tanh()), (4,)),
    "basic blocks": (lambda: small_blocks(Basic, 0), (1, 4, 4)),
    "bottlenecks": (lambda: small_blocks(Bottleneck, 0), (1, 4, 4)),
    "residual network": (lambda: residual_network(Basic, 0), (1, 6, 6)),
    "bottleneck network": (lambda: residual_network(Bottleneck, 0), (1, 6, 6)),
    "stem of ImageNet": (lambda: residual_network(Basic, 0, stem="imagenet"), (1, 40, 40)),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_every_composition_is_bounded(name: str) -> None:
    make, shape = COMPOSED[name]
    model = randomised(make(), 3)
    for radius in (0.01, 1.0):
        low, high = box(shape, radius, 3)
        least, most = interval(model, low, high)
        outputs = model(inside(low, high, 300, 3))
        room = ROUNDING * (1 + outputs.abs().amax())
        assert (outputs >= least - room).all()
        assert (outputs <= most + room).all()
    at_a_point = interval(model, low, low)
    assert all(torch.allclose(end, model(low.clone()), rtol=1e-9, atol=1e-12) for end in at_a_point)


def test_a_change_in_place_is_seen_by_whoever_holds_the_value() -> None:
    model, twin = (randomised(InPlace(copies=copies), 1) for copies in (False, True))
    low, high = box((4,), 1.0, 1)
    assert (low < 0).any(), "nothing would be changed"
    assert all(torch.equal(*ends) for ends in zip(interval(model, low, high), interval(twin, low, high), strict=True))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.Sequential(Squared(), nn.Linear(2, 2))), r"layer '1.0' \(Squared\)"),
        (nn.Sequential(nn.Linear(2, 2), nn.Softmax(1)), r"layer '1' \(Softmax\) has no.*supported: linear layers"),
        (Residual(nn.Linear(2, 2), nn.LayerNorm(2)), r"layer '1' \(LayerNorm\)"),
        (Residual(nn.GroupNorm(1, 2)), r"layer '0' \(GroupNorm\)"),
        (nn.Sequential(nn.LeakyReLU(-0.1)), "falls where its slope is -0.1"),
        (nn.Sequential(nn.BatchNorm1d(2)), "only in evaluation mode"),
        (nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False)).eval(), "mixes the records of a batch"),
        (nn.Sequential(ChangedView()), r"layer '0' \(ChangedView\) changes in place"),
        (Choosing(), r"the model \(Choosing\)"),
        (nn.Sequential(Masking()), r"layer '0' \(Masking\) decides by the value of a record"),
        (nn.Sequential(nn.LSTM(2, 2)), r"layer '0' \(LSTM\)"),
    ],
)
def test_what_cannot_be_bounded_is_an_error_that_names_it(model: nn.Module, said: str) -> None:
    x = torch.zeros(2, 2)
    y = torch.tensor([0, 1])
    with pytest.raises(UnboundableError, match=said):
        interval(model, x, x + 1)
    with pytest.raises(UnboundableError, match=said):
        worst_logits(model, x, x + 1, y)


MIXED: dict[str, Callable[[Tensor], Tensor]] = {
    "mean over the records": lambda x: x - x.mean(0),
    "mean over the records, kept": lambda x: x - torch.mean(x, 0, keepdim=True),
    "mean over the records, counted from the end": lambda x: x - x.mean((1, -3), keepdim=True),
    "mean of all": lambda x: x + x.mean(),
    "mean over no axes, which is of all": lambda x: x.mean(()),
    "joined": lambda x: torch.cat([x, x])[:2],
    "joined, counted from the end": lambda x: torch.cat([x, x], -3),
    "one record for all": lambda x: x + x[:1],
    "other order": lambda x: x - x[[1, 0]],
    "last record": lambda x: x[-1],
    "some records, by the only axis that is left": lambda x: x[:, 0, 0][..., :1],
    "flattened": lambda x: x.flatten(0).view(2, -1),
    "merged": lambda x: x.view(-1, 2) + 0,
    "mixed by a view": lambda x: x.transpose(1, 2).reshape(4, 2).mean(1),
    "transposed": lambda x: x.transpose(0, 1),
    "transposed, counted from the end": lambda x: x.transpose(-1, -3),
    "permuted": lambda x: x.permute(1, 0, 2),
    "another axis in front": lambda x: x.unsqueeze(0),
    "indices that are not side by side": lambda x: x[:, [0, 1], :][:, None][:, [0, 0], :, [1, 1]],
    "padded": lambda x: F.pad(x, (0, 0, 0, 0, 1, -1)),
    "records for channels": lambda x: F.conv1d(x[:, 0], torch.ones(2, 2, 1, dtype=DOUBLE)),
    "records for features": lambda x: F.linear(x[:, 0, 0], torch.ones(2, 2, dtype=DOUBLE)),
    "records beside features": lambda x: x[:, 0] + x[:, 0, 0],
    "constant with more axes": lambda x: x + torch.zeros(2, 1, 1, 1, dtype=DOUBLE),
}


@pytest.mark.parametrize("name", MIXED)
def test_what_lets_one_record_meet_another_is_an_error(name: str) -> None:
    model = Done(MIXED[name])
    x = torch.rand(2, 2, 2, generator=generator(1), dtype=DOUBLE)
    model(x)
    with pytest.raises(UnboundableError, match="axis 0, where the records of a batch lie"):
        interval(nn.Sequential(model), x, x + 1)


def test_a_difference_from_the_batch_proves_nothing_of_a_record() -> None:
    x, y = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    model = Done(lambda x: x - x.mean(0))
    assert (model(x[:1]) == 0).all(), "alone, a record has no answer"
    with pytest.raises(UnboundableError, match=r"averages over axis 0"):
        certified(model, x, y, wide("linf", 0.1))


OWN: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: x.mean((-1, 1)),
    "joined": lambda x: torch.cat([x, x], -1),
    "flattened": lambda x: x.flatten(1),
    "transposed": lambda x: x.transpose(-1, 1),
    "reshaped": lambda x: x.reshape(x.size(0), -1),
    "indexed": lambda x: x[:, [1, 0], 1:],
    "all but some": lambda x: x[..., 0],
    "unbatched average": lambda x: F.avg_pool2d(x, 2),
    "squeezed": lambda x: x[:, :1].squeeze(1),
    "divided": lambda x: F.avg_pool2d(x, 2, divisor_override=3),
}


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("count", [1, 3])
def test_what_a_record_does_with_itself_alone_is_bounded(name: str, count: int) -> None:
    x = torch.rand(count, 2, 2, generator=generator(1), dtype=DOUBLE)
    low, high = interval(Done(OWN[name]), x - 0.1, x + 0.2)
    torch.testing.assert_close(low, OWN[name](x - 0.1))
    torch.testing.assert_close(high, OWN[name](x + 0.2))


def test_an_average_that_falls_is_an_error() -> None:
    x = torch.rand(2, 1, 2, 2, dtype=DOUBLE)
    with pytest.raises(UnboundableError, match="give divisor_override above 0"):
        interval(nn.AvgPool2d(2, divisor_override=-1), x, x + 1)


def test_a_proof_with_reversed_ends_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="reversed"):
        Span(torch.zeros(1, 2), torch.tensor([[1.0, -1.0]]), unit=1e-7)


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


@pytest.mark.parametrize("kind", [Basic, Bottleneck])
def test_a_certificate_of_a_residual_network_is_never_broken(kind: type[Basic] | type[Bottleneck]) -> None:
    model = residual_network(kind, 5).float().train()
    x = torch.rand(64, 1, 6, 6, generator=generator(5))
    for _ in range(20):
        model(x)  # so that statistics fit the records
    y = model.eval()(x).argmax(1)
    valid = Bounds(low=torch.zeros(1), high=torch.ones(1))
    seen = 0
    for epsilon in (1e-6, 1e-4, 1e-2, 0.3):
        threat = Threat(norm="linf", epsilon=epsilon, bounds=valid)
        proven = certified(model, x, y, threat)
        fooled = PGD(loss="margin", restarts=2).run(model, x, y, threat, seed=1).fooled
        assert not bool((proven & fooled).any())
        seen |= (int(proven.any()) << 1) | int(fooled.any())
    assert seen == 3, "no record was certified, or none fooled"


def test_inputs_that_nobody_can_change_make_more_certifiable() -> None:
    model = nn.Linear(2, 2, bias=False).to(DOUBLE)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 9.0], [0.0, 0.0]]))
    x, y = torch.tensor([[0.5, 0.0]], dtype=DOUBLE), torch.tensor([0])
    ends = {"low": torch.full((2,), -9.0), "high": torch.full((2,), 9.0)}
    fixed = Bounds(**ends, fixed=torch.tensor([False, True]))
    assert not certified(model, x, y, Threat(norm="linf", epsilon=0.4, bounds=Bounds(**ends)))
    assert certified(model, x, y, Threat(norm="linf", epsilon=0.4, bounds=fixed))
    assert not certified(model, x, y, Threat(norm="linf", epsilon=0.6, bounds=fixed))


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
    low, high = own(Span(x.double(), torch.zeros_like(x.double()), unit=2 * unit)).ends
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
