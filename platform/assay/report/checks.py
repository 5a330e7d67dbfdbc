"""What the checks of a cohort's trials said, rule by rule."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

_ORDER = {"pass": 0, "warn": 1, "fail": 2}


@dataclass(frozen=True, kw_only=True)
class Said:
    """One check in one trial."""

    recipe: str
    rule: str
    trial: str
    figure: float
    message: str
    conditions: Mapping[str, Any]
    """What it concerns, its verdict, and the settings at which it looked."""


@dataclass(frozen=True, kw_only=True)
class SummedUp:
    """One rule over the trials of a recipe."""

    recipe: str
    rule: str
    verdict: str
    """The worst."""
    raised: int
    """Trials in which it did not pass; ``count``: in which it was checked."""
    count: int
    figure: float
    """Figure of the worst trial, as is ``message``."""
    message: str


def concerned(conditions: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the measurements that a check concerns, read off its row."""
    names = conditions.get("concerns", ())
    return (names,) if isinstance(names, str) else tuple(names)


def checks_of(frame: pd.DataFrame) -> list[Said]:
    """Every check among the rows."""
    rows = frame[frame["name"].str.startswith("check.").to_numpy(bool)]
    columns = [rows[name] for name in ("recipe", "name", "trial", "value", "warnings", "conditions")]
    return [
        Said(
            recipe=recipe,
            rule=name.removeprefix("check."),
            trial=trial,
            figure=float(value),
            message=warnings[0],
            conditions=conditions,
        )
        for recipe, name, trial, value, warnings, conditions in zip(*columns, strict=True)
    ]


def sum_up(checks: Iterable[Said]) -> list[SummedUp]:
    """Each recipe and rule once, in the order in which they appear."""
    groups: dict[tuple[str, str], list[Said]] = {}
    for check in checks:
        groups.setdefault((check.recipe, check.rule), []).append(check)
    found = []
    for (recipe, rule), own in groups.items():
        worst = max(own, key=lambda check: (_ORDER[check.conditions["verdict"]], abs(check.figure)))
        found.append(
            SummedUp(
                recipe=recipe,
                rule=rule,
                verdict=worst.conditions["verdict"],
                raised=len({check.trial for check in own if check.conditions["verdict"] != "pass"}),
                count=len({check.trial for check in own}),
                figure=worst.figure,
                message=worst.message,
            )
        )
    return found
