"""Selects rows from the table of measurements."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from assay.design import Runs
from assay.metrics import ANY, limits_of
from assay.results import Flag


def of_cohort(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Selects the rows of one cohort; rows without a cohort belong to all.

    Args:
        frame: rows of results.
        name: of the cohort.

    Returns:
        Some of the rows.
    """
    return frame[frame["cohort"].isin([name, ""])]


def select(frame: pd.DataFrame, name: str, **where: Any) -> pd.DataFrame:
    """Selects the rows of one measurement with certain conditions.

    A row without a condition matches every value of it, such as a measurement that did not apply.

    Args:
        frame: rows of results.
        name: of the measurement.
        where: conditions.

    Returns:
        Some of the rows.
    """
    rows = frame[(frame["name"] == name).to_numpy()]
    if not where:
        return rows
    return holding(rows, lambda c: all(key not in c or c[key] == wanted for key, wanted in where.items()))


def holding(frame: pd.DataFrame, rule: Callable[[Mapping[str, Any]], bool]) -> pd.DataFrame:
    """Selects the rows whose conditions satisfy a rule.

    Args:
        frame: rows of results.
        rule: from conditions to a truth value.

    Returns:
        Some of the rows.
    """
    return frame[np.array([rule(conditions) for conditions in frame["conditions"]], dtype=bool)]


def measured(frame: pd.DataFrame, name: str, **where: Any) -> pd.DataFrame:
    """Selects as ``select`` does, but only rows with a value.

    Args:
        frame: rows of results.
        name: of the measurement.
        where: conditions.

    Returns:
        Some of the rows.
    """
    rows = select(frame, name, **where)
    return rows[(rows["status"] == "measured").to_numpy()]


def of_recipe(frame: pd.DataFrame, recipe: str) -> pd.DataFrame:
    """Selects the rows of one recipe.

    Args:
        frame: rows of results.
        recipe: its name.

    Returns:
        Some of the rows.
    """
    return frame[(frame["recipe"] == recipe).to_numpy()]


def own_flags(rows: pd.DataFrame, rules: Iterable[str]) -> tuple[Flag, ...]:
    """Returns the flags that evaluations themselves gave to some rows, each once.

    Args:
        rows: of measurements.
        rules: of the checks, whose flags have rows of their own; flags of earlier versions without a rule count as
            such.

    Returns:
        The flags.
    """
    of_checks = {*rules, ""}
    return tuple(dict.fromkeys(flag for flags in rows["flags"] for flag in flags if flag.rule not in of_checks))


def own_words(rows: pd.DataFrame, own: Iterable[Flag] = ()) -> tuple[str, ...]:
    """Returns the warnings of some rows, each once, after the messages of their flags.

    Args:
        rows: of measurements.
        own: flags of these rows.

    Returns:
        Texts.
    """
    warnings = (warning for warnings in rows["warnings"] for warning in warnings)
    return tuple(dict.fromkeys((*(flag.message for flag in own), *warnings)))


def settings(rows: pd.DataFrame, key: str) -> list[Any]:
    """Returns the values of one condition among rows, each once, in the order in which they appear.

    Args:
        rows: of measurements.
        key: name of the condition.

    Returns:
        The values.
    """
    return list(dict.fromkeys(c[key] for c in rows["conditions"] if key in c))


@dataclass(frozen=True, kw_only=True)
class RunValues:
    """The values of one metric of one recipe, by run."""

    places: tuple[tuple[int, int], ...]
    """(repeat, fold) of each, ascending."""
    runs: Runs
    records: tuple[int, ...] = ()
    """Number of records of each; empty where unknown."""

    def __len__(self) -> int:
        return len(self.places)

    def at(self, places: Iterable[tuple[int, int]]) -> Runs:
        """Selects the values of some runs.

        Args:
            places: (repeat, fold) of each.

        Returns:
            The values, in this order.
        """
        known = {place: i for i, place in enumerate(self.places)}
        return taken(self.runs, [known[place] for place in places])

    def of_records(self) -> dict[tuple[int, int], int]:
        """Returns the number of records of each value, by its run."""
        return dict(zip(self.places, self.records, strict=False))


def runs_of(rows: pd.DataFrame) -> RunValues:
    """Returns the value of each run with its own interval; the mean where a run has several.

    Args:
        rows: of one metric of one recipe.

    Returns:
        The values.
    """
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
    return RunValues(places=distinct, runs=runs, records=tuple(records.tolist()))


def shared(found: Iterable[RunValues], *, same_records: bool = False) -> list[tuple[int, int]]:
    """Returns the runs that all metrics have, ascending.

    Args:
        found: the metrics.
        same_records: leave out the runs in which they use different numbers of records, which cannot be compared.

    Returns:
        (repeat, fold) of each.
    """
    each = list(found)
    places = sorted(set.intersection(*(set(one.places) for one in each)))
    counts = [one.of_records() for one in each] if same_records else []
    return [place for place in places if len({known[place] for known in counts}) < 2]


def largest_sample(rows: pd.DataFrame) -> pd.DataFrame:
    """Selects, for each recipe and run, the rows that use most records.

    A metric may be measured both on a sample and on all test records, and the two must not be averaged.

    Args:
        rows: of one metric.

    Returns:
        Some of the rows.
    """
    if len(rows) < 2 or "n" not in rows:
        return rows
    runs = list(zip(*(rows[key].to_numpy() for key in ("recipe", "repeat", "fold")), strict=True))
    counts, most = rows["n"].to_numpy(), dict[Any, float]()
    for run, count in zip(runs, counts, strict=True):
        if count > most.get(run, -1):  # false for NaN
            most[run] = count
    of_all = np.array([count == most.get(run) for run, count in zip(runs, counts, strict=True)])
    return rows[of_all | (rows["status"] != "measured").to_numpy()]


def values_by_run(found: Mapping[str, RunValues]) -> pd.DataFrame:
    """Returns values by (repeat, fold) × recipe.

    Args:
        found: by recipe.

    Returns:
        The table; NaN where not measured.
    """
    places = sorted({place for own in found.values() for place in own.places})
    index = pd.MultiIndex.from_tuples(places, names=("repeat", "fold"))
    known = [dict(zip(own.places, own.runs.values, strict=True)) for own in found.values()]
    values = [[own.get(place, np.nan) for own in known] for place in places]
    return pd.DataFrame(values, index=index, columns=list(found))


def taken(runs: Runs, positions: Sequence[int] | np.ndarray) -> Runs:
    """Selects runs in the given order.

    Args:
        runs: (r,) of a metric.
        positions: (k,) of the runs.

    Returns:
        (k,) runs.
    """
    chosen = np.asarray(positions, int)
    outcomes = tuple(runs.outcomes[place] for place in chosen) if runs.outcomes else ()
    return replace(runs, values=runs.values[chosen], low=runs.low[chosen], high=runs.high[chosen], outcomes=outcomes)


def as_runs(rows: pd.DataFrame) -> Runs:
    """Converts rows for ``statistics``: each row is a run, with the possible values of the measurement.

    Args:
        rows: of one metric.

    Returns:
        The runs.
    """
    least, most = (
        limits_of(str(rows["name"].iloc[0]), str(rows["unit"].iloc[0])) if "unit" in rows and len(rows) else ANY
    )
    values, low, high = (rows[column].to_numpy() for column in ("value", "low", "high"))
    outcomes = tuple(rows["outcomes"]) if "outcomes" in rows else ()
    return Runs(values=values, low=low, high=high, least=least, most=most, outcomes=outcomes)
