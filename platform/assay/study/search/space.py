"""The varied settings of a search space, read from the distributions of Ray Tune without importing Ray."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.errors import SpecError

_DIGITS = 6
"""Significant digits of a drawn number: as many as the name of a point shows, so that names tell points apart."""
SUPPORTED = (
    "tune.grid_search, tune.choice, tune.uniform, tune.quniform, tune.loguniform, tune.qloguniform, tune.randint, "
    "tune.qrandint, tune.lograndint, tune.qlograndint"
)


@dataclass(frozen=True, kw_only=True)
class Values:
    """A setting with a list of values."""

    values: tuple[Any, ...]
    grid: bool
    """Whether the space asks for all of them, rather than for draws."""

    def draw(self, generator: np.random.Generator) -> Any:
        """Returns one value, each with the same probability.

        Args:
            generator: of the random number.

        Returns:
            The value.
        """
        return self.values[int(generator.integers(len(self.values)))]


@dataclass(frozen=True, kw_only=True)
class Range:
    """A numerical setting between two ends, both included."""

    low: float
    high: float
    log: bool = False
    """Whether the logarithm is uniform, rather than the number."""
    step: float | None = None
    """Draws are rounded to multiples of it; None for any number."""
    whole: bool = False
    """Whether draws are integers."""

    def draw(self, generator: np.random.Generator) -> float | int:
        """Returns a number of the range.

        Args:
            generator: of the random number.

        Returns:
            The number, with six significant digits.
        """
        if self.whole and not self.log:
            unit = self.step or 1
            return round(unit * int(generator.integers(round(self.low / unit), round(self.high / unit) + 1)))
        # An integer is the floor of a number below the next one, as Tune draws it.
        high = self.high + 1 if self.whole and self.step is None else self.high
        if not self.log:
            return self.rounded(float(generator.uniform(self.low, high)))
        drawn = math.exp(float(generator.uniform(math.log(self.low), math.log(high))))
        return self.rounded(math.floor(drawn) if self.whole and self.step is None else drawn)

    def rounded(self, number: float) -> float | int:
        """Returns a number as the range has it: a multiple of the step, within the ends, with six significant digits.

        Args:
            number: any.

        Returns:
            The nearest number of the range.
        """
        if self.step is not None:
            number = round(number / self.step) * self.step
        number = min(max(number, self.low), self.high)
        return round(number) if self.whole else float(f"{number:.{_DIGITS}g}")


Axis = Values | Range


def axes_of(name: str, space: Mapping[str, Any]) -> dict[str, Axis]:
    """Reads the distributions of a search space.

    Args:
        name: of the space, for errors.
        space: distributions of Ray Tune by setting.

    Returns:
        Axes by setting, in the order of the space.

    Raises:
        SpecError: a setting has no distribution, or one that is not supported.
    """
    return {key: _axis(name, key, distribution) for key, distribution in space.items()}


def _axis(name: str, key: str, distribution: Any) -> Axis:
    if isinstance(distribution, Mapping) and set(distribution) == {"grid_search"}:
        return _values(name, key, distribution["grid_search"], grid=True)
    if hasattr(distribution, "categories"):
        return _values(name, key, distribution.categories, grid=False)
    sampler = distribution.get_sampler() if hasattr(distribution, "get_sampler") else None
    step = getattr(sampler, "q", None)
    inner = sampler if sampler is None or step is None else sampler.get_sampler()
    kinds = {part.__name__ for part in type(inner).__mro__}
    if not kinds & {"Uniform", "LogUniform"} or not hasattr(distribution, "lower"):
        message = (
            f"space {name!r}: {key} is {distribution!r}, which no search of Assay can draw; use one of {SUPPORTED}"
        )
        raise SpecError(message, setting=key, given=repr(distribution), allowed=SUPPORTED)
    whole = type(distribution).__name__ == "Integer"
    low, high = distribution.lower, distribution.upper
    # Of integers Tune excludes the upper end, unless draws are rounded to a step.
    high = high - 1 if whole and step in (None, 1) else high
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high) and low <= high):
        message = f"space {name!r}: {key} lies between {low} and {high}; give two finite ends, the lower one first"
        raise SpecError(message, setting=key, given=(low, high), allowed="two finite ends")
    if step is not None:
        # The ends are those multiples of the step that lie within.
        low, high = (
            round(edge(bound / step - shift) * step, 12)
            for edge, bound, shift in ((math.ceil, low, 1e-9), (math.floor, high, -1e-9))
        )
    return Range(low=low, high=high, log="LogUniform" in kinds, step=step, whole=whole)


def _values(name: str, key: str, values: Any, *, grid: bool) -> Values:
    listed = tuple(values)
    if not listed:
        raise SpecError(
            f"space {name!r}: {key} has no values; list at least one", setting=key, given=[], allowed="at least one"
        )
    return Values(values=listed, grid=grid)
