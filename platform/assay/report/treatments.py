"""How the recipes of a cohort attack and defend their training records."""

from collections.abc import Mapping
from dataclasses import dataclass

from assay.recipes import Recipe

NO_DEFENCE = "no defence"

Grid = dict[str, dict[str, dict[float, str]]]
"""Names of recipes by attack, defence and share."""


@dataclass(frozen=True, kw_only=True)
class Poisoned:
    """What was done to the training records of a recipe."""

    attack: str
    """Empty where nobody attacks."""
    share: float
    """Of the training records that is poisoned."""
    settings: str
    """Of the attack, but for its share."""
    defence: str


def poisoned(recipe: Recipe) -> Poisoned | None:
    """What was done to the training records; None where more than one attack writes into them."""
    attacks = [treatment for treatment in recipe.data if treatment.treats and not treatment.defends]
    defences = [treatment.name.replace("_", " ") for treatment in recipe.data if treatment.defends]
    defence = ", ".join(defences) or NO_DEFENCE
    if not attacks:
        return Poisoned(attack="", share=0.0, settings="", defence=defence)
    attack, share = attacks[0], getattr(attacks[0], "share", None)
    if len(attacks) > 1 or share is None:
        return None
    settings = attack.model_dump_json(exclude={"name", "share"})
    return Poisoned(attack=attack.name, share=float(share), settings=settings, defence=defence)


def grid(recipes: Mapping[str, Recipe]) -> Grid:
    """Recipes of attacks that were run at two shares or more and are alike in all else but their defence.

    Of each attack, those that are like the first. At share 0 stands the recipe that has the same defence and nothing to
    defend against.
    """
    plain: dict[tuple[str, str], str] = {}
    found: Grid = {}
    first: dict[str, tuple[str, str]] = {}
    for name, recipe in recipes.items():
        about, rest = poisoned(recipe), recipe.model_dump_json(exclude={"data"})
        if about is None:
            continue
        if not about.attack:
            plain.setdefault((about.defence, rest), name)
        elif first.setdefault(about.attack, (rest, about.settings)) == (rest, about.settings):
            found.setdefault(about.attack, {}).setdefault(about.defence, {}).setdefault(about.share, name)
    several = {a: lines for a, lines in found.items() if len({share for own in lines.values() for share in own}) > 1}
    for attack, lines in several.items():
        for defence, own in lines.items():
            if (defence, first[attack][0]) in plain:
                own[0.0] = plain[defence, first[attack][0]]
    return several
