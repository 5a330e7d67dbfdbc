"""APGD against the exact worst case of linear models, and against torchattacks called as it is meant to be."""

import pytest
import torch
from torch import Tensor, nn

from assay import seeds
from assay.attacks.apgd import APGD
from assay.attacks.losses import dlr, margin
from assay.attacks.unit_cube import torchattacks
from assay.seeds import Draw
from assay.threats import Bounds, Norm, Threat
from tests.attacks.linear import BOUNDS, HALF_FIXED, ROOMY, distances, linear


class Scaled(nn.Module):
    """The same answers, so sure that cross-entropy and its gradient are 0 in float32."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return 1e4 * self.model(x)


@pytest.mark.parametrize(
    ("norm", "bounds", "enough"),
    [
        ("linf", BOUNDS, 1.02),
        ("linf", HALF_FIXED, 1.02),
        ("l2", ROOMY, 1.02),
        # In L2 length is lost beyond the bounds where ranges differ and bind.
        ("l2", BOUNDS, 1.2),
        ("l2", HALF_FIXED, 1.2),
    ],
)
@pytest.mark.parametrize("loss", ["cross_entropy", "dlr"])
def test_a_linear_model_falls_just_beyond_its_distance(norm: Norm, bounds: Bounds, enough: float, loss: str) -> None:
    # No record whose way leads into a corner: scaled to the ball and then clipped, as every L2 attack here is, that one
    # is not found within twice the distance.
    model, x, y = linear(3, n=6)
    reach = distances(model, x, y, bounds, norm)
    attack = APGD(loss=loss, steps=30)  # type: ignore[arg-type]
    for factor, broken in ((0.995, False), (enough, True)):
        for i in reach.isfinite().nonzero().flatten().tolist():
            threat = Threat(norm=norm, epsilon=factor * float(reach[i]), bounds=bounds)
            assert bool(attack.run(model, x[i][None], y[i][None], threat, seed=0).fooled) is broken


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_start_far_outside_the_bounds_is_led_back(norm: Norm) -> None:
    model, x, y = linear(3, n=30)
    reachable = distances(model, x, y, HALF_FIXED, norm).isfinite()
    threat = Threat(norm=norm, epsilon=float("inf"), bounds=HALF_FIXED)
    assert APGD().run(model, x[reachable], y[reachable], threat, seed=0).accuracy == 0


def test_dlr_breaks_a_model_whose_cross_entropy_has_vanished() -> None:
    for classes in (2, 4):
        model, x, y = linear(0, classes, n=40)
        suspect = Scaled(model.float())
        threat = Threat(
            norm="linf", epsilon=1.05 * float(distances(model, x.float(), y, BOUNDS, "linf").max()), bounds=BOUNDS
        )
        blind, seeing = (
            APGD(loss=loss, steps=20).run(suspect, x.float(), y, threat, seed=0).accuracy
            for loss in ("cross_entropy", "dlr")  # type: ignore[arg-type]
        )
        assert seeing == 0
        assert blind > 0.5


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("loss", ["cross_entropy", "dlr"])
def test_images_in_the_unit_cube_end_where_torchattacks_puts_them(norm: Norm, loss: str) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 3))
    x = torch.rand(20, 2, 8, 8)
    y = model(x).argmax(1)
    epsilon = 0.08 if norm == "linf" else 0.7
    bounds = Bounds(low=torch.tensor(0.0), high=torch.tensor(1.0))
    ours = APGD(loss=loss, steps=15).perturb(  # type: ignore[arg-type]
        model, x, y, Threat(norm=norm, epsilon=epsilon, bounds=bounds), Draw(seeds.stream(0), total=len(x))
    )
    seed = Draw(seeds.stream(0), total=len(x)).seed()
    peer = torchattacks().APGD(
        model,
        norm={"linf": "Linf", "l2": "L2"}[norm],
        eps=epsilon,
        steps=15,
        loss={"cross_entropy": "ce"}.get(loss, loss),
    )
    peer.seed = seed
    with torch.random.fork_rng():
        theirs = peer(x, y)
    fooled = model(theirs).argmax(1) != y
    assert 0 < fooled.sum() < len(x)
    assert torch.equal(model(ours).argmax(1) != y, fooled)
    if norm == "linf":
        # Lengths are summed in another order, and a step that is halved or not makes much of a last digit.
        torch.testing.assert_close(ours[fooled], theirs[fooled], rtol=0, atol=1e-5)


def test_dlr_is_that_of_torchattacks_and_of_two_classes_the_margin() -> None:
    logits = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    y = torch.arange(50) % 5
    peer = torchattacks().APGD(nn.Linear(1, 1))
    torch.testing.assert_close(dlr(logits, y), peer.dlr_loss(logits, y))
    torch.testing.assert_close(dlr(1000 * logits + 3, y), dlr(logits, y), rtol=1e-3, atol=1e-4)
    assert torch.equal(dlr(logits[:, :2], y % 2), margin(logits[:, :2], y % 2))


def test_its_losses_are_two_attacks_of_a_table() -> None:
    assert [APGD(loss=loss).label for loss in ("cross_entropy", "dlr")] == ["apgd_ce", "apgd_dlr"]  # type: ignore[arg-type]


def test_survivors_alone_are_attacked_again() -> None:
    model, x, y = linear(0, n=30)
    reach = distances(model, x, y, BOUNDS, "linf")
    radii = [float(reach.quantile(q)) for q in (0.3, 0.6)]
    seen: list[int] = []
    model.register_forward_hook(lambda module, given, out: seen.append(len(given[0])))
    threat = Threat(norm="linf", epsilon=0, bounds=BOUNDS)
    found = APGD(steps=10).curve(model, x, y, threat, radii, seed=0)
    assert [point.accuracy for point in found.values()] == pytest.approx([0.7, 0.4], abs=0.04)
    assert 21 in seen
    for one in found.values():
        assert (one.distance[one.fooled] <= max(radii) + 1e-5).all()
