"""What the recipes of a cohort were designed to show together, read off what they are."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

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
    """Poisoned part of the training records."""
    settings: str
    """Settings of the attack, but for its share."""
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


@dataclass(frozen=True, kw_only=True)
class FactorialDesign:
    """Four recipes that differ by two factors, by name."""

    neither: str
    adversarial: str
    private: str
    both: str

    @property
    def recipes(self) -> tuple[str, str, str, str]:
        return self.neither, self.adversarial, self.private, self.both


def factorial_designs(recipes: Mapping[str, Recipe]) -> Iterator[FactorialDesign]:
    """Recipes that are the four combinations of one adversarial objective and one privacy, by what they are.

    The two that are private have all else in common, and so have the two that are not; between the two pairs only the
    settings of training may differ, since private training that is not tuned for privacy says nothing of it.
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
    """Whether it learns from, or bounds its loss over, inputs within a radius."""
    return bool(getattr(recipe.objective, "epsilon", 0.0))


def _differ_by_objective(base: Recipe, other: Recipe) -> bool:
    standard = base.objective.name == "standard"
    return standard and base.model_dump(exclude={"objective"}) == other.model_dump(exclude={"objective"})


def budgets(recipes: Mapping[str, Recipe]) -> Iterator[tuple[str, ...]]:
    """Private recipes, two or more, that differ by ε and by how they train for it, least ε first.

    At the end of each stands the recipe that does the same without privacy, if there is one.
    """
    alike: dict[str, list[str]] = {}
    for name, recipe in recipes.items():
        told = recipe.model_copy(update={"privacy": None}).model_dump_json(exclude={"training"})
        alike.setdefault(told, []).append(name)
    for names in alike.values():
        by_budget = {r.privacy.epsilon: name for name in reversed(names) if (r := recipes[name]).privacy is not None}
        if len(by_budget) > 1:
            plain = [name for name in names if recipes[name].privacy is None]
            yield (*(by_budget[epsilon] for epsilon in sorted(by_budget)), *plain[:1])
