"""What the groups that a study names hold, and their values in the example records."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.evaluations.explanation_examples import may_stand_in_a_report
from assay.report.explained import map_methods, recipe_to_show
from assay.report.rows import measured, of_recipe
from assay.report.view import View


@dataclass(frozen=True, kw_only=True)
class ExampleGroups:
    """Named groups of one example record by one method."""

    answer: str
    method: str
    values: str
    """Signed values by group, the greatest first."""
    interactions: str
    """The pairs with the greatest interactions; empty where there are none."""


_PAIRS = 3
"""Interactions that are named for a record."""


def holdings(view: View) -> list[tuple[str, str]]:
    """Returns each named group with what it holds, but for single columns.

    Args:
        view: of the cohort.

    Returns:
        Names and texts, each once, in the order of the rows; groups of two methods may share a name.
    """
    rows = of_recipe(measured(view.frame, "group_value"), recipe_to_show(view) or "")
    each = dict.fromkeys((str(about["group"]), str(about["holds"])) for about in rows["conditions"])
    return [(name, held) for name, held in each if name != held]


def example_groups(view: View) -> list[ExampleGroups]:
    """Returns the values of named groups in the example records of the first run of one recipe.

    Args:
        view: of the cohort.

    Returns:
        The rows, record by record; none unless everybody may publish records of the data set.
    """
    recipe = recipe_to_show(view)
    rows = of_recipe(measured(view.frame, "explanation_examples"), recipe or "")
    if not len(rows) or not may_stand_in_a_report(view.dataset):
        return []
    first = rows.sort_values(["repeat", "fold"], kind="stable")
    place = first[["repeat", "fold"]].iloc[0]
    own = first[((first["repeat"] == place["repeat"]) & (first["fold"] == place["fold"])).to_numpy()]
    found: list[tuple[int, ExampleGroups]] = []
    for method in map_methods(view.frame):
        for about in own["conditions"]:
            if method.gave(about) and "groups" in about["examples"]:
                found += list(enumerate(_rows(about["examples"], method.title)))
    return [one for _, one in sorted(found, key=lambda pair: pair[0])]


def _rows(kept: Mapping[str, Any], title: str) -> list[ExampleGroups]:
    groups = kept["groups"]
    names, found = groups["names"], []
    for record, values in enumerate(groups["values"]):
        right = "right" if kept["right"][record] else f"wrong, true is {kept['true'][record]}"
        order = np.argsort(-np.abs(values), kind="stable")
        pairs = groups.get("interactions")
        found.append(
            ExampleGroups(
                answer=f"{record + 1}: {kept['predicted'][record]} ({right})",
                method=title,
                values=", ".join(f"{names[k]} {_signed(values[k])}" for k in order),
                interactions="" if pairs is None else _strongest(names, np.array(pairs[record])),
            )
        )
    return found


def _strongest(names: list[str], values: np.ndarray) -> str:
    first, second = np.triu_indices(len(names), k=1)
    order = np.argsort(-np.abs(values[first, second]), kind="stable")[:_PAIRS]
    return ", ".join(f"{names[first[k]]} × {names[second[k]]} {_signed(values[first[k], second[k]])}" for k in order)


def _signed(value: float) -> str:
    return f"{value:+.2g}".replace("-", "−")
