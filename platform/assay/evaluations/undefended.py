"""Scores a defence only on an attack that works without it."""

from collections.abc import Callable
from dataclasses import replace

from assay.evaluations.subject import Subject
from assay.recipes import Recipe
from assay.results import Check, Finding, Measurement, ReasonCode, not_applicable

_REMOVAL = ("sanitation_precision", "sanitation_recall")
"""Other measurements that score a defence that removes records."""

MeasureRate = Callable[[Subject], Measurement]
"""Takes the same measurement of another subject."""


def scored(
    subject: Subject,
    success: Measurement,
    measure: MeasureRate,
    *,
    least: float,
    train: bool,
    base_rate: MeasureRate | None = None,
) -> list[Finding]:
    """Returns the success of an attack with and without a defence; it must succeed without one.

    A recipe with defences is trained once more without them, on records that are poisoned as the trial's are. Where the
    attack is too weak there, the success on the defended recipe is abstained from.

    Args:
        subject: with a recipe.
        success: of the attack on the subject.
        measure: the same measurement of another subject.
        least: success without a defence below which nothing is known about a defence.
        train: whether to train again.
        base_rate: of the same records on a model that was not attacked; it is subtracted from the success of the
            attack. None for no subtraction.

    Returns:
        The measurements and a check.
    """
    assert subject.recipe is not None
    defended, name = any(treatment.defends for treatment in subject.recipe.data), f"undefended_{success.name}"
    twin, alone = subject, replace(success, name=name)
    if defended:
        if why := why_no_twin(subject, train=train):
            alone = not_applicable(name, why, reason=reason_for_no_twin(train=train), **success.conditions)
        else:
            twin = _without_defences(subject)
            alone = _with_place(subject.recipe, replace(measure(twin), name=name))
    rates = [] if base_rate is None else [base_rate(twin)]
    if any(row.status != "measured" for row in (alone, *rates)):
        return [success, alone, *rates]
    figure = alone.value - sum(rate.value for rate in rates)
    checks = _works(subject.recipe, success, alone, rates, figure=figure, least=least)
    return [_abstained(success, alone, least) if defended and figure < least else success, alone, *rates, *checks]


def why_no_twin(subject: Subject, *, train: bool) -> str:
    """Returns why no twin is trained.

    Args:
        subject: with its recipe.
        train: whether the setting asks for one.

    Returns:
        A reason; empty where one can be trained.
    """
    if not train:
        return "undefended is false: no twin of the recipe was trained"
    return "nothing can be trained here" if subject.train is None else ""


def reason_for_no_twin(*, train: bool) -> ReasonCode:
    """Returns the reason as a code.

    Args:
        train: whether the setting asks for a twin.

    Returns:
        The code.
    """
    return "not_trained_here" if train else "not_asked"


def twins(kind: str, plain: int, defended: int) -> str:
    """Describes the cost of twins.

    Args:
        kind: of attack.
        plain: additional trainings of a recipe with an attack only.
        defended: additional trainings of a recipe with an attack and a defence.

    Returns:
        A text.
    """
    costs = [f"{plain} more training of a recipe with a {kind} alone"] if plain else []
    plural = "s" if defended > 1 else ""
    costs.append(f"{defended} more training{plural} of a recipe with a {kind} and a defence")
    return f"{kind}: {', '.join(costs)}; undefended: false spares them"


def _without_defences(subject: Subject) -> Subject:
    """Returns the subject that the recipe gives without its defences and, if federated, trained centrally."""
    assert subject.recipe is not None and subject.train is not None
    attacked = tuple(treatment for treatment in subject.recipe.data if not treatment.defends)
    recipe = subject.recipe.model_copy(update={"data": attacked, "federation": None})
    model = subject.train(subject.split.train, "", recipe).to(subject.device).eval()
    return replace(subject, model=model, recipe=recipe)


def _with_place(recipe: Recipe, found: Measurement) -> Measurement:
    if recipe.federation is None:
        return found
    return found.warn("trained on all records in one place, not at the recipe's clients")


def _abstained(success: Measurement, alone: Measurement, least: float) -> Measurement:
    """Returns an abstained score of a defence. Both figures are conditions, so that all trials share one warning."""
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
    """Checks whether the attack works without a defence, for its success and the scores of a removal."""
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
