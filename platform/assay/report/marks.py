"""Warnings of a scorecard, each once, with the recipes and columns that it concerns."""

import re
from dataclasses import dataclass, replace

from assay.report.cells import ScoreTable


@dataclass(frozen=True, kw_only=True)
class NumberedWarning:
    """One warning, and where it applies."""

    said: str
    """Its text for the first recipe."""
    figures: tuple[str, ...]
    """Titles of the columns, in the order of the table."""
    recipes: tuple[str, ...]
    first: str = ""
    """The recipe whose numbers the text has."""
    varies: bool = False
    """Whether its numbers differ between recipes."""


def marks(card: ScoreTable) -> list[NumberedWarning]:
    """Returns every warning once: two are the same if they differ only in their numbers.

    Args:
        card: with its cells.

    Returns:
        The warnings.
    """
    found: dict[str, NumberedWarning] = {}
    for column in card.evidence:
        for recipe in card.recipes:
            for said in card.cells[recipe, column.key].warnings:
                key = re.sub(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?", "#", said)
                first = found.setdefault(key, NumberedWarning(said=said, figures=(), recipes=(), first=recipe))
                found[key] = replace(
                    first,
                    figures=tuple(dict.fromkeys((*first.figures, column.title))),
                    recipes=tuple(r for r in card.recipes if r in (*first.recipes, recipe)),
                    varies=first.varies or said != first.said,
                )
    return list(found.values())


def merged(found: list[NumberedWarning]) -> list[NumberedWarning]:
    """Sorts warnings so that those of the same columns and recipes are adjacent.

    Args:
        found: warnings.

    Returns:
        The warnings, sorted.
    """
    return sorted(found, key=lambda mark: (-len(mark.recipes), mark.figures))
