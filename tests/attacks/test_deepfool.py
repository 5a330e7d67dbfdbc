"""DeepFool against the closed-form distance of linear models in a box, and against torchattacks'."""

import pytest
import torch
from torch import Tensor, nn

from assay.attacks.deepfool import DeepFool
from assay.attacks.unit_cube import torchattacks
from assay.threats import Bounds, Threat
from tests.attacks.linear import BOUNDS, HALF_FIXED, ROOMY, distances, linear


@pytest.mark.parametrize("overshoot", [0.001, 0.02])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_distance_of_a_linear_model_is_exact_but_for_the_overshoot(overshoot: float, classes: int) -> None:
    model, x, y = linear(3, classes)
    threat = Threat(norm="l2", epsilon=float("inf"), bounds=ROOMY)
    found = DeepFool(overshoot=overshoot).run(model, x, y, threat, seed=0).distance
    torch.testing.assert_close(found, (1 + overshoot) * distances(model, x, y, ROOMY, "l2"), rtol=1e-9, atol=0)


@pytest.mark.parametrize("bounds", [BOUNDS, HALF_FIXED], ids=["free", "half fixed"])
def test_inputs_that_cannot_go_on_are_made_up_for_by_the_others(bounds: Bounds) -> None:
    model, x, y = linear(3)
    reach = distances(model, x, y, bounds, "l2")
    threat = Threat(norm="l2", epsilon=float("inf"), bounds=bounds)
    found = DeepFool().run(model, x, y, threat, seed=0)
    assert torch.equal(found.fooled, reach.isfinite())
    ratio = (found.distance / reach)[found.fooled]
    assert (ratio >= 1).all()
    assert ratio.max() <= 1.05


def test_a_network_is_fooled_as_closely_as_by_torchattacks() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 3)).eval()
    x = torch.rand(16, 1, 8, 8) * 0.6 + 0.2
    y = model(x).argmax(1)
    bounds = Bounds(low=torch.tensor(0.0), high=torch.tensor(1.0))
    ours = DeepFool().run(model, x, y, Threat(norm="l2", epsilon=float("inf"), bounds=bounds), seed=0)
    theirs = torchattacks().DeepFool(model)(x, y)
    assert ours.fooled.all()
    ratio = ours.distance / (theirs - x).flatten(1).norm(dim=1)
    assert ratio.median() == pytest.approx(1, abs=0.02)
    assert ratio.max() < 1.1


def test_only_the_likeliest_rivals_are_looked_at() -> None:
    passes: list[Tensor] = []
    model, x, y = linear(0, 4, n=1)
    model.register_full_backward_hook(lambda *_: passes.append(x))
    threat = Threat(norm="l2", epsilon=float("inf"), bounds=ROOMY)
    assert DeepFool(rivals=1).run(model, x, y, threat, seed=0).fooled.all()
    assert len(passes) == 1


def test_a_model_without_a_gradient_withstands_and_is_no_error() -> None:
    class Deaf(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.nn.functional.one_hot((x[:, 0] > 0).long(), 2).double()

    _, x, _ = linear(0)
    threat = Threat(norm="l2", epsilon=float("inf"), bounds=BOUNDS)
    assert not DeepFool().run(Deaf(), x, (x[:, 0] > 0).long(), threat, seed=0).fooled.any()
