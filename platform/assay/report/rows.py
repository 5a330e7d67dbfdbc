"""Picking rows out of the long table of measurements."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from assay.statistics import Runs


def of_cohort(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows that were asked for one cohort; rows that name none belong to all."""
    return frame[frame["cohort"].isin([name, ""])]


def select(frame: pd.DataFrame, name: str, **where: Any) -> pd.DataFrame:
    """Rows of one measurement whose conditions hold.

    A measurement that did not apply has no conditions: it answers for all of them.
    """
    rows = frame[(frame["name"] == name).to_numpy()]
    if not where:
        return rows
    return holding(rows, lambda c: all(key not in c or c[key] == wanted for key, wanted in where.items()))


def holding(frame: pd.DataFrame, rule: Callable[[Mapping[str, Any]], bool]) -> pd.DataFrame:
    """Rows whose conditions obey a rule; none of none."""
    return frame[np.array([rule(conditions) for conditions in frame["conditions"]], dtype=bool)]


def measured(frame: pd.DataFrame, name: str, **where: Any) -> pd.DataFrame:
    """The same as ``select``, of what has a value."""
    rows = select(frame, name, **where)
    return rows[(rows["status"] == "measured").to_numpy()]


def of_recipe(frame: pd.DataFrame, recipe: str) -> pd.DataFrame:
    """The rows of one recipe."""
    return frame[(frame["recipe"] == recipe).to_numpy()]


def settings(rows: pd.DataFrame, key: str) -> list[Any]:
    """The values of one condition among rows, each once, in the order in which they appear."""
    return list(dict.fromkeys(c[key] for c in rows["conditions"] if key in c))


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was measured of one thing, each figure with the run that gave it."""

    places: tuple[tuple[int, int], ...]
    """(repeat, fold) of each, rising."""
    runs: Runs

    def __len__(self) -> int:
        return len(self.places)

    def at(self, places: Iterable[tuple[int, int]]) -> Runs:
        """The figures of some of its runs."""
        known = {place: i for i, place in enumerate(self.places)}
        return taken(self.runs, [known[place] for place in places])


def runs_of(rows: pd.DataFrame) -> Found:
    """What was measured in each run, with its own interval; the mean of several figures of one run."""
    known = (rows["status"] == "measured").to_numpy()
    repeat, fold = (rows[key].to_numpy()[known] for key in ("repeat", "fold"))
    order = np.lexsort((fold, repeat))
    places = tuple(zip(repeat[order].tolist(), fold[order].tolist(), strict=True))
    runs = taken(as_runs(rows), np.flatnonzero(known)[order])
    distinct = tuple(dict.fromkeys(places))
    if len(distinct) < len(places):
        starts = [places.index(place) for place in distinct]
        counts = np.diff([*starts, len(places)])
        runs = Runs(**{key: np.add.reduceat(ends, starts) / counts for key, ends in vars(runs).items()})
    return Found(places=distinct, runs=runs)


def shared(found: Iterable[Found]) -> list[tuple[int, int]]:
    """The runs that all have, rising."""
    return sorted(set.intersection(*(set(one.places) for one in found)))


def table(found: Mapping[str, Found]) -> pd.DataFrame:
    """Values by (repeat, fold) × recipe; NaN where not measured."""
    places = sorted({place for own in found.values() for place in own.places})
    index = pd.MultiIndex.from_tuples(places, names=("repeat", "fold"))
    known = [dict(zip(own.places, own.runs.values, strict=True)) for own in found.values()]
    values = [[own.get(place, np.nan) for own in known] for place in places]
    return pd.DataFrame(values, index=index, columns=list(found))


def taken(runs: Runs, positions: Sequence[int] | np.ndarray) -> Runs:
    """Some of the runs, in the given order."""
    chosen = np.asarray(positions, int)
    return Runs(values=runs.values[chosen], low=runs.low[chosen], high=runs.high[chosen])


def as_runs(rows: pd.DataFrame) -> Runs:
    """The same as statistics take it: each row a run."""
    return Runs(values=rows["value"].to_numpy(), low=rows["low"].to_numpy(), high=rows["high"].to_numpy())
