"""A defence is scored on an attack that works: what a poisoned recipe comes to without its defences."""

from collections.abc import Callable
from dataclasses import replace

from assay.evaluations.base import Subject
from assay.recipes import Recipe
from assay.results import Check, Finding, Measurement, ReasonCode, not_applicable

_REMOVAL = ("sanitation_precision", "sanitation_recall")
"""What else scores a defence that removes records, whoever measures it."""

MeasureRate = Callable[[Subject], Measurement]
"""The same measurement of another subject."""


def scored(
    subject: Subject,
    success: Measurement,
    measure: MeasureRate,
    *,
    least: float,
    train: bool,
    base_rate: MeasureRate | None = None,
) -> list[Finding]:
    """The success of an attack, and without a defence as ``undefended_…``: whether a defence can be scored on it.

    A defended recipe is trained once more without its defences, on records that are poisoned as the trial's are. Where
    that attack falls short, the success of the defended recipe is abstained from.

    Args:
        success: of the attack on the subject, whose recipe is known.
        measure: the same measurement of another subject.
        least: success without a defence below which a defence that stops the attack has shown nothing.
        train: whether to train again.
        base_rate: of the same records on a model that was not attacked, beside the undefended one; it counts against
            the attack. Without one the success counts as it is.
    """
    assert subject.recipe is not None
    defended, name = any(treatment.defends for treatment in subject.recipe.data), f"undefended_{success.name}"
    twin, alone = subject, replace(success, name=name)
    if defended:
        if why := why_no_twin(subject, train=train):
            alone = not_applicable(name, why, reason=reason_for_no_twin(train=train), **success.conditions)
        else:
            twin = _without_defences(subject)
            alone = _told_where(subject.recipe, replace(measure(twin), name=name))
    rates = [] if base_rate is None else [base_rate(twin)]
    if any(row.status != "measured" for row in (alone, *rates)):
        return [success, alone, *rates]
    figure = alone.value - sum(rate.value for rate in rates)
    checks = _works(subject.recipe, success, alone, rates, figure=figure, least=least)
    return [_abstained(success, alone, least) if defended and figure < least else success, alone, *rates, *checks]


def why_no_twin(subject: Subject, *, train: bool) -> str:
    """Why nothing is trained again; empty where it can be."""
    if not train:
        return "undefended is false: no twin of the recipe was trained"
    return "nothing can be trained here" if subject.train is None else ""


def reason_for_no_twin(*, train: bool) -> ReasonCode:
    """The same as a code."""
    return "not_trained_here" if train else "not_asked"


def twins(kind: str, plain: int, defended: int) -> str:
    """What the twins cost, in words.

    Args:
        plain: trainings more of a recipe that is attacked; ``defended``, of one that has a defence too.
    """
    costs = [f"{plain} more training of a recipe with a {kind} alone"] if plain else []
    plural = "s" if defended > 1 else ""
    costs.append(f"{defended} more training{plural} of a recipe with a {kind} and a defence")
    return f"{kind}: {', '.join(costs)}; undefended: false spares them"


def _without_defences(subject: Subject) -> Subject:
    """The subject that the recipe comes to in one place, as ``Subject.train`` trains it, and without its defences."""
    assert subject.recipe is not None and subject.train is not None
    attacked = tuple(treatment for treatment in subject.recipe.data if not treatment.defends)
    recipe = subject.recipe.model_copy(update={"data": attacked, "federation": None})
    model = subject.train(subject.split.train, "", recipe).to(subject.device).eval()
    return replace(subject, model=model, recipe=recipe)


def _told_where(recipe: Recipe, found: Measurement) -> Measurement:
    if recipe.federation is None:
        return found
    return found.warn("trained on all records in one place, not at the recipe's clients")


def _abstained(success: Measurement, alone: Measurement, least: float) -> Measurement:
    """No score of a defence. Both figures stand in the conditions: told in words, each trial would say another line."""
    why = f"without its defences the attack falls short of {least:.0%}, so nothing is known of the defence"
    return Measurement(
        name=success.name,
        status="abstained",
        reason="inconclusive",
        n=success.n,
        conditions={**success.conditions, "undefended": alone.value, "defended": success.value},
        warnings=(why, *success.warnings),
    )


def _works(
    recipe: Recipe, success: Measurement, alone: Measurement, rates: list[Measurement], *, figure: float, least: float
) -> list[Check]:
    """Whether the attack works without a defence, beside its success and beside what scores a removal of records."""
    defences = [treatment for treatment in recipe.data if treatment.defends]
    weak = figure < least
    honest = "".join(f", {rate.value:.1%} of them without the attack" for rate in rates)
    return [
        Check(
            rule=f"{success.name.removesuffix('_success')}_works",
            concerns=concerned,
            verdict="pass" if not weak else "fail" if defences else "warn",
            figure=figure,
            message=f"undefended, the attack succeeds on {alone.value:.1%} of {alone.n} records{honest} "
            f"(limit {least:.0%}): " + ("it shows nothing of a defence" if weak else "a defence can be scored on it"),
        )
        for concerned in (success.name, *(_REMOVAL if any(defence.treats for defence in defences) else ()))
    ]
