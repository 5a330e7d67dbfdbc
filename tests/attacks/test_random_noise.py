"""Random noise is as long as it may be, and all of it where it can be heard."""

import torch
from torch import nn

from assay.attacks.random_noise import RandomNoise
from assay.threats import Bounds, Threat


def test_no_length_is_spent_on_inputs_that_nobody_can_change() -> None:
    """Of 64 features one can be changed, and half of the radius suffices."""
    model = nn.Linear(64, 2)
    with torch.no_grad():
        model.weight.zero_()
        model.weight[1, 40] = 1.0
        model.bias.copy_(torch.tensor([0.6, 0.0]))
    bounds = Bounds(low=torch.tensor(0.0), high=torch.tensor(1.0), fixed=torch.arange(64) != 40)
    x, y = torch.full((20, 64), 0.5), torch.zeros(20, dtype=torch.long)
    assert RandomNoise().run(model, x, y, Threat(norm="l2", epsilon=0.2, bounds=bounds), seed=0).accuracy == 0
