"""Rows about maps: which methods were measured, and their figures by recipe."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from assay.explain.named_groups import told
from assay.registry import methods
from assay.report.rows import holding, measured, of_recipe, runs_of, select
from assay.report.view import View
from assay.statistics import Summary

PANEL = "panel"
_NOT_A_SETTING = frozenset(
    {
        *("method", "primary", "chosen", "points", "reference", "endpoint", "control"),
        *("replacement", "against", "examples", "tells_of"),
        *("network", "decided_at", "threshold", "evaluation", "group", "holds", "direction", "first", "second"),
    }
)
"""Conditions that are no settings of a method."""


@dataclass(frozen=True, kw_only=True)
class MapMethod:
    """A method with its settings, as it was measured."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    title: str
    """For readers; with the settings where a method was measured with several."""

    def gave(self, conditions: Mapping[str, Any]) -> bool:
        """Returns whether a row is about this method.

        Args:
            conditions: of the row.

        Returns:
            True for its rows.
        """
        return conditions.get("method") == self.name and _settings(conditions) == dict(self.settings)

    def rows(self, frame: pd.DataFrame, name: str, recipe: str, **where: Any) -> pd.DataFrame:
        """Selects the measured rows of a figure about the maps of a recipe.

        Args:
            frame: rows of the cohort.
            name: of the measurement.
            recipe: its name.
            where: conditions, which must be there.

        Returns:
            Some of the rows.
        """
        rows = holding(of_recipe(measured(frame, name), recipe), self.gave)
        return holding(rows, lambda c: all(c.get(key) == wanted for key, wanted in where.items()))

    def summary(self, view: View, name: str, recipe: str, **where: Any) -> Summary | None:
        """Returns mean and interval of a figure over the runs of a recipe.

        Args:
            view: of the cohort.
            name: of the measurement.
            recipe: its name.
            where: conditions, which must be there; None where a condition must not.

        Returns:
            The summary; None where nothing was measured.
        """
        found = runs_of(self.rows(view.frame, name, recipe, **where))
        return view.card.design.summarise(found.runs) if len(found) else None


def map_methods(frame: pd.DataFrame) -> tuple[MapMethod, ...]:
    """Returns every method whose maps were asked for, in the order of the rows.

    Args:
        frame: rows of the cohort.

    Returns:
        The methods.
    """
    found: list[tuple[str, dict[str, Any]]] = []
    for conditions in select(frame, "faithfulness")["conditions"]:
        one = (str(conditions.get("method")), _settings(conditions))
        found += [] if one in found else [one]
    names = [name for name, _ in found]
    return tuple(
        MapMethod(name=name, settings=settings, title=_title(name) + (_told(settings) if names.count(name) > 1 else ""))
        for name, settings in found
    )


def recipe_to_show(view: View) -> str | None:
    """Returns the recipe whose maps are shown in detail: the baseline, or else the first that was measured.

    Args:
        view: of the cohort.

    Returns:
        Its name; None where no map was measured.
    """
    rows = measured(view.frame, "faithfulness")
    known = [recipe for recipe in view.card.recipes if len(of_recipe(rows, recipe))]
    return view.study.baseline if view.study.baseline in known else next(iter(known), None)


def titles_of_controls() -> dict[str, str]:
    """Returns the controls for readers, by name."""
    return {name: str(getattr(kind, "title", name)) for name, kind in methods("explanation_control").items()}


def titles_of_replacements() -> dict[str, str]:
    """Returns the replacements of removed features for readers, by name."""
    return {name: str(getattr(kind, "title", name)) for name, kind in methods("replacement").items()}


@dataclass(frozen=True, kw_only=True)
class Unmeasured:
    """A method that has no map of some recipes."""

    title: str
    recipes: tuple[str, ...]
    why: str


def unmeasured(view: View) -> tuple[Unmeasured, ...]:
    """Returns the methods that have no place between controls and oracle, each with the reason.

    Args:
        view: of the cohort.

    Returns:
        A line for each method and reason.
    """
    return tuple(_unmeasured(view))


def _unmeasured(view: View) -> Iterator[Unmeasured]:
    rows = select(view.frame, "faithfulness")
    missing = rows[(rows["status"] != "measured").to_numpy()]
    for method in map_methods(view.frame):
        by_reason: dict[str, dict[str, None]] = {}
        own = holding(missing, method.gave)
        for recipe, warnings in zip(own["recipe"], own["warnings"], strict=True):
            by_reason.setdefault("; ".join(warnings), {})[str(recipe)] = None
        for why, recipes in by_reason.items():
            yield Unmeasured(title=method.title, recipes=tuple(recipes), why=why)


def _settings(conditions: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in conditions.items() if key not in _NOT_A_SETTING}


def _title(name: str) -> str:
    return str(getattr(methods("explainer").get(name), "title", name.replace("_", " ")))


def _told(settings: Mapping[str, Any]) -> str:
    return "".join(f", {_setting(key, value)}" for key, value in settings.items())


def _setting(key: str, value: Any) -> str:
    return told(value) if key == "groups" else f"{key.replace('_', ' ')} {value}"
