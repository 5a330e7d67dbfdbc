"""Why a trained model may not leave, read off what was measured of it."""

from collections.abc import Iterator

import pandas as pd

from assay.privacy.unit import NEIGHBOURS
from assay.recipes import Recipe

WITHOUT_PRIVACY = "it was trained without privacy, so nothing bounds what it reveals of a patient (ε = ∞)"
SEEDED = "its noise is seeded, so whoever knows the seed can subtract it; train with noise: entropy"


def objections_to(recipe: Recipe | None, own: pd.DataFrame) -> tuple[str, ...]:
    """Why a model may not leave that was trained privately by a recipe; empty for one that claims no privacy.

    Args:
        own: the rows of its trial.
    """
    if recipe is None or recipe.privacy is None:
        return ()
    seeded = () if recipe.privacy.noise == "entropy" else (SEEDED,)
    return (*seeded, *unclaimed(own))


def unclaimed(own: pd.DataFrame) -> list[str]:
    """Why no ε could be claimed of a private trial; empty if it was."""
    spent = own[own["name"] == "epsilon"]
    if (spent["status"] == "measured").any():
        return []
    return [warning for said in spent["warnings"] for warning in said] or ["its ε was not accounted for"]


def other_neighbours(own: pd.DataFrame) -> Iterator[str]:
    """What is claimed of another neighbouring relation cannot be added up with the rest."""
    claimed = own[(own["name"] == "epsilon") & (own["status"] == "measured")]
    for about in claimed["conditions"]:
        if (about.get("unit"), about.get("neighbours")) not in NEIGHBOURS.items():
            yield (
                f"its ε is of neighbours by {about.get('neighbours')!r}, of unit {about.get('unit')!r}; what adds up "
                f"here is {' or '.join(f'{relation!r}, of unit {unit!r}' for unit, relation in NEIGHBOURS.items())}"
            )
