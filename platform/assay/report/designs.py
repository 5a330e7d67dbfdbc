"""Experimental designs of a cohort, derived from its recipes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from assay.recipes import Recipe

NO_DEFENCE = "no defence"

Grid = dict[str, dict[str, dict[float, str]]]
"""Names of recipes by attack, defence and share."""


@dataclass(frozen=True, kw_only=True)
class Poisoned:
    """Attack and defence on the training records of a recipe."""

    attack: str
    """Empty without an attack."""
    share: float
    """Share of the training records that is poisoned."""
    settings: str
    """Settings of the attack, without its share."""
    defence: str


def poisoned(recipe: Recipe) -> Poisoned | None:
    """Returns attack and defence on the training records of a recipe.

    Args:
        recipe: with its treatments of data.

    Returns:
        Both; None where more than one attack changes the records.
    """
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
    """Returns recipes of attacks that were run at two shares or more and differ otherwise only in their defence.

    For each attack these are the recipes that resemble its first one. Share 0 has the recipe with the same defence and
    no attack.

    Args:
        recipes: by name.

    Returns:
        Names of recipes by attack, defence and share.
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


@dataclass(frozen=True, kw_only=True)
class FactorialDesign:
    """Four recipes that differ by two factors, by name."""

    neither: str
    adversarial: str
    private: str
    both: str

    @property
    def recipes(self) -> tuple[str, str, str, str]:
        """The four names."""
        return self.neither, self.adversarial, self.private, self.both


def factorial_designs(recipes: Mapping[str, Recipe]) -> Iterator[FactorialDesign]:
    """Returns the factorial designs of one adversarial objective and one privacy budget.

    The two private recipes are equal otherwise, and so are the two others. Between the two pairs only the settings of
    training may differ, because private training needs settings of its own.

    Args:
        recipes: by name.

    Returns:
        Iterator over designs of four recipes.
    """
    plain, private = ({n: r for n, r in recipes.items() if (r.privacy is None) == open_} for open_ in (True, False))
    for (neither, base), (adversarial, hard) in product(plain.items(), repeat=2):
        if not _adversarial(hard) or not _differ_by_objective(base, hard):
            continue
        for (alone, secret), (both, hard_secret) in product(private.items(), repeat=2):
            pairs = _differ_by_objective(secret, hard_secret) and hard_secret.objective == hard.objective
            if pairs and secret.data == base.data and secret.federation == base.federation:
                yield FactorialDesign(neither=neither, adversarial=adversarial, private=alone, both=both)


def _adversarial(recipe: Recipe) -> bool:
    """Returns whether its objective uses inputs, or bounds of the loss, within a radius."""
    return bool(getattr(recipe.objective, "epsilon", 0.0))


def _differ_by_objective(base: Recipe, other: Recipe) -> bool:
    standard = base.objective.name == "standard"
    return standard and base.model_dump(exclude={"objective"}) == other.model_dump(exclude={"objective"})


def budgets(recipes: Mapping[str, Recipe]) -> Iterator[tuple[str, ...]]:
    """Returns groups of two or more private recipes that differ only in ε and settings of training, by ascending ε.

    Each group ends with the equal recipe without privacy, if there is one.

    Args:
        recipes: by name.

    Returns:
        Iterator over names.
    """
    alike: dict[str, list[str]] = {}
    for name, recipe in recipes.items():
        rest = recipe.model_copy(update={"privacy": None}).model_dump_json(exclude={"training"})
        alike.setdefault(rest, []).append(name)
    for names in alike.values():
        by_budget = {r.privacy.epsilon: name for name in reversed(names) if (r := recipes[name]).privacy is not None}
        if len(by_budget) > 1:
            plain = [name for name in names if recipes[name].privacy is None]
            yield (*(by_budget[epsilon] for epsilon in sorted(by_budget)), *plain[:1])
