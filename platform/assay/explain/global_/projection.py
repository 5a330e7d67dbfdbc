"""The shortest step onto a plane within a box."""

import torch
from torch import Tensor

_DOUBLINGS, _HALVINGS = 60, 60


def least_step(slope: Tensor, needed: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Returns the shortest step d with slope · d = needed and low ≤ d ≤ high, or the one that comes nearest to it.

    Its entries are min(max(λ · slope, low), high) for a λ that bisection finds, as slope · d grows with λ.

    Args:
        slope: (n, inputs).
        needed: (n,).
        low: (n, inputs), at most 0.
        high: (n, inputs), at least 0.

    Returns:
        (n, inputs) steps.
    """
    squared = slope.square().sum(1).clamp_min(torch.finfo(slope.dtype).tiny)
    multiple = needed / squared

    def step(multiples: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(multiples[:, None] * slope, low), high)

    def reaches(multiples: Tensor) -> Tensor:
        return (slope * step(multiples)).sum(1).abs() >= needed.abs() * (1 - 1e-12)

    free = step(multiple)
    alone = reaches(multiple)
    if bool(alone.all()):
        return free
    far = multiple.clone()
    for _ in range(_DOUBLINGS):
        far = torch.where(reaches(far), far, 2 * far)
    near = multiple
    for _ in range(_HALVINGS):
        middle = (near + far) / 2
        enough = reaches(middle)
        near, far = torch.where(enough, near, middle), torch.where(enough, middle, far)
    return torch.where(alone[:, None], free, step(far))
