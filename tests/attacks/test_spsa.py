"""Slopes that are estimated from differences lead where a gradient does not exist, or lies."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.attacks.pgd import PGD
from assay.attacks.spsa import SPSA
from assay.threats import Bounds, Threat

FEATURES = 12
BOUNDS = Bounds(low=torch.tensor(-2.0), high=torch.tensor(2.0))


def rounded(x: Tensor) -> Tensor:
    """To tenths, by numpy: no gradient leads through."""
    return torch.from_numpy(np.round(10 * x.detach().numpy()) / 10)


def rippled(x: Tensor) -> Tensor:
    waves = 400 * torch.randn(FEATURES, FEATURES, generator=torch.Generator().manual_seed(2))
    return x + 0.002 * torch.sin(x @ waves)


class Behind(nn.Module):
    """A linear model of two classes behind a function of its inputs."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.weight = torch.randn(FEATURES, generator=torch.Generator().manual_seed(0))

    def forward(self, x: Tensor) -> Tensor:
        height = self.function(x) @ self.weight
        return torch.stack([-height, height], 1)


@pytest.mark.parametrize("function", [rounded, rippled])
def test_a_linear_model_falls_to_nearly_its_worst_corner(function: Callable[[Tensor], Tensor]) -> None:
    model = Behind(function).eval()
    x = torch.rand(150, FEATURES, generator=torch.Generator().manual_seed(1)) * 2 - 1
    y = model(x).argmax(1)
    way = model.weight.sign() * (1 - 2 * y[:, None])
    threat = Threat(norm="linf", epsilon=0.2, bounds=BOUNDS)
    worst = float((model(x + 0.2 * way).argmax(1) == y).double().mean())
    followed = PGD(loss="margin").run(model, x, y, threat, seed=0).accuracy
    estimated = SPSA().run(model, x, y, threat, seed=0).accuracy
    assert followed > worst + 0.1
    assert estimated <= worst + 0.03
