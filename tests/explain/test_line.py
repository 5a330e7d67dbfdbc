"""Sums of gradients along lines: the layers that are taken out change no value, and memory does not grow."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.data.base import Normalisation
from assay.explain.base import gradient_of
from assay.explain.leading import without_leading_layers
from assay.explain.line import Line, LineGradients, _segments, midpoints
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.explain.scalars import log_odds
from assay.models.front import Normalise
from tests.allocations import peak_bytes
from tests.explaining import reference

DOUBLE = torch.float64


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def convolutions() -> nn.Module:
    torch.manual_seed(0)
    normalised = Normalise(Normalisation(mean=(0.3,), deviation=(0.7,)), (1, 6, 6))
    relu = nn.ReLU()
    layers = [nn.Conv2d(1, 3, 3), relu, nn.Conv2d(3, 4, 3), relu, nn.Flatten(), nn.Linear(16, 3)]
    return nn.Sequential(normalised, nn.Sequential(nn.Dropout(), *layers)).to(DOUBLE).eval()


def dense() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, 3)).to(DOUBLE)


@pytest.mark.parametrize("rows", [3, 160])
def test_the_mean_of_a_smooth_network_is_that_of_its_gradients_at_each_point(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.explain.line._ROWS", rows)
    model, target = dense(), torch.arange(7) % 3
    line = Line(start=numbers(7, 1, 6, 6), difference=numbers(7, 1, 6, 6, seed=1), target=target)
    assert without_leading_layers(model)[0] is not None
    expected = sum(
        gradient_of(model, line.start + point * line.difference, target, log_odds) / 9 for point in midpoints(9)
    )
    found = LineGradients(model, line, 9, log_odds).mean(line, 9)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [convolutions, dense])
def test_leading_layers_that_are_taken_out_change_nothing(
    make: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, target = make(), torch.arange(7) % 3
    line = Line(start=numbers(7, 1, 6, 6), difference=numbers(7, 1, 6, 6, seed=1), target=target)
    found = []
    for least in (1, 1000):
        monkeypatch.setattr("assay.explain.line._WORTH_A_SPLIT", least)
        found.append(LineGradients(model, line, 9, log_odds).mean(line, 9))
    torch.testing.assert_close(*found, rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 11, 12, 13, 25, 100])
@pytest.mark.parametrize("most", [4, 12])
def test_neighbours_are_computed_together_in_runs_of_nearly_equal_length(count: int, most: int) -> None:
    runs = _segments(count, most)
    assert [point for run in runs for point in run] == midpoints(count)
    lengths = {len(run) for run in runs}
    assert max(lengths) <= most
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("together", [1, 40, 2**18])
def test_a_record_with_neighbours_in_the_batch_is_explained_as_alone(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.explain.line._TOGETHER", 2**18)
    model, target = convolutions(), torch.arange(7) % 3
    line = Line(start=numbers(7, 1, 6, 6), difference=numbers(7, 1, 6, 6, seed=1), target=target)
    monkeypatch.setattr("assay.explain.line._ROWS", max(4, together))
    all_of_them = LineGradients(model, line, 30, log_odds).mean(line, 30)
    for row in range(7):
        alone = line.of(slice(row, row + 1))
        found = LineGradients(model, alone, 30, log_odds).mean(alone, 30)
        torch.testing.assert_close(found[0], all_of_them[row], rtol=0, atol=1e-12)


def test_a_flat_image_with_equal_maxima_is_explained_alone_as_among_many() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 2)]
    model, about = nn.Sequential(*layers).eval(), reference(torch.zeros(4, 1, 6, 6), "image")
    x, target = (
        torch.ones(64, 1, 6, 6) * torch.linspace(0.1, 1, 64).view(-1, 1, 1, 1),
        torch.zeros(64, dtype=torch.long),
    )
    together = IntegratedGradients().explain(model, x, target, about).values
    for row in (0, 31, 63):
        alone = IntegratedGradients().explain(model, x[row : row + 1], target[:1], about).values
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-6)


class Doubled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x).relu()


def heard(model: nn.Sequential) -> nn.Sequential:
    model[0].register_forward_hook(lambda *_: None)
    return model


@pytest.mark.parametrize(
    "model",
    [
        nn.Linear(4, 2),
        nn.Sequential(nn.Linear(4, 2)),
        nn.Sequential(nn.ReLU(), nn.Linear(4, 2)),
        nn.Sequential(Doubled(4, 4), nn.Linear(4, 2)),
        nn.Sequential(nn.Flatten(0), nn.Linear(4, 2), nn.ReLU()),
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.ReLU(), nn.Linear(4, 2)),
        heard(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))),
    ],
    ids=["no sequence", "nothing else", "bend first", "subclass", "mixes records", "other weights", "hook"],
)
def test_layers_that_may_do_something_else_stay(model: nn.Module) -> None:
    leading, rest = without_leading_layers(model)
    assert leading is None
    assert rest is model


def test_the_layers_in_their_order_are_the_model() -> None:
    model, x = convolutions(), numbers(2, 1, 6, 6)
    leading, rest = without_leading_layers(model)
    assert leading is not None
    assert torch.equal(rest(leading(x)), model(x))
    # Linear, up to a constant.
    torch.testing.assert_close(leading(x[:1]) + leading(x[1:]), leading(x.sum(0, keepdim=True)) + leading(0 * x[:1]))


@pytest.mark.parametrize("make", [convolutions, dense])
def test_memory_does_not_depend_on_the_number_of_points(make: Callable[[], nn.Module]) -> None:
    model, x, target = make(), numbers(32, 1, 6, 6), torch.zeros(32, dtype=torch.long)
    about = reference(numbers(4, 1, 6, 6, seed=1), "image")

    def explained(points: int) -> Callable[[], Any]:
        return lambda: IntegratedGradients(points=points, most=points).explain(model, x, target, about)

    assert peak_bytes(explained(1024)) <= 1.1 * peak_bytes(explained(16))


def test_texts_of_all_lengths_are_explained_as_each_alone() -> None:
    class Last(nn.Module):
        """Reads words one after the other, and cuts a batch to its longest text."""

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.step, self.head = nn.Linear(8, 5).to(DOUBLE), nn.Linear(5, 2).to(DOUBLE)

        def forward(self, x: Tensor) -> Tensor:
            here = (x != 0).any(-1)
            state = x.new_zeros(len(x), 5)
            for word in range(int(here.sum(1).max())):
                new = self.step(torch.cat([x[:, word], state], 1)).tanh()
                state = torch.where(here[:, word, None], new, state)
            return self.head(state)

    x, target = numbers(40, 9, 3), torch.arange(40) % 2
    for row in range(40):
        x[row, 1 + row * 7 % 9 :] = 0
    about = reference(torch.zeros(1, 9, 3, dtype=DOUBLE), "text")
    together = IntegratedGradients().explain(Last(), x, target, about)
    for row in range(40):
        alone = IntegratedGradients().explain(Last(), x[row : row + 1], target[row : row + 1], about)
        torch.testing.assert_close(alone.values[0], together.values[row], rtol=0, atol=1e-12)
        torch.testing.assert_close(alone.change[0], together.change[row], rtol=0, atol=1e-12)
