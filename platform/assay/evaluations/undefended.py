"""A defence is scored on an attack that works: what a poisoned recipe comes to without its defences."""

from collections.abc import Callable
from dataclasses import replace

from assay.evaluations.base import Subject
from assay.recipes import Recipe
from assay.results import Check, Finding, Measurement, not_applicable


def undefended(
    subject: Subject, success: Measurement, measure: Callable[[Subject], Measurement], *, least: float, train: bool
) -> list[Finding]:
    """The success of an attack without a defence, as ``undefended_…``, and whether a defence can be scored on it.

    A defended recipe is trained once more without its defences, on records that are poisoned as the trial's are.

    Args:
        success: of the attack on the subject, whose recipe is known.
        measure: the same measurement of another subject.
        least: success without a defence below which a defence that stops the attack has shown nothing.
        train: whether to train again.
    """
    assert subject.recipe is not None
    name, about = f"undefended_{success.name}", success.conditions
    if not any(treatment.defends for treatment in subject.recipe.data):
        return [replace(success, name=name), _works(success, success.value, least, defended=False)]
    if not train:
        return [not_applicable(name, "undefended is false: the recipe was not trained without defences", **about)]
    if subject.train is None:
        return [not_applicable(name, "nothing can be trained here", **about)]
    recipe = _without_defences(subject.recipe)
    model = subject.train(subject.split.train, "", recipe).to(subject.device).eval()
    found = replace(measure(replace(subject, model=model, recipe=recipe)), name=name)
    if subject.recipe.federation is not None:
        found = found.warn("trained on all records in one place, not at the recipe's clients")
    return [found, _works(success, found.value, least, defended=True)]


def _without_defences(recipe: Recipe) -> Recipe:
    """The recipe as ``Subject.train`` trains it, which is in one place, and without its defences."""
    attacked = tuple(treatment for treatment in recipe.data if not treatment.defends)
    return recipe.model_copy(update={"data": attacked, "federation": None})


def _works(success: Measurement, value: float, least: float, *, defended: bool) -> Check:
    weak = value < least
    return Check(
        rule=f"{success.name.removesuffix('_success')}_works",
        concerns=success.name,
        verdict="pass" if not weak else "fail" if defended else "warn",
        figure=value,
        message=f"undefended, the attack succeeds on {value:.1%} of {success.n} records (limit {least:.0%}): "
        + ("it shows nothing of a defence" if weak else "a defence can be scored on it"),
    )
