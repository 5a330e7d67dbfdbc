"""Exact sums of clients' updates: integers add to the same bits in any order and on any number of workers.

A value is multiplied by its weight and by a power of two, rounded to a whole number, and added as a 64-bit integer.
Addition of integers is associative, so neither the order of arrival nor the number of workers changes a bit. The power
of two follows from public figures alone: the weights that are possible and the greatest value that is accepted.

On a CPU a loop compiled by numba reads each value once; PyTorch, which is used on a GPU, takes several passes. Both
round halves to even, so they give the same bits.

Example:
    >>> import torch
    >>> scale = FixedPoint.of(weights=[10.0, 1000.0], largest=2.0**10)
    >>> total = ExactSum(1, scale)
    >>> total.add(torch.tensor([0.0]), 10.0)
    >>> total.add(torch.tensor([1.0]), 1000.0)
    >>> round(float(total.mean()), 6)
    0.990099
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from assay.errors import FederationError

_ONE_BITS = 51
"""A single weighted value stays below 2 to this power."""
_ALL_BITS = 62
"""The sum of all weighted values stays below 2 to this power: no 64-bit integer overflows."""
_CHUNK = 1 << 16
"""Elements that are converted together, so that buffers stay in the cache of a CPU."""
_LOOPED = {torch.float32, torch.float64}
"""Types that the compiled loop reads."""


@dataclass(frozen=True, kw_only=True)
class FixedPoint:
    """The public scale of an exact sum."""

    exponent: int
    """Values are multiples of 2 to the power of minus this, after weighting."""
    largest: float
    """Greatest absolute value, before weighting, that is accepted."""
    heaviest: float
    """Greatest weight that is accepted."""
    what: str = (
        "an update changes a weight by {value:g}, more than the limit {limit:g}: lower the learning rate, or clip"
    )
    """Error message for a value that is too large."""

    @classmethod
    def of(cls, *, weights: Iterable[float], largest: float, **named: str) -> "FixedPoint":
        """Returns the finest scale at which no sum can overflow.

        Args:
            weights: greatest possible weight of each client; positive. They must be public, as numbers of records
                that the server holds.
            largest: greatest absolute value that is accepted, before weighting.
            named: ``what``, the error message for a larger value.

        Returns:
            The scale.

        Raises:
            FederationError: no weight is positive.
        """
        weights = [float(weight) for weight in weights]
        total, heaviest = math.fsum(weights), max(weights, default=0.0)
        if not (heaviest > 0 and math.isfinite(total * largest)):
            raise FederationError(
                f"the weights of the clients sum to {total:g}: each needs at least one record, and all together fewer "
                "than float64 can count"
            )
        one = _ONE_BITS - math.ceil(math.log2(largest * heaviest))
        every = _ALL_BITS - math.ceil(math.log2(largest * total))
        return cls(exponent=min(one, every) - 1, largest=largest, heaviest=heaviest, **named)

    def error_of_mean(self, weights: Iterable[float]) -> float:
        """Returns the greatest error of a weighted mean by this scale.

        Args:
            weights: of the clients that are summed.

        Returns:
            The bound, in the units of the values.
        """
        weights = list(weights)
        return len(weights) * 2.0 ** (-self.exponent - 1) / math.fsum(weights)


class ExactSum:
    """A weighted sum of vectors in 64-bit fixed point.

    Args:
        size: elements of a vector.
        scale: of the values.
        device: where the vectors are.
    """

    def __init__(self, size: int, scale: FixedPoint, device: torch.device | str = "cpu") -> None:
        self.scale = scale
        self.weight = 0.0
        """Sum of the weights."""
        self._total = torch.zeros(size, dtype=torch.int64, device=device)

    def add(self, values: Tensor, weight: float, *, minus: Tensor | None = None) -> None:
        """Adds one client's values, or their difference from others; adds nothing if it refuses them.

        Args:
            values: (size,) of any floating-point type.
            weight: of the client; at least 0.
            minus: (size,) subtracted from the values, in float64.

        Raises:
            FederationError: a value is not finite or too large, there are more or fewer values than the sum has, or the
                weight is negative, not finite or too large.
        """
        self._refuse_weight(weight)
        if len(values) != len(self._total) or (minus is not None and len(minus) != len(values)):
            # The compiled loops check no bounds.
            raise FederationError(f"{len(values)} values cannot be added to a sum of {len(self._total)}")
        factor, limit = math.ldexp(weight, self.scale.exponent), self.scale.largest
        if self._total.is_cuda:
            difference = values.double() if minus is None else values.double() - minus
            refused = not bool((difference.abs() <= limit).all())
            if not refused:
                self._total += (difference * factor).round().long()
        else:
            check, add = _loops()
            given = [_array(tensor) for tensor in (values, values.new_zeros(1) if minus is None else minus)]
            refused = bool(check(*given, limit))
            if not refused:
                add(*given, self._total.numpy(), factor)
        if refused:
            raise _refusal(values if minus is None else values.double() - minus, self.scale)
        self.weight += weight

    def refuse(self, values: Tensor, weight: float) -> None:
        """Raises if ``add`` would refuse these values; adds nothing.

        Args:
            values: (size,) as for ``add``.
            weight: of the client.

        Raises:
            FederationError: see ``add``.
        """
        self._refuse_weight(weight)
        if not float(values.abs().max()) <= self.scale.largest:
            raise _refusal(values, self.scale)

    def _refuse_weight(self, weight: float) -> None:
        if not 0 <= weight <= self.scale.heaviest:
            raise FederationError(
                f"the weight {weight:g} of a client is not between 0 and {self.scale.heaviest:g}, the greatest that "
                "the server's own counts of records allow"
            )

    @property
    def total(self) -> Tensor:
        """Sum of the weighted values as multiples of the scale, (size,) int64."""
        return self._total

    def join(self, total: Tensor, weight: float) -> None:
        """Adds the sum of another worker.

        Args:
            total: (size,) int64, its ``total`` at the same scale.
            weight: its sum of weights.
        """
        self._total += total
        self.weight += weight

    def mean(self) -> Tensor:
        """Returns the weighted mean.

        Returns:
            (size,) float64; zeros if no weight was added.
        """
        if not self.weight:
            return torch.zeros(len(self._total), dtype=torch.float64, device=self._total.device)
        return self.sum() / self.weight

    def sum(self) -> Tensor:
        """Returns the weighted sum.

        Returns:
            (size,) float64.
        """
        found = torch.empty(len(self._total), dtype=torch.float64, device=self._total.device)
        for total, part in zip(self._total.split(_CHUNK), found.split(_CHUNK), strict=True):
            # Halves are converted one by one: a 64-bit integer has more digits than float64.
            high = total >> 32
            low = total - (high << 32)
            part.copy_(high).mul_(2.0**32).add_(low.double()).mul_(2.0**-self.scale.exponent)
        return found


@cache
def _loops() -> tuple[Callable[..., int], Callable[..., None]]:
    """Returns the loops over values (n,) minus others (n,), or minus (1,) zero; compiled at their first call."""
    import numba  # takes half a second

    @numba.njit(nogil=True)
    def count_refused(values: np.ndarray, minus: np.ndarray, limit: float) -> int:
        found, each = 0, len(minus) > 1
        for place in range(len(values)):
            difference = np.float64(values[place]) - np.float64(minus[place if each else 0])
            found += not abs(difference) <= limit  # true for NaN
        return found

    @numba.njit(nogil=True)
    def add(values: np.ndarray, minus: np.ndarray, total: np.ndarray, factor: float) -> None:
        each = len(minus) > 1
        for place in range(len(values)):
            difference = np.float64(values[place]) - np.float64(minus[place if each else 0])
            total[place] += np.int64(np.rint(difference * factor))

    return count_refused, add


def _array(tensor: Tensor) -> np.ndarray:
    """Returns a tensor as an array that the compiled loops read, without a copy where they can."""
    tensor = tensor.detach()
    array: np.ndarray = (tensor if tensor.dtype in _LOOPED else tensor.double()).contiguous().numpy()
    return array


def _refusal(values: Tensor, scale: FixedPoint) -> FederationError:
    bad = ~values.isfinite()
    if bool(bad.any()):
        return FederationError(
            f"{int(bad.sum())} of {len(values)} values of an update are not finite: lower the learning rate"
        )
    return FederationError(scale.what.format(value=float(values.abs().max()), limit=scale.largest))
