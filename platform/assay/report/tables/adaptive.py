"""Worst cases with and without adaptive attacks, where a check did not pass."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from assay.report.checks import checks_of, sum_up
from assay.report.rows import measured, of_recipe, runs_of, settings, shared
from assay.report.scorecard import Scorecard
from assay.results import RAISED
from assay.statistics import Summary

_BEFORE, _AFTER = "worst_case_before_adaptive", "worst_case_accuracy"
_CONCERNED = {"worst_case_accuracy", "robust_accuracy"}
_NO_SUSPICION = {"adaptive_answer", "answers_one_class", "answers_tell_classes", "constant_answer"}
"""Rules that adaptive attacks cannot test, because they do not concern the attacks."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One recipe at one radius."""

    recipe: str
    epsilon: float
    rules: tuple[str, ...]
    """The checks of robustness that did not pass, in words."""
    before: Summary | None = None
    """Worst case under the attacks that were asked for; None where no adaptive attack was run."""
    after: Summary | None = None
    """The same with the adaptive attacks, on the same folds or seeds."""
    runs: int = 0
    """Folds or seeds in which an adaptive attack was run."""
    attacks: Mapping[str, Summary] = field(default_factory=dict)
    """Accuracy under each adaptive attack alone."""


def adaptive(card: Scorecard, frame: pd.DataFrame) -> list[Answered]:
    """Returns the recipes with adaptive attacks, at the scorecard's radius, or else at every measured radius above 0.

    A recipe whose checks did not pass, but without adaptive attacks, has a row without values.

    Args:
        card: of the cohort.
        frame: rows of the cohort.

    Returns:
        The rows; empty without any adaptive attack.
    """
    before = measured(frame, _BEFORE)
    radii = [epsilon for epsilon in sorted(settings(before, "epsilon")) if epsilon > 0]
    radii = [card.reference_epsilon] if card.reference_epsilon in radii else radii
    found = []
    for recipe in card.recipes if len(before) else ():
        rules, own = _raised(of_recipe(frame, recipe)), of_recipe(before, recipe)
        answered = [_answered(card, of_recipe(frame, recipe), recipe, epsilon, rules) for epsilon in radii]
        if len(own):
            found += [one for one in answered if one is not None]
        elif rules:
            found.append(Answered(recipe=recipe, epsilon=card.reference_epsilon, rules=rules))
    return found


def _answered(
    card: Scorecard, own: pd.DataFrame, recipe: str, epsilon: float, rules: tuple[str, ...]
) -> Answered | None:
    """Returns both values on the runs that have both; None where there are none.

    Args:
        own: rows of the recipe.
    """
    before = measured(own, _BEFORE, epsilon=epsilon)
    after = measured(own, _AFTER, epsilon=epsilon)
    one, other = runs_of(before), runs_of(after)
    places = shared((one, other))
    if not places:
        return None
    asked, ran = _labels(before), _labels(after)
    return Answered(
        recipe=recipe,
        epsilon=epsilon,
        rules=rules,
        before=card.design.summarise(one.at(places)),
        after=card.design.summarise(other.at(places)),
        runs=len(places),
        attacks={
            attack: card.design.summarise(runs_of(rows).runs)
            for attack in ran
            if attack not in asked and len(rows := measured(own, "robust_accuracy", attack=attack, epsilon=epsilon))
        },
    )


def _raised(own: pd.DataFrame) -> tuple[str, ...]:
    """Returns the rules of robustness that did not pass in some trial."""
    of_attacks = [check for check in checks_of(own) if _CONCERNED & {*check.concerns}]
    raised = [check.rule for check in sum_up(of_attacks) if check.verdict in RAISED]
    return tuple(rule.replace("_", " ") for rule in raised if rule not in _NO_SUSPICION)


def _labels(rows: pd.DataFrame) -> list[str]:
    """Returns the names of the attacks of a worst case, over all runs."""
    return list(dict.fromkeys(label for c in rows["conditions"] for label in c.get("attacks", ())))
