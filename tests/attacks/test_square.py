"""Square needs no gradient: it breaks what hides one, and keeps to what may be changed."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay import seeds
from assay.attacks.pgd import PGD
from assay.attacks.square import Square
from assay.attacks.unit_cube import torchattacks
from assay.seeds import Draw
from assay.threats import Bounds, Norm, Threat
from tests.attacks.linear import BOUNDS, HALF_FIXED, distances, linear

UNIT = Bounds(low=torch.tensor(0.0), high=torch.tensor(1.0))


class Stairs(nn.Module):
    """A model that first rounds its input, so that its gradient is 0 everywhere."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model((50 * x).round() / 50)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("bounds", [BOUNDS, HALF_FIXED], ids=["free", "half fixed"])
def test_a_model_that_hides_its_gradient_is_broken(norm: Norm, bounds: Bounds) -> None:
    model, x, y = linear(3)
    stairs = Stairs(model)
    reach = distances(model, x, y, bounds, norm)
    x, y = x[reach.isfinite()], stairs(x).argmax(1)[reach.isfinite()]
    enough = 1.3 if norm == "linf" else 1.6
    threat = Threat(norm=norm, epsilon=enough * float(reach[reach.isfinite()].max()), bounds=bounds)
    assert PGD().run(stairs, x, y, threat, seed=0).accuracy == 1
    assert Square(queries=1000).run(stairs, x, y, threat, seed=0).accuracy == 0


def image_model() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(2, 6, 5, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 49, 3)).eval()
    x = torch.rand(60, 2, 17, 17)
    return model, x, model(x).argmax(1)


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.05), ("l2", 0.8)])
def test_images_are_fooled_as_often_as_by_torchattacks(norm: Norm, epsilon: float) -> None:
    model, x, y = image_model()
    ours = Square(queries=300).run(model, x, y, Threat(norm=norm, epsilon=epsilon, bounds=UNIT), seed=0)
    peer = torchattacks().Square(model, norm={"linf": "Linf", "l2": "L2"}[norm], eps=epsilon, n_queries=300)
    with torch.random.fork_rng():
        theirs = float((model(peer(x, y)).argmax(1) == y).double().mean())
    assert 0.05 < theirs < 0.95
    assert ours.accuracy <= theirs + 0.1


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("shape", [(30,), (1, 40), (2, 7), (1, 12, 12), (3, 5, 9), (1, 2, 2)])
def test_records_of_any_shape_are_searched(norm: Norm, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 2))
    x = 0.5 + 0.05 * torch.randn(12, *shape).clamp(-3, 3)
    y = model(x).argmax(1)
    weight = (model[1].weight[0] - model[1].weight[1]).detach()
    gap = (model(x)[:, 0] - model(x)[:, 1]).abs().detach()
    reach = gap / weight.norm(p=1 if norm == "linf" else 2)
    threat = Threat(norm=norm, epsilon=2.5 * float(reach.max()), bounds=UNIT)
    assert Square(queries=300).run(model, x, y, threat, seed=0).accuracy <= 0.1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_search_spends_its_length_and_no_more(norm: Norm) -> None:
    """A model that never gives way is searched to the end, from edge to edge of the ball."""
    model, x, y = image_model()
    firm = nn.Sequential(model, nn.Linear(3, 3))
    with torch.no_grad():
        firm[1].weight.mul_(0)
        firm[1].bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    threat = Threat(norm=norm, epsilon=0.01, bounds=Bounds(low=torch.tensor(-1.0), high=torch.tensor(2.0)))
    found = Square(queries=20).perturb(firm, x, torch.zeros_like(y), threat, Draw(seeds.stream(0), total=len(x)))
    torch.testing.assert_close(threat.distance(found, x), torch.full((len(x),), 0.01), rtol=1e-3, atol=0)


def test_no_record_is_asked_about_more_often_than_allowed() -> None:
    asked: list[int] = []
    model, x, y = linear(0)
    model.register_forward_hook(lambda module, given, out: asked.append(len(given[0])))
    threat = Threat(norm="linf", epsilon=1e-6, bounds=BOUNDS)
    Square(queries=25).perturb(model, x, y, threat, Draw(seeds.stream(0), total=len(x)))
    # One look before the search, and one after it.
    assert asked == [len(x)] * 27


def test_no_gradient_is_asked_for() -> None:
    asked: list[bool] = []
    model, x, y = linear(0)
    model.register_forward_hook(lambda *_: asked.append(torch.is_grad_enabled()))
    Square(queries=5).run(model, x, y, Threat(norm="l2", epsilon=0.1, bounds=BOUNDS), seed=0)
    assert asked
    assert not any(asked)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_query_is_spent_on_inputs_that_nobody_can_change(norm: Norm) -> None:
    """Of 64 features one can be changed; a window that missed it would be one in vain."""
    model = nn.Linear(64, 2)
    with torch.no_grad():
        model.weight.zero_()
        model.weight[1, 40] = 1.0
        model.bias.copy_(torch.tensor([0.6, 0.0]))
    bounds = Bounds(low=UNIT.low, high=UNIT.high, fixed=torch.arange(64) != 40)
    x, y = torch.full((20, 64), 0.5), torch.zeros(20, dtype=torch.long)
    assert Square(queries=60).run(model, x, y, Threat(norm=norm, epsilon=0.15, bounds=bounds), seed=0).accuracy == 0
