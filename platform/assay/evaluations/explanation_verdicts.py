"""What scores of maps and their controls say: p-values, the place of a map, and verdicts. Pure functions of the scores.

``explain-rulers`` puts scores of maps that know nothing through these functions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from assay import intervals
from assay.intervals import Interval
from assay.statistics import holm

ALPHA = 0.05
LEAST_ROOM = 0.1
"""Share of the room between a control and the oracle that a map of any use has. A map is better than a control if it is
shown to have more, and no better if it is shown to have less."""
_FEWEST_COUNTED = 10
"""Records, or patients, that are needed to say that a map is no better than a control."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of a map, of the controls that it must beat, and of the best known order, by record."""

    own: np.ndarray
    """(n,) of the map."""
    controls: Mapping[str, np.ndarray]
    """(n,) of each control."""
    searched: np.ndarray
    """(n,) of the best order that a search found."""
    near_honest: frozenset[str] = frozenset()
    """Controls to which honest maps may be near: they show no map to be no better."""
    best: np.ndarray = field(init=False)
    """(n,) of the oracle: the search, or the map itself where that is better."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "best", np.maximum(self.searched, self.own))


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is said of one map beside the other maps of the same records."""

    control: str
    """The control that the map beats with the least certainty."""
    p: float
    """One-sided p of the map above a tenth of the room above every control, by Holm over maps."""
    worst: str
    """The control than which the map is no better with the greatest certainty."""
    p_no_better: float
    """One-sided p of the map below a tenth of the room above some control, by Bonferroni over controls and Holm over
    maps; 1 where fewer than ten records or patients count."""
    counted: int
    """Records, or patients, that count."""

    @property
    def better(self) -> bool:
        """Whether the map is shown to be better than every control, by more than a tenth of the room above it."""
        return self.p < ALPHA

    @property
    def no_better(self) -> bool:
        """Whether the map is shown to be no better than a control."""
        return not self.better and self.p_no_better < ALPHA

    @property
    def why_undecided(self) -> str:
        """Why no map of these records can be shown to be no better; empty where one can."""
        if self.counted >= _FEWEST_COUNTED:
            return ""
        return (
            f"{self.counted} records or patients count, and {_FEWEST_COUNTED} are needed to show this: raise measured"
        )


def verdicts(maps: Sequence[Scores], clusters: np.ndarray | None) -> list[Verdict]:
    """Tests maps of the same records against their controls.

    Both tests have the same limit, a tenth of the room between a control and the best known order: a copy of a control
    with small changes can beat it with certainty, by next to nothing. A map is better only if it beats every control,
    so the greatest p needs no correction for their number. It is no better if it is so beside any one of them, and then
    there is one: the least p is multiplied by their number. Both are corrected by Holm over the maps.

    Args:
        maps: scores of each.
        clusters: (n,) records that count as one; None where each counts by itself.

    Returns:
        A verdict for each map.
    """
    above = [_greatest({name: _p(margin, clusters) for name, margin in _margins(one).items()}) for one in maps]
    below = [_least(one, clusters) for one in maps]
    counted = _counted(maps[0], clusters) if maps else 0
    found = zip(above, below, holm([p for _, p in above]), holm([p for _, p in below]), strict=True)
    return [
        Verdict(control=control, worst=worst, p=p, p_no_better=p_no_better, counted=counted)
        for (control, _), (worst, _), p, p_no_better in found
    ]


def strongest(one: Scores) -> str:
    """Returns the control with the greatest mean score.

    Args:
        one: scores of a map.

    Returns:
        Its name.
    """
    return max(one.controls, key=lambda name: float(one.controls[name].mean()))


def placed(one: Scores, clusters: np.ndarray | None, *, generator: np.random.Generator, draws: int) -> Interval:
    """Returns (map − strongest control) ÷ (oracle − strongest control), with its bootstrap 95 % interval.

    Args:
        one: scores of a map.
        clusters: (n,) records that count as one.
        generator: of the bootstrap.
        draws: bootstrap samples.

    Returns:
        The place: 0 is that of the strongest control, 1 that of the oracle. NaN where there is no room between them.
    """
    controls = np.stack(list(one.controls.values()))

    def ratio(rows: np.ndarray) -> float:
        control = controls[:, rows].mean(1).max()
        room = one.best[rows].mean() - control
        return float((one.own[rows].mean() - control) / room) if room > 0 else np.nan

    return intervals.bootstrap(ratio, len(one.best), generator=generator, draws=draws, groups=clusters, expanded=True)


def _least(one: Scores, clusters: np.ndarray | None) -> tuple[str, float]:
    """Returns the control than which a map is no better with the greatest certainty, and the p over all controls."""
    if _counted(one, clusters) < _FEWEST_COUNTED:
        return next(iter(one.controls)), 1.0
    margins = {name: margin for name, margin in _margins(one).items() if name not in one.near_honest}
    if not margins:
        return next(iter(one.controls)), 1.0
    ps = {name: _p(-margin, clusters) for name, margin in margins.items()}
    name = min(ps, key=lambda name: ps[name])
    return name, min(1.0, len(ps) * ps[name])


def _margins(one: Scores) -> dict[str, np.ndarray]:
    """Returns how far each record of a map lies above a tenth of the room above each control.

    It is (own − control) − (best − control) / 10, so the verdict is on a mean of records, not on a ratio of means.
    """
    return {name: (one.own - other) - LEAST_ROOM * (one.best - other) for name, other in one.controls.items()}


def _counted(one: Scores, clusters: np.ndarray | None) -> int:
    return len(one.own) if clusters is None else len(np.unique(clusters))


def _greatest(ps: Mapping[str, float]) -> tuple[str, float]:
    name = max(ps, key=lambda name: ps[name])
    return name, ps[name]


def _p(values: np.ndarray, clusters: np.ndarray | None) -> float:
    p = intervals.mean(values, clusters).p_above
    return 1.0 if np.isnan(p) else p
