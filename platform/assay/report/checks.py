"""Results of checks, for each trial and summarised by rule."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from assay.results import RAISED, Verdict

_ORDER = {"pass": 0, "inconclusive": 1, "warn": 2, "fail": 3}


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """One check in one trial."""

    recipe: str
    rule: str
    trial: str
    figure: float
    message: str
    verdict: Verdict
    concerns: tuple[str, ...]
    """Names of the measurements that it judges."""
    conditions: Mapping[str, Any]
    """The settings at which it was made."""

    def judges(self, name: str, where: Mapping[str, Any]) -> bool:
        """Returns whether it concerns a measurement; a check of one attack or method concerns only that one.

        Args:
            name: of the measurement.
            where: conditions of the measurement.

        Returns:
            True if it does.
        """
        return name in self.concerns and all(
            self.conditions.get(key) in (None, where.get(key)) for key in ("attack", "method", "corruption")
        )


@dataclass(frozen=True, kw_only=True)
class CheckSummary:
    """One rule over the trials of a recipe."""

    recipe: str
    rule: str
    verdict: str
    """The worst verdict."""
    raised: int
    """Trials in which it warned or failed; ``count``: trials in which it was checked."""
    count: int
    figure: float
    """Figure of the worst trial, as is ``message``."""
    message: str


def checks_of(frame: pd.DataFrame) -> list[CheckResult]:
    """Returns every check among rows.

    Args:
        frame: rows of results.

    Returns:
        The checks, in the order of the rows.
    """
    rows = frame[(frame["kind"] == "check").to_numpy(bool)]
    told = ("recipe", "rule", "trial", "value", "warnings", "verdict", "concerns", "conditions")
    return [
        CheckResult(
            recipe=recipe,
            rule=rule,
            trial=trial,
            figure=float(value),
            message=warnings[0],
            verdict=verdict,
            concerns=tuple(concerns),
            conditions=conditions,
        )
        for recipe, rule, trial, value, warnings, verdict, concerns, conditions in zip(
            *(rows[name] for name in told), strict=True
        )
    ]


def sum_up(checks: Iterable[CheckResult]) -> list[CheckSummary]:
    """Summarises checks by recipe and rule, in the order in which they appear.

    Args:
        checks: of several trials.

    Returns:
        One summary for each recipe and rule.
    """
    groups: dict[tuple[str, str], list[CheckResult]] = {}
    for check in checks:
        groups.setdefault((check.recipe, check.rule), []).append(check)
    found = []
    for (recipe, rule), own in groups.items():
        worst = max(own, key=lambda check: (_ORDER[check.verdict], abs(check.figure)))
        found.append(
            CheckSummary(
                recipe=recipe,
                rule=rule,
                verdict=worst.verdict,
                raised=len({check.trial for check in own if check.verdict in RAISED}),
                count=len({check.trial for check in own}),
                figure=worst.figure,
                message=worst.message,
            )
        )
    return found
