"""Picking rows out of the long table of measurements."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from assay.metrics import ANY, limits_of
from assay.results import Flag
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


def own_flags(rows: pd.DataFrame, rules: Iterable[str]) -> tuple[Flag, ...]:
    """The flags that evaluations raised themselves beside some figures, each once.

    Args:
        rules: of the checks, whose flags stand in rows of their own; so do those of earlier versions that name none.
    """
    of_checks = {*rules, ""}
    return tuple(dict.fromkeys(flag for flags in rows["flags"] for flag in flags if flag.rule not in of_checks))


def own_words(rows: pd.DataFrame, own: Iterable[Flag] = ()) -> tuple[str, ...]:
    """The warnings of some figures, each once, after the words of their own flags."""
    warnings = (warning for warnings in rows["warnings"] for warning in warnings)
    return tuple(dict.fromkeys((*(flag.message for flag in own), *warnings)))


def settings(rows: pd.DataFrame, key: str) -> list[Any]:
    """The values of one condition among rows, each once, in the order in which they appear."""
    return list(dict.fromkeys(c[key] for c in rows["conditions"] if key in c))


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was measured of one thing, each figure with the run that gave it."""

    places: tuple[tuple[int, int], ...]
    """(repeat, fold) of each, rising."""
    runs: Runs
    records: tuple[int, ...] = ()
    """Records behind each; empty where nobody counted."""

    def __len__(self) -> int:
        return len(self.places)

    def at(self, places: Iterable[tuple[int, int]]) -> Runs:
        """The figures of some of its runs."""
        known = {place: i for i, place in enumerate(self.places)}
        return taken(self.runs, [known[place] for place in places])

    def of_records(self) -> dict[tuple[int, int], int]:
        """Records behind each figure, by its run."""
        return dict(zip(self.places, self.records, strict=False))


def runs_of(rows: pd.DataFrame) -> Found:
    """What was measured in each run, with its own interval; the mean of several figures of one run."""
    known = (rows["status"] == "measured").to_numpy()
    repeat, fold = (rows[key].to_numpy()[known] for key in ("repeat", "fold"))
    order = np.lexsort((fold, repeat))
    places = tuple(zip(repeat[order].tolist(), fold[order].tolist(), strict=True))
    runs = taken(as_runs(rows), np.flatnonzero(known)[order])
    distinct = tuple(dict.fromkeys(places))
    records = rows["n"].to_numpy()[known][order] if "n" in rows else np.zeros(len(places), int)
    if len(distinct) < len(places):
        starts = [places.index(place) for place in distinct]
        records = np.minimum.reduceat(records, starts)
        counts = np.diff([*starts, len(places)])
        means = {key: np.add.reduceat(getattr(runs, key), starts) / counts for key in ("values", "low", "high")}
        runs = replace(runs, **means, outcomes=())
    return Found(places=distinct, runs=runs, records=tuple(records.tolist()))


def shared(found: Iterable[Found], *, same_records: bool = False) -> list[tuple[int, int]]:
    """The runs that all have, rising.

    Args:
        same_records: leave out the runs in which they rest on different numbers of records, which cannot be compared.
    """
    each = list(found)
    places = sorted(set.intersection(*(set(one.places) for one in each)))
    counts = [one.of_records() for one in each] if same_records else []
    return [place for place in places if len({known[place] for known in counts}) < 2]


def largest_sample(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each recipe and run the rows that rest on most records.

    A question may be asked twice, of a sample of the test records and of all: a mean of both would be of neither.
    """
    if len(rows) < 2 or "n" not in rows:
        return rows
    most = rows.groupby(["recipe", "repeat", "fold"])["n"].transform("max")
    return rows[((rows["n"] == most) | (rows["status"] != "measured")).to_numpy()]


def values_by_run(found: Mapping[str, Found]) -> pd.DataFrame:
    """Values by (repeat, fold) × recipe; NaN where not measured."""
    places = sorted({place for own in found.values() for place in own.places})
    index = pd.MultiIndex.from_tuples(places, names=("repeat", "fold"))
    known = [dict(zip(own.places, own.runs.values, strict=True)) for own in found.values()]
    values = [[own.get(place, np.nan) for own in known] for place in places]
    return pd.DataFrame(values, index=index, columns=list(found))


def taken(runs: Runs, positions: Sequence[int] | np.ndarray) -> Runs:
    """Some of the runs, in the given order."""
    chosen = np.asarray(positions, int)
    outcomes = tuple(runs.outcomes[place] for place in chosen) if runs.outcomes else ()
    return replace(runs, values=runs.values[chosen], low=runs.low[chosen], high=runs.high[chosen], outcomes=outcomes)


def as_runs(rows: pd.DataFrame) -> Runs:
    """The same as statistics take it: each row a run, with the limits of what is possible for such a measurement."""
    least, most = (
        limits_of(str(rows["name"].iloc[0]), str(rows["unit"].iloc[0])) if "unit" in rows and len(rows) else ANY
    )
    values, low, high = (rows[column].to_numpy() for column in ("value", "low", "high"))
    outcomes = tuple(rows["outcomes"]) if "outcomes" in rows else ()
    return Runs(values=values, low=low, high=high, least=least, most=most, outcomes=outcomes)
