"""Reasons why a trained model may not be released, read from its measurements."""

from collections.abc import Iterator

import pandas as pd

from assay.privacy.unit import NEIGHBOURS
from assay.recipes import Recipe

WITHOUT_PRIVACY = "it was trained without privacy, so nothing bounds what it reveals of a patient (ε = ∞)"
SEEDED = "its noise is seeded, so whoever knows the seed can subtract it; train with noise: entropy"


def objections_to(recipe: Recipe | None, own: pd.DataFrame) -> tuple[str, ...]:
    """Returns the reasons why a privately trained model may not be released; empty for a recipe without privacy.

    Args:
        recipe: of the model; None for a model that Assay did not train.
        own: rows of its trial.

    Returns:
        Sentences.
    """
    if recipe is None or recipe.privacy is None:
        return ()
    seeded = () if recipe.privacy.noise == "entropy" else (SEEDED,)
    return (*seeded, *unclaimed(own))


def unclaimed(own: pd.DataFrame) -> list[str]:
    """Returns the reasons why no ε could be claimed for a private trial; empty if one was.

    Args:
        own: rows of its trial.

    Returns:
        Sentences.
    """
    spent = own[own["name"] == "epsilon"]
    if (spent["status"] == "measured").any():
        return []
    return [warning for warnings in spent["warnings"] for warning in warnings] or ["its ε was not accounted for"]


def other_neighbours(own: pd.DataFrame) -> Iterator[str]:
    """Returns the ε of a trial that hold for another neighbouring relation, so cannot be added to the rest.

    Args:
        own: rows of the trial.

    Returns:
        Iterator over sentences.
    """
    claimed = own[(own["name"] == "epsilon") & (own["status"] == "measured")]
    for about in claimed["conditions"]:
        if (about.get("unit"), about.get("neighbours")) not in NEIGHBOURS.items():
            yield (
                f"its ε is of neighbours by {about.get('neighbours')!r}, of unit {about.get('unit')!r}; what adds up "
                f"here is {' or '.join(f'{relation!r}, of unit {unit!r}' for unit, relation in NEIGHBOURS.items())}"
            )
