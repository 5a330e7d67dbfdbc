"""Concepts that were asked of the networks: scores beside random concepts, and what they mean."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from assay.report.rows import measured, of_recipe, runs_of, select
from assay.report.view import View
from assay.statistics import Summary

SIGNIFICANT = 0.05
"""p, after Holm's correction, below which a concept counts."""


@dataclass(frozen=True, kw_only=True)
class ConceptRow:
    """One concept of one recipe, for one class."""

    recipe: str
    concept: str
    means: str
    """What its examples share."""
    target: str
    """The class that is explained."""
    score: Summary
    random: tuple[float, float]
    """Between which 95 % of the scores of random concepts lie, means over runs."""
    effect: float
    """Mean change of the log-odds where a record moves by the whole vector, to first order; mean over runs."""
    p_holm: float
    """The middle one over runs, after Holm's correction over concepts and classes within a run."""
    runs: int
    """Runs in which it is significant."""
    of: int
    """Runs in which it was measured."""
    n: int
    """Records examined in a run, the fewest."""
    planted: float | None
    """Mean change of the log-odds where the concept is planted into the records, mean over runs; None where it cannot
    be planted."""

    @property
    def counts(self) -> bool:
        """Whether the concept moves the answer more than random concepts do, in most runs."""
        return self.p_holm < SIGNIFICANT

    @property
    def verdict(self) -> str:
        """What the row says, in words."""
        if not self.counts:
            return "not shown to matter"
        away = self.score.mean - 0.5
        return (
            "matters, in no one direction" if away == 0 else f"speaks {'for' if away > 0 else 'against'} {self.target}"
        )


@dataclass(frozen=True, kw_only=True)
class PlantedRow:
    """The change of the answers of one recipe by planting one concept, for one class."""

    recipe: str
    concept: str
    target: str
    change: Summary
    """Of the log-odds."""
    n: int
    """Records examined in a run, the fewest."""


@dataclass(frozen=True, kw_only=True)
class UnmeasuredConcept:
    """A concept that was not measured."""

    concept: str
    recipes: tuple[str, ...]
    why: str


def concept_rows(view: View) -> list[ConceptRow]:
    """Returns every concept that was measured, recipe by recipe.

    Args:
        view: of the cohort.

    Returns:
        The rows.
    """
    planted = {(one.recipe, one.concept, one.target): one.change.mean for one in planted_rows(view)}
    return [
        _row(view, recipe, key, some, planted.get((recipe, *key))) for recipe, key, some in _each(view, "concept_score")
    ]


def planted_rows(view: View) -> list[PlantedRow]:
    """Returns the change by planting of every concept that can be planted, recipe by recipe.

    Args:
        view: of the cohort.

    Returns:
        The rows.
    """
    return [
        PlantedRow(
            recipe=recipe,
            concept=concept,
            target=target,
            change=view.card.design.summarise(runs_of(some).runs),
            n=int(some["n"].min()),
        )
        for recipe, (concept, target), some in _each(view, "concept_change")
    ]


def _each(view: View, name: str) -> Iterator[tuple[str, tuple[str, str], pd.DataFrame]]:
    """Yields the measured rows of each recipe, concept and class."""
    rows = measured(view.frame, name)
    for recipe in view.card.recipes:
        own = of_recipe(rows, recipe)
        places: dict[tuple[str, str], list[int]] = {}
        for place, about in enumerate(own["conditions"]):
            places.setdefault((str(about["concept"]), str(about["class"])), []).append(place)
        for key, some in places.items():
            yield recipe, key, own.iloc[some]


def _row(view: View, recipe: str, key: tuple[str, str], rows: pd.DataFrame, planted: float | None) -> ConceptRow:
    conditions = list(rows["conditions"])
    ps = sorted(float(about["p_holm"]) for about in conditions)
    return ConceptRow(
        recipe=recipe,
        concept=key[0],
        means=str(conditions[0]["means"]),
        target=key[1],
        score=view.card.design.summarise(runs_of(rows).runs),
        random=_mean_ends(conditions),
        effect=float(np.mean([about["effect"] for about in conditions])),
        p_holm=ps[len(ps) // 2],
        runs=sum(p < SIGNIFICANT for p in ps),
        of=len(ps),
        n=int(rows["n"].min()),
        planted=planted,
    )


def _mean_ends(conditions: Sequence[dict[str, float]]) -> tuple[float, float]:
    low, high = (float(np.mean([about[key] for about in conditions])) for key in ("random_low", "random_high"))
    return low, high


def layers(view: View) -> dict[str, list[str]]:
    """Returns the layers at which concepts were measured, each with its recipes; linear ones say so.

    Args:
        view: of the cohort.

    Returns:
        Recipes by layer, in words.
    """
    found: dict[str, list[str]] = {}
    rows = measured(view.frame, "concept_score")
    for recipe, about in zip(rows["recipe"], rows["conditions"], strict=True):
        said = f"{about['layer']}{', behind which the network is linear' if about['linear_behind'] else ''}"
        if str(recipe) not in found.setdefault(said, []):
            found[said].append(str(recipe))
    return found


def unmeasured_concepts(view: View) -> list[UnmeasuredConcept]:
    """Returns the concepts that were not measured, with the reason.

    Args:
        view: of the cohort.

    Returns:
        A line for each concept and reason.
    """
    rows = select(view.frame, "concept_score")
    missing = rows[(rows["status"] != "measured").to_numpy()]
    found: dict[tuple[str, str], list[str]] = {}
    for recipe, about, warnings in zip(missing["recipe"], missing["conditions"], missing["warnings"], strict=True):
        recipes = found.setdefault((str(about.get("concept", "")), "; ".join(warnings)), [])
        recipes += [] if recipe in recipes else [str(recipe)]
    return [UnmeasuredConcept(concept=one, recipes=tuple(some), why=why) for (one, why), some in found.items()]
