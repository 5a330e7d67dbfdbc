"""What the marks of a scorecard say: every warning once, with the recipes and the figures that it concerns."""

import re
from dataclasses import dataclass, replace

from assay.report.cells import ScoreTable


@dataclass(frozen=True, kw_only=True)
class NumberedWarning:
    """One warning, and where it stands."""

    said: str
    """As it stands beside the first recipe."""
    figures: tuple[str, ...]
    """Titles of the columns, in the order of the table."""
    recipes: tuple[str, ...]
    first: str = ""
    """The recipe whose numbers it tells."""
    varies: bool = False
    """Whether its numbers differ from recipe to recipe."""


def marks(card: ScoreTable) -> list[NumberedWarning]:
    """Every warning once: two are the same if they differ by their numbers alone."""
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
    """The same with warnings that concern the same figures and recipes one after the other."""
    return sorted(found, key=lambda mark: (-len(mark.recipes), mark.figures))
