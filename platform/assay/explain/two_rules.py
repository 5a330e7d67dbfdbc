"""Values by more and more points, until two numbers of points agree on every value and the sum is right."""

from collections.abc import Callable

import torch
from torch import Tensor

from assay.explain.base import Explained


def agreed(
    values_by: Callable[[Tensor | slice, int], Tensor],
    change: Tensor,
    *,
    points: int,
    most: int,
    tolerance: float,
) -> Explained:
    """Returns the values by n points, 2n + 1, and so on, of each record until they agree with those before.

    Args:
        values_by: from records, by position, and a number of points to values (k, ...).
        change: (n,) what the values of a record should add up to.
        points: to begin with.
        most: greatest number of points.
        tolerance: greatest difference of a value, relative to the record's greatest, and of the sum from the change.

    Returns:
        The values, and those of the number of points before; without these where ``most`` leaves no room for them.
    """
    count, values = points, values_by(slice(None), points)
    if 2 * count + 1 > most:
        return Explained(values=values)
    second = values.clone()
    rows = torch.arange(len(values), device=values.device)
    while len(rows) and 2 * count + 1 <= most:
        count = 2 * count + 1
        finer = values_by(slice(None) if len(rows) == len(values) else rows, count)
        second[rows], values[rows] = values[rows], finer
        rows = rows[_is_wrong(finer, second[rows], change[rows], tolerance)]
    return Explained(values=values, second=second)


def _is_wrong(values: Tensor, second: Tensor, change: Tensor, tolerance: float) -> Tensor:
    """Returns for which records a value differs between the rules, or the sum from the change, by more, (n,) bool."""
    most = values.flatten(1).abs().amax(1)
    apart = (values - second).flatten(1).abs().amax(1) > tolerance * most
    missed = (values.flatten(1).sum(1) - change).abs()
    return apart | (missed > tolerance * torch.maximum(most, change.abs()))
