"""All measurements, a line for each measurement and set of conditions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from assay.design import Design, Runs
from assay.metrics import limits_of, meaning_of
from assay.report.cells import between
from assay.statistics import Summary

_TELLING = (
    *("attack", "epsilon", "method", "map", "false_positive_rate", "client", "group", "class", "evaluation"),
    *("corruption", "severity", "coverage", "risk", "score", "alpha", "against", "sigma", "quantile", "share"),
    *("weights", "update", "privacy", "privacy_epsilon", "labels", "compression"),
)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One measurement at one set of conditions, for every recipe."""

    name: str
    meaning: str
    """How to read it; empty where it is not declared."""
    conditions: str
    unit: str
    records: str
    """Number of records of each value."""
    by_recipe: Mapping[str, Summary]
    """Summaries by recipe, each with the number of runs that have a value."""


def everything(frame: pd.DataFrame, recipes: tuple[str, ...], design: Design) -> list[Line]:
    """Returns mean, deviation and interval of every measurement, by recipe.

    Args:
        frame: rows of the cohort.
        recipes: names, in the order of the page.
        design: of the cohort.

    Returns:
        The lines.
    """
    rows = frame[((frame["status"] == "measured") & (frame["kind"] == "measurement")).to_numpy(bool)]
    keys = ["name", "told", "unit"]
    told = rows.assign(told=[_told(conditions, _TELLING) for conditions in rows["conditions"]])
    # Rows of one trial must never pass for repetitions of each other: then all their conditions are told.
    twice = told.duplicated(["trial", *keys], keep=False)
    told.loc[twice, "told"] = [_told(conditions, conditions) for conditions in told.loc[twice, "conditions"]]
    found: dict[tuple[str, ...], dict[str, Summary]] = {}
    ends = {key: told[key].to_numpy() for key in ("value", "low", "high")}
    groups = told.groupby([*keys, "recipe"], sort=False).indices
    for key, places in sorted(groups.items(), key=lambda group: group[1][0]):
        assert isinstance(key, tuple)
        *line, recipe = map(str, key)
        lowest, highest = limits_of(line[0], line[2])
        values, low, high = (ends[end][places] for end in ("value", "low", "high"))
        runs = Runs(values=values, low=low, high=high, least=lowest, most=highest)
        found.setdefault(tuple(line), {})[recipe] = design.summarise(runs)
    by_line = told.groupby(keys, sort=False)["n"]
    fewest, most = by_line.min().to_dict(), by_line.max().to_dict()
    return [
        Line(
            name=name,
            meaning=meaning_of(name),
            conditions=conditions,
            unit=unit,
            records=between(fewest[name, conditions, unit], most[name, conditions, unit]),
            by_recipe={r: own[r] for r in recipes if r in own},
        )
        for (name, conditions, unit), own in found.items()
    ]


def _told(conditions: Mapping[str, Any], keys: Iterable[str]) -> str:
    """Describes the conditions that distinguish rows. What is kept with a row for a figure, as a mapping, does not."""
    told = {key: conditions[key] for key in keys if not isinstance(conditions.get(key, {}), Mapping)}
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in told.items())
