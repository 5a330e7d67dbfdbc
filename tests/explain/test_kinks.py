"""Slopes averaged between neighbouring points: exact where a unit's input is linear, never between other rows."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from assay.explain.base import gradient_of
from assay.explain.kinks import _ROWS, _Probe, averaged_slopes, keeps_rows
from assay.explain.line import Line, LineGradients
from assay.explain.scalars import lead
from assay.models.lstm import LSTM
from assay.models.resnet import Basic, Bottleneck, ResNet
from assay.models.text_cnn import TextCNN

DOUBLE = torch.float64


def rows(start: Tensor, end: Tensor, points: int) -> Tensor:
    """Midpoints of lines from ``start`` to ``end``, all rows of one point after each other."""
    places = [(number + 0.5) / points for number in range(points)]
    return torch.cat([start + place * (end - start) for place in places])


def mean_slope(function: Callable[[Tensor], Tensor], start: Tensor, end: Tensor, points: int) -> Tensor:
    given = rows(start, end, points).requires_grad_(True)
    with averaged_slopes(points, len(given)):
        out = function(given)
    torch.testing.assert_close(out.detach(), function(given.detach()), rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(out.sum(), given)
    return gradient.unflatten(0, (points, -1)).mean(0)


SINGLE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "Tensor.relu": Tensor.relu,
    "in place": lambda x: nn.ReLU(inplace=True)(x * 1),
    "relu_": lambda x: (x * 1).relu_(),
    "leaky relu": nn.LeakyReLU(0.2),
    "leaky relu in place": lambda x: functional.leaky_relu(x * 1, 0.1, True),
    "relu6": nn.ReLU6(),
    "functional relu6": functional.relu6,
    "clamp": lambda x: x.clamp(-0.5, 0.7),
    "clamp from below": lambda x: torch.clamp(x, min=0.3),
    "clamp_min": lambda x: x.clamp_min(0),
    "clamp_max": lambda x: torch.clamp_max(x, 0.4),
    "absolute": torch.abs,
    "operator": abs,
    "hardtanh": nn.Hardtanh(-0.5, 0.7),
    "functional hardtanh": lambda x: functional.hardtanh(x, max_val=2.0),
}


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("points", [2, 3, 12])
def test_the_mean_slope_of_a_single_kink_is_the_secant(name: str, points: int) -> None:
    """An input that is linear along the line: its mean slope is the rise over the run, wherever the kinks are."""
    function = SINGLE[name]
    draw = torch.Generator().manual_seed(points)
    start, end = (3 * torch.randn(50, 4, dtype=DOUBLE, generator=draw) for _ in range(2))
    expected = (function(end.clone()) - function(start.clone())) / (end - start)
    torch.testing.assert_close(mean_slope(function, start, end, points), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", SINGLE)
def test_an_entry_that_stays_where_it_is_keeps_the_slope_of_pytorch(name: str) -> None:
    """At every kink, and beside it."""
    function = SINGLE[name]
    kinks = torch.tensor([[-1.0, -0.5, 0.0, 0.3, 0.4, 0.7, 1.0, 2.0, 6.0, 7.0]], dtype=DOUBLE)
    given = kinks.clone().requires_grad_(True)
    (expected,) = torch.autograd.grad(function(given).sum(), given)
    assert torch.equal(mean_slope(function, kinks, kinks, 4), expected)


def test_two_entries_that_stay_equal_share_nothing_of_their_absolute_difference() -> None:
    zeros, ones = torch.zeros(1, 2, dtype=DOUBLE), torch.ones(1, 2, dtype=DOUBLE)
    assert not mean_slope(lambda x: (x[:, 0] - x[:, 1]).abs(), zeros, ones, 3).any()


def spread(function: Callable[[Tensor], Tensor], start: Tensor, end: Tensor, points: int) -> Tensor:
    """What the mean gradient of a maximum says that the whole change is."""
    return (mean_slope(function, start, end, points) * (end - start)).flatten(1).sum(1)


MAXIMA: dict[str, Callable[[Tensor], Tensor]] = {
    "amax": lambda x: x.amax(2),
    "max": lambda x: x.max(2).values,
    "torch.max, kept": lambda x: torch.max(x, dim=2, keepdim=True)[0],
    "torch.amax, kept": lambda x: torch.amax(x, dim=-1, keepdim=True),
    "pooling": nn.MaxPool1d(2),
    "functional pooling": lambda x: functional.max_pool1d(x, 2, 1),
    "torch pooling": lambda x: torch.max_pool1d(x, 2),
}


@pytest.mark.parametrize("name", MAXIMA)
def test_the_shares_of_two_entries_add_up_to_the_change_of_their_maximum(name: str) -> None:
    function = MAXIMA[name]
    draw = torch.Generator().manual_seed(0)
    start, end = (torch.randn(40, 3, 2, dtype=DOUBLE, generator=draw) for _ in range(2))
    change = (function(end) - function(start)).flatten(1).sum(1)
    torch.testing.assert_close(spread(function, start, end, 3), change, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kept", [torch.contiguous_format, torch.channels_last])
def test_pooling_of_images_converges_with_the_square_of_the_step(kept: torch.memory_format) -> None:
    draw = torch.Generator().manual_seed(0)
    start, end = (torch.randn(20, 3, 7, 7, dtype=DOUBLE, generator=draw).to(memory_format=kept) for _ in range(2))
    pool = nn.MaxPool2d(3, stride=2, padding=1)
    exact = mean_slope(pool, start, end, 2000)
    coarse, fine = ((mean_slope(pool, start, end, points) - exact).abs().mean() for points in (8, 32))
    assert float(fine) < float(coarse) / 8


def test_equal_entries_share_a_maximum_equally() -> None:
    start = torch.tensor([[[0.0, 0.0, -1.0]]], dtype=DOUBLE)
    end = torch.tensor([[[2.0, 2.0, -2.0]]], dtype=DOUBLE)
    found = mean_slope(lambda x: x.amax(2), start, end, 3)
    torch.testing.assert_close(found, torch.tensor([[[0.5, 0.5, 0.0]]], dtype=DOUBLE))


def test_padding_at_minus_infinity_gets_nothing() -> None:
    start = torch.tensor([[[0.0, 1.0, -torch.inf]]], dtype=DOUBLE)
    end = torch.tensor([[[1.0, 0.0, -torch.inf]]], dtype=DOUBLE)
    found = mean_slope(lambda x: x.amax(2), start.nan_to_num(neginf=0), end.nan_to_num(neginf=0), 4)
    masked = mean_slope(
        lambda x: x.masked_fill(torch.tensor([False, False, True]), -torch.inf).amax(2),
        start.nan_to_num(neginf=0),
        end.nan_to_num(neginf=0),
        4,
    )
    torch.testing.assert_close(found, masked)
    torch.testing.assert_close(masked, torch.tensor([[[0.5, 0.5, 0.0]]], dtype=DOUBLE))


def test_the_order_of_channels_in_memory_changes_nothing() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 2)).to(DOUBLE)
    x = torch.randn(8, 2, 6, 6, dtype=DOUBLE)
    found = []
    for kept in (torch.contiguous_format, torch.channels_last):
        given = x.to(memory_format=kept).requires_grad_(True)
        with averaged_slopes(4, 8):
            out = model.to(memory_format=kept)(given)  # type: ignore[call-overload]
        found.append(torch.autograd.grad(out[:, 0].sum(), given)[0])
    torch.testing.assert_close(*found, rtol=0, atol=1e-12)


def test_other_threads_and_later_calls_are_not_affected() -> None:
    x = torch.tensor([[-1.0], [0.5], [2.0]], requires_grad=True)
    with averaged_slopes(3, 3):
        x.relu()
    (gradient,) = torch.autograd.grad(x.relu().sum(), x)
    assert gradient.flatten().tolist() == [0, 1, 1]


class TimeFirst(nn.Module):
    """Reads (n, steps, width) with time as the first axis, in one of two ways."""

    def __init__(self, *, flat: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.head, self.flat = nn.Linear(4, 5).to(DOUBLE), nn.Linear(5, 2).to(DOUBLE), flat

    def forward(self, x: Tensor) -> Tensor:
        steps = x.transpose(0, 1)
        if self.flat:
            units = self.inner(steps.reshape(-1, 4)).relu().unflatten(0, (x.shape[1], -1))
        else:
            units = self.inner(steps).relu()
        out: Tensor = self.head(units.mean(0))
        return out


class RowsFirst(TimeFirst):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.inner(x).relu().mean(1))
        return out


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("steps", [3, 6, 7])
def test_networks_with_time_first_keep_the_slopes_at_the_points(flat: bool, steps: int) -> None:
    """Their rows are no neighbours on a line; their values are those of the same network with rows first."""
    draw = torch.Generator().manual_seed(1)
    start, difference = (torch.randn(3, steps, 4, dtype=DOUBLE, generator=draw) for _ in range(2))
    other, usual = TimeFirst(flat=flat), RowsFirst(flat=flat)
    assert not keeps_rows(other, start, difference)
    assert keeps_rows(usual, start, difference)
    line = Line(start=start, difference=difference, target=torch.tensor([0, 1, 0]))
    found = [LineGradients(model, line, 600, lead).mean(line, 600) for model in (other, usual)]
    torch.testing.assert_close(*found, rtol=0, atol=2e-3)


class Turned(nn.ReLU):
    """A layer of another's making, which no list knows: columns as rows."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.T).T


def test_a_layer_of_another_making_is_asked() -> None:
    start, difference = torch.zeros(1, 3), torch.tensor([[1.0, -2.0, 0.5]])
    assert keeps_rows(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), start, difference)
    assert not keeps_rows(nn.Sequential(nn.Linear(3, 3), Turned()), start, difference)


def test_a_record_at_its_baseline_does_not_hide_the_order_of_the_rows() -> None:
    start, difference = torch.zeros(2, 3, 4, dtype=DOUBLE), torch.zeros(2, 3, 4, dtype=DOUBLE)
    difference[1] = 1
    assert not keeps_rows(TimeFirst(flat=True), start, difference)


class Heads(nn.Module):
    """Puts heads on the first axis, outside the rows; two of three have equal weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        weights = torch.randn(3, 4, 5, dtype=DOUBLE)
        weights[2] = weights[0]
        self.weights, self.head = nn.Parameter(weights), nn.Linear(5, 2).to(DOUBLE)

    def forward(self, x: Tensor) -> Tensor:
        units = torch.einsum("nd,hdk->hnk", x, self.weights).flatten(0, 1).relu().unflatten(0, (3, -1))
        out: Tensor = self.head(units.mean(0))
        return out


class Repeated(nn.Module):
    """Asks for its rows several times."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.head = nn.Linear(4, 5).to(DOUBLE), nn.Linear(5, 2).to(DOUBLE)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.inner(x.repeat(len(_ROWS), 1)).relu().unflatten(0, (len(_ROWS), -1)).mean(0))
        return out


class InPieces(nn.Module):
    """Goes through a batch piece by piece."""

    def __init__(self, size: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 2)).to(DOUBLE)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.inner(part) for part in x.split(self.size)])


class Checkpointed(nn.Module):
    """Computes its units anew in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Kinked()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = checkpoint(self.inner, x, use_reentrant=False)
        return out


class Kinked(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        value = (5 * x[:, 0] - 3.5).relu() - (5 * x[:, 1] - 3.5).relu()
        return torch.stack([torch.zeros_like(value), value], dim=1)


@pytest.mark.parametrize("model", [Heads(), Repeated()])
def test_networks_with_other_rows_in_between_keep_the_slopes_at_the_points(model: nn.Module) -> None:
    draw = torch.Generator().manual_seed(1)
    start, difference = (torch.randn(5, 4, dtype=DOUBLE, generator=draw) for _ in range(2))
    assert not keeps_rows(model, start, difference)


@pytest.mark.parametrize(
    "model",
    [InPieces(4), InPieces(12), InPieces(21), InPieces(36), Checkpointed(), torch.compile(Kinked(), backend="eager")],
)
def test_parts_of_a_batch_and_units_that_are_computed_anew_are_right(model: nn.Module) -> None:
    """Against a plain loop: their slopes are those at the points, or averaged between true neighbours."""
    draw = torch.Generator().manual_seed(1)
    start, difference = (torch.randn(9, 4, dtype=DOUBLE, generator=draw) for _ in range(2))
    line = Line(start=start, difference=difference, target=torch.ones(9, dtype=torch.long))
    if isinstance(model, InPieces):
        plain = torch.zeros_like(start)
        for number in range(2000):
            plain += gradient_of(model, start + (number + 0.5) / 2000 * difference, line.target, lead) / 2000
    else:
        plain = LineGradients(Kinked(), line, 12, lead).mean(line, 48)
    torch.testing.assert_close(LineGradients(model, line, 12, lead).mean(line, 400), plain, rtol=0, atol=0.02)


def test_magnitudes_of_complex_numbers_and_poolings_without_channels_are_left_alone() -> None:
    def spectrum(x: Tensor) -> Tensor:
        return torch.fft.rfft(x).abs()

    given = torch.randn(4, 8, dtype=DOUBLE, requires_grad=True)
    with averaged_slopes(4, 4):
        out = spectrum(given).sum() + nn.MaxPool1d(2)(given).sum()
    (gradient,) = torch.autograd.grad(out, given)
    (expected,) = torch.autograd.grad(spectrum(given).sum() + nn.MaxPool1d(2)(given).sum(), given)
    assert torch.equal(gradient, expected)


class SaysSo(TimeFirst):
    keeps_rows = True


class Inherits(SaysSo):
    pass


def test_only_a_class_that_itself_says_so_is_believed() -> None:
    start, difference = (torch.ones(1, 3, 4, dtype=DOUBLE) for _ in range(2))
    assert keeps_rows(SaysSo(flat=True), start, difference)
    assert not keeps_rows(Inherits(flat=True), start, difference)


def of_shape(*shape: int) -> Tensor:
    return torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("build", "given"),
    [
        (lambda: ResNet(Basic, (1, 1, 1, 1), 1, 2, norm="group", stem="imagenet", width=4), of_shape(1, 32, 32)),
        (lambda: ResNet(Bottleneck, (1, 1, 1, 1), 1, 2, norm="group", stem="small", width=4), of_shape(1, 8, 8)),
        (lambda: LSTM(hidden=4).build((7, 5), 2, seed=0), of_shape(7, 5)),
        (lambda: LSTM(hidden=4, attention=True, layers=2).build((7, 5), 2, seed=0), of_shape(7, 5)),
        (lambda: LSTM(hidden=4, channels_first=True).build((1, 30), 2, seed=0), of_shape(1, 30)),
        (lambda: TextCNN().build((7, 5), 2, seed=0), of_shape(7, 5)),
    ],
    ids=["resnet", "bottleneck", "lstm", "attention", "signals", "text"],
)
def test_networks_that_say_that_they_keep_rows_do(build: Callable[[], nn.Module], given: Tensor) -> None:
    probe = _Probe()
    with probe:
        build().eval()(given[list(_ROWS)].requires_grad_(True))
    assert probe.kept


@pytest.mark.parametrize("seed", range(3))
def test_the_error_falls_with_the_square_of_the_step(seed: int) -> None:
    """A network with 40 kinks on each line, against 20,000 slopes at points: 16 averaged points beat 100 plain ones."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 2)).to(DOUBLE)
    start, difference = (torch.randn(30, 6, dtype=DOUBLE) for _ in range(2))
    line = Line(start=start, difference=difference, target=torch.zeros(30, dtype=torch.long))
    plain = LineGradients(model, line, 1, lead)
    plain._averaged = False
    exact = plain.mean(line, 20_000)
    averaged = LineGradients(model, line, 1, lead)

    def error(gradients: LineGradients, count: int) -> float:
        return float((gradients.mean(line, count) - exact).abs().mean())

    assert error(averaged, 16) < error(plain, 100)
    assert error(averaged, 48) < error(averaged, 12) / 6
