"""Transfer looks at the surrogate alone, to the end, and breaks a twin that hides its gradient."""

import copy

import pytest
import torch
from torch import nn

from assay.attacks.pgd import PGD
from assay.attacks.transfer import Transfer
from assay.threats import Norm, Threat
from tests.attacks.linear import ROOMY, distances, linear


class Blind(nn.Module):
    """The answers of a model, without its gradient."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x.detach()) + 0 * x.sum()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_twin_without_a_gradient_is_broken(norm: Norm) -> None:
    surrogate, x, y = linear(0)
    twin = Blind(copy.deepcopy(surrogate))
    threat = Threat(norm=norm, epsilon=1.05 * float(distances(surrogate, x, y, ROOMY, norm).max()), bounds=ROOMY)
    assert PGD().run(twin, x, y, threat, seed=0).accuracy == 1
    assert Transfer().run(twin, x, y, threat, seed=0, through=surrogate).accuracy == 0


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_surrogate_is_followed_to_the_end(norm: Norm) -> None:
    surrogate, x, y = linear(0)
    threat = Threat(norm=norm, epsilon=20.0, bounds=ROOMY)
    found = Transfer().run(surrogate, x, y, threat, seed=0, through=surrogate)
    assert found.distance.tolist() == pytest.approx([20.0] * len(x))


def test_the_model_is_asked_for_nothing_but_the_verdict() -> None:
    model, x, y = linear(0)
    surrogate = linear(1)[0]
    asked: list[int] = []
    model.register_forward_hook(lambda module, given, out: asked.append(len(given[0])))
    Transfer().run(model, x, y, Threat(norm="linf", epsilon=0.1, bounds=ROOMY), seed=0, through=surrogate)
    assert asked == [len(x)]


def test_without_a_surrogate_it_is_refused() -> None:
    model, x, y = linear(0)
    with pytest.raises(ValueError, match="crafted on a surrogate: give one as through="):
        Transfer().run(model, x, y, Threat(norm="linf", epsilon=0.1, bounds=ROOMY), seed=0)
