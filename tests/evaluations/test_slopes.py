"""Gradients that are true within a hair's breadth alone are told from those of an honest network."""

import math

import pytest
import torch
from torch import Tensor, nn

from assay import seeds
from assay.evaluations import probe
from assay.evaluations.slopes import rises, true_slopes
from assay.results import Check
from assay.seeds import Draw
from assay.threats import Bounds, Norm, Threat

FEATURES = 16
BOUNDS = Bounds(low=torch.tensor(-3.0), high=torch.tensor(3.0))


class Behind(nn.Module):
    """A small network behind a ripple of its inputs."""

    def __init__(self, height: float, steepness: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(FEATURES, 32), nn.Tanh(), nn.Linear(32, 3))
        self.height, self.waves = height, steepness * torch.randn(FEATURES, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x + self.height * torch.sin(x @ self.waves))


def check(model: nn.Module, norm: Norm, epsilon: float = 0.1) -> Check:
    x = torch.randn(60, FEATURES, generator=torch.Generator().manual_seed(1)).clamp(-2, 2)
    threat = Threat(norm=norm, epsilon=epsilon, bounds=BOUNDS)
    return true_slopes(model.eval(), x, model(x).argmax(1), threat, Draw(seeds.stream(0), len(x)))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(
    ("height", "steepness", "verdict"),
    [(0.0, 0.0, "pass"), (0.004, 200.0, "fail"), (0.004, 800.0, "fail"), (0.02, 60.0, "fail"), (0.004, 0.5, "pass")],
)
def test_a_ripple_is_seen_and_an_honest_slope_is_not(norm: Norm, height: float, steepness: float, verdict: str) -> None:
    found = check(Behind(height, steepness), norm, 0.1 if norm == "linf" else 0.4)
    assert found.verdict == verdict
    if verdict == "pass":
        assert found.figure == pytest.approx(1.0, abs=0.1)


class Line(nn.Module):
    """A linear model; the second logit rises by ``factor`` times what its gradient says."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        rise = x.sum(1) + (self.factor - 1) * x.detach().sum(1)
        return torch.stack([torch.full_like(rise, 99.0), rise], 1)


@pytest.mark.parametrize("factor", [1.0, 0.5, 3.0, -1.0])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_figure_is_the_rise_got_over_the_rise_promised(norm: Norm, factor: float) -> None:
    found = check(Line(factor), norm)
    assert found.figure == pytest.approx(factor, rel=1e-2)
    assert found.verdict == ("pass" if factor == 1.0 else "fail")


class Ridge(nn.Module):
    """A margin that rises as promised where both inputs rise alike, and less where one of them rises alone."""

    def forward(self, x: Tensor) -> Tensor:
        rise = x.sum(1) - 5 * (x[:, 0] - x[:, 1]).square()
        return torch.stack([torch.full_like(rise, 99.0), rise], 1)


def test_slopes_are_looked_at_along_several_directions() -> None:
    threat = Threat(norm="linf", epsilon=0.1, bounds=BOUNDS)
    x, y = torch.zeros(32, 2), torch.zeros(32, dtype=torch.long)
    steepest, half, other = rises(Ridge(), x, y, threat, share=1.0, draw=Draw(seeds.stream(0), len(x)))
    assert torch.allclose(steepest, torch.ones(32), atol=1e-4)
    apart = torch.isclose(half, torch.tensor(0.5), atol=1e-4)
    assert 8 <= int(apart.sum()) <= 24, "one input moves and the other does not"
    assert torch.equal(apart, torch.isclose(other, torch.tensor(0.5), atol=1e-4)), "and then the other alone"


def test_nothing_is_said_where_nothing_was_promised_and_nothing_got() -> None:
    x = torch.zeros(4, FEATURES)
    threat = Threat(norm="linf", epsilon=0.1, bounds=BOUNDS)

    class Deaf(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([[1.0, 0.0]]).expand(len(x), 2) + 0 * x[:, :2]

    assert rises(Deaf(), x, torch.zeros(4).long(), threat, share=0.25, draw=Draw(seeds.stream(0), 4)).isnan().all()
    assert check(Deaf(), "linf").figure == 1.0


@pytest.mark.parametrize(
    ("fooled", "sample", "survivors", "verdict"),
    [
        (0, 32, 180, "pass"),
        (1, 32, 180, "pass"),
        (3, 32, 180, "warn"),
        (2, 4, 4, "pass"),
        (4, 4, 4, "pass"),
        (0, 0, 0, "pass"),
    ],
)
def test_a_sample_warns_where_a_point_alone_would_seldom_show_so_much(
    fooled: int, sample: int, survivors: int, verdict: str
) -> None:
    found = probe._stronger(fooled, sample, survivors, 0.1, 400, ("apgd_dlr",))
    assert found.verdict == verdict
    assert math.isclose(found.figure, fooled / max(sample, 1) * survivors / 400)
