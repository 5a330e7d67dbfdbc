"""Exact sums of clients' updates: integers add to the same bits in any order and on any number of workers.

A value is multiplied by its weight and by a power of two, rounded to a whole number, and added as a 64-bit integer.
Addition of integers is associative, so neither the order of arrival nor the number of workers changes a bit. The power
of two follows from public figures alone: the weights that are possible and the greatest value that is accepted.

Rounding: a number x with abs(x) < 2**51 becomes a whole number when 1.5 · 2**52 is added to it in float64, whose
spacing is 1 there; the low bits of the sum then are that number in two's complement (Dekker 1971 rounds by the same
addition). So one multiplication and two additions do the work of round, convert and add.

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
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from assay.errors import FederationError

_SHIFT = 1.5 * 2.0**52
"""Float64 numbers in [2**52, 2**53) are whole; this is the middle of that range."""
_SHIFT_BITS = int(torch.tensor(_SHIFT, dtype=torch.float64).view(torch.int64))
_ONE_BITS = 51
"""A single weighted value stays below 2 to this power."""
_ALL_BITS = 62
"""The sum of all weighted values stays below 2 to this power: no 64-bit integer overflows."""
_CHUNK = 1 << 15
"""Elements that are processed together on a CPU, so that buffers stay in its cache."""


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
        self._added = 0
        """How often the bits of the shift were added to every element."""
        step = _CHUNK if self._total.device.type == "cpu" else max(1, size)
        self._spans = [(start, min(start + step, size)) for start in range(0, size, step)]
        self._values = torch.empty(min(step, size), dtype=torch.float64, device=device)

    def add(self, values: Tensor, weight: float, *, minus: Tensor | None = None) -> None:
        """Adds one client's values, or their difference from others; adds nothing if it refuses them.

        Args:
            values: (size,) of any floating-point type.
            weight: of the client; at least 0.
            minus: (size,) subtracted from the values, in float64; of that type it is fastest.

        Raises:
            FederationError: a value is not finite or too large, or the weight is negative, not finite or too large.
        """
        self._refuse_weight(weight)
        factor = math.ldexp(weight, self.scale.exponent)
        for place, (start, end) in enumerate(self._spans):
            shifted = self._shifted(values[start:end], None if minus is None else minus[start:end], factor)
            if shifted is None:
                self._undo(values, minus, factor, before=place)
                raise _refusal(values if minus is None else values.double() - minus, self.scale)
            self._total[start:end].add_(shifted)  # += would copy the span onto itself once more
        self._added += 1
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
        # Modulo 2**64, as the additions were.
        return self._total - ((self._added * _SHIFT_BITS + 2**63) % 2**64 - 2**63)

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
        # Halves are converted one by one: a 64-bit integer has more digits than float64.
        total = self.total
        high = total >> 32
        low = total - (high << 32)
        return (high.double() * 2.0**32 + low.double()) * 2.0**-self.scale.exponent

    def _shifted(self, values: Tensor, minus: Tensor | None, factor: float) -> Tensor | None:
        """Returns weighted values as 64-bit integers; None if one is not finite or too large."""
        shifted = self._values[: len(values)]
        shifted.copy_(values)
        if minus is not None:
            shifted.sub_(minus)
        limit = self.scale.largest
        # No element is greater than the length of the vector, which takes half the time of a maximum; false for NaN.
        if not float(torch.dot(shifted, shifted)) <= limit**2 and not float(shifted.abs().max()) <= limit:
            return None
        return shifted.mul_(factor).add_(_SHIFT).view(torch.int64)

    def _undo(self, values: Tensor, minus: Tensor | None, factor: float, *, before: int) -> None:
        """Subtracts the spans that were added before a refusal."""
        for start, end in self._spans[:before]:
            shifted = self._shifted(values[start:end], None if minus is None else minus[start:end], factor)
            assert shifted is not None
            self._total[start:end].sub_(shifted)


def _refusal(values: Tensor, scale: FixedPoint) -> FederationError:
    bad = ~values.isfinite()
    if bool(bad.any()):
        return FederationError(
            f"{int(bad.sum())} of {len(values)} values of an update are not finite: lower the learning rate"
        )
    return FederationError(scale.what.format(value=float(values.abs().max()), limit=scale.largest))
