"""The one scale of colours of all maps, and maps that are shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from plotly.colors import cmocean, sample_colorscale

_STEPS = 41
_INNER = 0.70
"""Share of cmocean's scale ``balance`` that is used: its ends are nearly black."""
_MOST_OPAQUE = 0.92


@dataclass(frozen=True, kw_only=True)
class ShownMaps:
    """The examples of one method, or of one recipe."""

    label: str
    kept: Mapping[str, Any]
    maps: np.ndarray
    """(k, ...) values in the unit of the figure."""

    @property
    def answers(self) -> list[str]:
        """The answer to each record, with the true class."""
        return [
            f"predicted {predicted} / true {true}: {'right' if right else 'WRONG'}"
            for predicted, true, right in zip(
                self.kept["predicted"], self.kept["true"], self.kept["right"], strict=True
            )
        ]


def scale(*, opaque: bool = False) -> list[list[Any]]:
    """Returns the scale of all maps: the inner part of cmocean's ``balance``, less opaque towards 0.

    ``balance`` is perceptually uniform and diverging (Thyng et al. 2016, doi:10.5670/oceanog.2016.66).

    Args:
        opaque: colours over white instead of colours that can be seen through.

    Returns:
        Pairs of a position from 0 to 1 and a colour, as plotly takes them.
    """
    found = []
    for place, (*colour, alpha) in zip(np.linspace(0, 1, _STEPS), colours(_STEPS), strict=True):
        if opaque:
            mixed = [alpha * channel + 1 - alpha for channel in colour]
            found.append([float(place), "rgb({},{},{})".format(*(round(255 * c) for c in mixed))])
        else:
            found.append([float(place), "rgba({},{},{},{:.3f})".format(*(round(255 * c) for c in colour), alpha)])
    return found


def colours(steps: int) -> np.ndarray:
    """Returns the colours of the scale as numbers.

    Args:
        steps: number of colours.

    Returns:
        (steps, 4) red, green, blue and opacity, from 0 to 1; the most negative value first.
    """
    places = np.linspace(0, 1, steps)
    rgb = sample_colorscale(cmocean.balance, (0.5 + _INNER * (places - 0.5)).tolist(), colortype="tuple")
    return np.column_stack([np.array(rgb), _MOST_OPAQUE * abs(2 * places - 1)])


def colour_of(share: float) -> str:
    """Returns the colour of a value, over white.

    Args:
        share: of the value at which colours end, with its sign.

    Returns:
        A colour of CSS.
    """
    place = round((_STEPS - 1) * (min(1.0, max(-1.0, share)) + 1) / 2)
    return str(scale(opaque=True)[place][1])
