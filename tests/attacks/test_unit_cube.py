"""The cube in which torchattacks works keeps what a threat model means."""

import sys

import pytest
import torch
from torch import Tensor, nn

from assay import seeds
from assay.attacks.unit_cube import UnitCube, contained, torchattacks
from assay.errors import UserError
from assay.seeds import Draw
from assay.threats import Bounds, Threat
from tests.attacks.linear import BOUNDS, HALF_FIXED, linear


def cube(bounds: Bounds = BOUNDS, *, each_its_own: bool = False, epsilon: float = 0.5) -> tuple[UnitCube, Tensor]:
    model, x, y = linear(0)
    return UnitCube(model, x, y, Threat(norm="linf", epsilon=epsilon, bounds=bounds), each_its_own=each_its_own), x


@pytest.mark.parametrize("each_its_own", [True, False])
@pytest.mark.parametrize("bounds", [BOUNDS, HALF_FIXED])
def test_the_way_there_and_back_leads_to_the_same_record(bounds: Bounds, each_its_own: bool) -> None:
    made, x = cube(bounds, each_its_own=each_its_own)
    points = made.inside(x)
    assert points.dtype == torch.float32
    assert points.dim() == 4
    assert ((points >= 0) & (points <= 1)).all()
    torch.testing.assert_close(made.outside(points), x, rtol=0, atol=2e-6)


def test_with_one_unit_a_norm_keeps_its_meaning() -> None:
    made, x = cube()
    other = x + 0.1 * torch.randn_like(x, generator=torch.Generator().manual_seed(0))
    change = made.inside(other) - made.inside(x)
    for order in (2.0, torch.inf):
        ours = (other - x).norm(order, dim=1)
        torch.testing.assert_close(change.flatten(1).norm(order, dim=1).double() * 18, ours, rtol=1e-4, atol=0)
    assert made.radius == pytest.approx(0.5 / 18)


def test_with_each_its_own_unit_the_cube_is_the_box() -> None:
    made, x = cube(each_its_own=True)
    corners = torch.stack([torch.zeros(len(x), 1, 1, x.shape[1]), torch.ones(len(x), 1, 1, x.shape[1])])
    torch.testing.assert_close(made.outside(corners[0]), BOUNDS.low.double().expand_as(x))
    torch.testing.assert_close(made.outside(corners[1]), BOUNDS.high.double().expand_as(x))
    moved = made.outside((made.inside(x) + made.radius / 2).clamp(0, 1))
    torch.testing.assert_close(moved, BOUNDS.clip(x + 0.25), rtol=0, atol=2e-6)


def test_what_is_not_valid_is_put_back_and_lets_no_gradient_through() -> None:
    made, x = cube()
    points = torch.ones_like(made.inside(x)).requires_grad_(True)
    assert torch.equal(made.outside(points), BOUNDS.clip(made.outside(points)))
    made(points)[:, 0].sum().backward()
    assert points.grad is not None
    beyond = BOUNDS.low + 18 > BOUNDS.high
    assert (points.grad.flatten(1)[:, beyond] == 0).all()
    assert (points.grad.flatten(1)[:, ~beyond] != 0).all()


def test_a_climb_that_was_left_beyond_a_bound_is_led_back_and_not_further() -> None:
    model, x, y = linear(0)
    made = UnitCube(model, x, y, Threat(norm="l2", epsilon=0.5, bounds=BOUNDS), climbed=True)
    beyond = BOUNDS.low + 18 > BOUNDS.high
    usual = model.weight[0]
    points = torch.ones_like(made.inside(x)).requires_grad_(True)
    torch.testing.assert_close(made.outside(points).detach(), BOUNDS.clip(made.outside(points)).detach())
    (slope,) = torch.autograd.grad(made(points)[:, 0].sum(), points)
    led = slope.flatten(1) != 0
    assert torch.equal(led, (~beyond | (usual < 0)).expand_as(led))
    assert 0 < int(led[0, beyond].sum()) < int(beyond.sum())


@pytest.mark.parametrize("each_its_own", [True, False])
def test_inputs_that_nobody_can_change_stay_outside(each_its_own: bool) -> None:
    made, x = cube(HALF_FIXED, each_its_own=each_its_own)
    points = made.inside(x)
    assert points.shape == (len(x), 1, 1, x.shape[1] // 2)
    moved = made.outside(1 - points)
    assert torch.equal(moved[:, 1::2], x[:, 1::2])
    assert (moved[:, ::2] != x[:, ::2]).all()


def test_padding_stays_padding() -> None:
    words = torch.tensor([[[0.5, -0.5], [0.0, 0.0]], [[0.5, 0.5], [-0.5, 0.5]]])
    bounds = Bounds(low=torch.tensor(-1.0), high=torch.tensor(1.0), padding=True)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    threat = Threat(norm="linf", epsilon=0.5, bounds=bounds)
    made = UnitCube(model, words, torch.tensor([0, 1]), threat, each_its_own=True)
    moved = made.outside(torch.ones_like(made.inside(words)))
    assert moved[0].tolist() == [[1, 1], [0, 0]]
    assert moved[1].tolist() == [[1, 1], [1, 1]]
    assert isinstance(made.radius, Tensor)
    assert made.radius[0].flatten().tolist() == [0.25, 0.25, 0, 0]


def test_a_record_without_an_answer_counts_as_misclassified() -> None:
    class Silent(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x[:, 0].sqrt() * torch.nan, x[:, 0], x[:, 1]], 1)

    x, y = torch.full((3, 2), 0.5), torch.tensor([0, 1, 2])
    unit = Bounds(low=torch.tensor(0.0), high=torch.tensor(1.0))
    made = UnitCube(Silent(), x, y, Threat(norm="linf", epsilon=0.1, bounds=unit))
    points = made.inside(x).requires_grad_(True)
    logits = made(points)
    assert logits.isfinite().all()
    assert (logits.argmax(1) != y).all()
    logits.sum().backward()
    assert points.grad is not None
    assert (points.grad == 0).all()


def test_a_model_without_a_gradient_is_no_error() -> None:
    class Deaf(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([(x[:, 0] > 0).double(), x[:, 0].detach()], 1)

    _, x, y = linear(0)
    made = UnitCube(Deaf(), x, y, Threat(norm="linf", epsilon=0.1, bounds=BOUNDS))
    points = made.inside(x).requires_grad_(True)
    (gradient,) = torch.autograd.grad(made(points).sum(), points)
    assert (gradient == 0).all()


def test_randomness_and_gradients_are_contained() -> None:
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    before = torch.get_rng_state()
    drawn = []
    for name in ("one", "one", "two"):
        with contained(model, Draw(seeds.stream(0, name), total=1)):
            assert not any(weight.requires_grad for weight in model.parameters())
            drawn.append(torch.rand(1))
    assert drawn[0] == drawn[1] != drawn[2]
    assert torch.equal(torch.get_rng_state(), before)
    assert [weight.requires_grad for weight in model.parameters()] == [True, False]


def test_all_is_put_back_after_an_error() -> None:
    model, before = nn.Linear(2, 2), torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), contained(model, Draw(seeds.stream(0), total=1)):
        raise ZeroDivisionError
    assert torch.equal(torch.get_rng_state(), before)
    assert all(weight.requires_grad for weight in model.parameters())


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchattacks", None)
    with pytest.raises(UserError, match=r"pip install --no-deps torchattacks==3\.5\.1"):
        torchattacks()


def test_robustbench_is_never_imported() -> None:
    torchattacks()
    assert "robustbench" not in sys.modules
