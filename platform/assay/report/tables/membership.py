"""The records that are most exposed to membership attacks."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from assay.report.rows import measured, of_recipe, settings
from assay.report.scorecard import Scorecard

_MOST = 10


@dataclass(frozen=True, kw_only=True)
class Exposed:
    """One record of one recipe."""

    position: int
    """Position in the data set as the study loads it, from 0."""
    score: float
    """Greatest score over the trials in which it is among the most exposed."""
    runs: int
    """Number of these trials."""


@dataclass(frozen=True, kw_only=True)
class OfRecipe:
    """The most exposed records of one recipe under one attack."""

    recipe: str
    attack: str
    unit: str
    """Unit of the scores."""
    records: tuple[Exposed, ...]
    runs: int
    """Trials with this measurement."""


def exposed(card: Scorecard, frame: pd.DataFrame) -> list[OfRecipe]:
    """Returns the records with the greatest scores, by recipe and attack.

    Args:
        card: of the cohort.
        frame: rows of the cohort.

    Returns:
        The records; empty where they were not measured.
    """
    rows = measured(frame, "lira_exposed")
    return list(_of_recipes(card, rows))


def _of_recipes(card: Scorecard, rows: pd.DataFrame) -> Iterator[OfRecipe]:
    for recipe in card.recipes:
        for attack in settings(rows, "attack"):
            own = of_recipe(rows[[c["attack"] == attack for c in rows["conditions"]]], recipe)
            if len(own):
                yield OfRecipe(
                    recipe=recipe,
                    attack=str(attack),
                    unit=str(own.iloc[0]["unit"]),
                    records=_greatest(own),
                    runs=len(own),
                )


def _greatest(own: pd.DataFrame) -> tuple[Exposed, ...]:
    """Returns each record once, the greatest score first."""
    scores: dict[int, list[float]] = {}
    for conditions in own["conditions"]:
        for position, score in zip(conditions["records"], conditions["scores"], strict=True):
            scores.setdefault(int(position), []).append(float(score))
    found = [Exposed(position=p, score=max(known), runs=len(known)) for p, known in scores.items()]
    return tuple(sorted(found, key=lambda one: (-one.score, one.position))[:_MOST])
