"""Linear models, whose distance to the nearest boundary inside a box is known."""

import numpy as np
import torch
from torch import Tensor, nn

from assay.threats import Bounds, Norm

FEATURES = 8
BOUNDS = Bounds(
    low=-torch.tensor([2.0, 2.0, 3.0, 9.0, 2.0, 2.0, 3.0, 9.0]),
    high=torch.tensor([2.0, 4.0, 2.0, 9.0, 2.0, 4.0, 2.0, 9.0]),
)
"""Ranges that differ, and that bind: many a shortest way to the boundary runs along a bound."""
HALF_FIXED = Bounds(low=BOUNDS.low, high=BOUNDS.high, fixed=torch.arange(FEATURES) % 2 == 1)
ROOMY = Bounds(low=torch.full((FEATURES,), -90.0), high=torch.full((FEATURES,), 100.0))
"""No shortest way meets a bound."""


def linear(seed: int, classes: int = 2, n: int = 12) -> tuple[nn.Linear, Tensor, Tensor]:
    """A model in float64, with records inside all bounds that it classifies correctly."""
    generator = np.random.default_rng(seed)
    model = nn.Linear(FEATURES, classes).double()
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(generator.normal(size=(classes, FEATURES))))
        model.bias.copy_(torch.from_numpy(0.3 * generator.normal(size=classes)))
    x = torch.from_numpy(generator.uniform(-1.8, 1.8, size=(n, FEATURES)))
    return model, x, model(x).argmax(1)


@torch.no_grad()
def distances(model: nn.Linear, x: Tensor, y: Tensor, bounds: Bounds, norm: Norm) -> Tensor:
    """(n,) length of the shortest valid change that reaches another class; infinite where there is none.

    The best change of "length" t moves along the sign of the slope (L∞) or along the slope (L2), each input as far as
    its bound: the gap it closes rises with t, so halving a range finds the t that closes all of it.
    """
    low, high = bounds.box(x, torch.inf)
    best = torch.full((len(x),), torch.inf, dtype=x.dtype)
    logits = model(x)
    for rival in range(model.out_features):
        slope = model.weight[rival] - model.weight[y]
        gap = logits.gather(1, y[:, None])[:, 0] - logits[:, rival]
        way = slope.sign() if norm == "linf" else slope
        short, far = torch.zeros(len(x), 1, dtype=x.dtype), torch.full((len(x), 1), 200.0, dtype=x.dtype)

        def change(t: Tensor, way: Tensor = way) -> Tensor:
            return (x + t * way).clamp(low, high) - x

        reachable = (change(far) * slope).sum(1) > gap
        for _ in range(60):
            middle = (short + far) / 2
            closed = (change(middle) * slope).sum(1, keepdim=True) > gap[:, None]
            short, far = torch.where(closed, short, middle), torch.where(closed, middle, far)
        moved = change(far)
        length = moved.abs().amax(1) if norm == "linf" else moved.norm(dim=1)
        best = torch.where(reachable & (y != rival), torch.minimum(best, length), best)
    return best
