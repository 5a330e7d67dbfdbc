"""FAB against the closed-form distance of linear models in a box."""

import pytest
import torch

from assay.attacks.fab import FAB
from assay.threats import Bounds, Norm, Threat
from tests.attacks.linear import BOUNDS, HALF_FIXED, ROOMY, distances, linear


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(
    ("bounds", "median", "worst"), [(ROOMY, 1.01, 1.02), (BOUNDS, 1.02, 1.15), (HALF_FIXED, 1.02, 1.15)]
)
def test_the_distance_of_a_linear_model_is_found(
    norm: Norm, classes: int, bounds: Bounds, median: float, worst: float
) -> None:
    model, x, y = linear(3, classes)
    reach = distances(model, x, y, bounds, norm)
    known = reach.isfinite()
    result = FAB().run(model, x[known], y[known], Threat(norm=norm, epsilon=float("inf"), bounds=bounds), seed=0)
    ratio = result.distance / reach[known]
    assert (ratio >= 1 - 1e-5).all()
    assert ratio.median() <= median
    assert ratio.max() <= worst


def test_a_restart_never_finds_a_longer_way() -> None:
    model, x, y = linear(1, 4)
    threat = Threat(norm="l2", epsilon=float("inf"), bounds=BOUNDS)
    once, again = (FAB(steps=5, restarts=n).run(model, x, y, threat, seed=0).distance for n in (1, 3))
    assert (again <= once).all()


def test_a_record_that_is_already_misclassified_needs_no_change() -> None:
    model, x, y = linear(0)
    threat = Threat(norm="linf", epsilon=float("inf"), bounds=BOUNDS)
    assert FAB(steps=3).run(model, x, 1 - y, threat, seed=0).distance.tolist() == [0.0] * len(x)


def test_a_model_that_answers_at_random_is_no_crash() -> None:
    model, x, y = linear(0, n=40)
    model.register_forward_hook(lambda module, given, out: out + torch.randn_like(out))
    threat = Threat(norm="linf", epsilon=float("inf"), bounds=BOUNDS)
    assert FAB(steps=5).run(model, x, y, threat, seed=0).fooled.any()


def test_a_restart_leaves_a_plateau_that_holds_the_record() -> None:
    class Plateau(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([0 * x[:, 0], (x.abs().amax(1) - 0.5).clamp_min(0) - 0.5], 1)

    x, y = torch.zeros(6, 2), torch.zeros(6, dtype=torch.long)
    bounds = Bounds(low=torch.tensor(-2.0), high=torch.tensor(2.0))
    threat = Threat(norm="linf", epsilon=float("inf"), bounds=bounds)
    once, again = (FAB(steps=10, restarts=n).run(Plateau(), x, y, threat, seed=0) for n in (1, 6))
    assert not once.fooled.any()
    assert again.fooled.all()
    assert (again.distance <= 1.1).all()
