"""Compares the noise of two trainings, which no audit of one of them can do."""

from assay.evaluations.canary_runs import noise_of_first_epochs
from assay.evaluations.subject import Subject
from assay.privacy.accounting import rdp_epsilon
from assay.privacy.noise_levels import NEGLIGIBLE, between_runs, least_noise, share_in_every_direction
from assay.results import Check, Verdict

_SIGNIFICANCE = 1e-3


def noise_shared(one: Subject, other: Subject) -> Check:
    """Trains the first epochs of two private recipes, each with the noise that it sets, and compares the noise.

    Noise from a seed is the same in all recipes of a fold. This is known, such models are never released, and the check
    warns. Noise from entropy must differ, so there it fails.

    Args:
        one: with a private recipe.
        other: with a private recipe.

    Returns:
        The check.
    """
    assert one.recipe is not None
    assert other.recipe is not None
    privacies = [one.recipe.privacy, other.recipe.privacy]
    (noise, mechanism), (others, _) = noise_of_first_epochs(one), noise_of_first_epochs(other)
    directions = between_runs(noise, others)
    least = least_noise(directions, mechanism, significance=_SIGNIFICANCE)
    verdict: Verdict = "warn"
    figure = 0.0
    if least is None:
        said = "inconclusive: the two trainings have no tensor of one name that is large enough to compare"
    elif least.epsilon <= NEGLIGIBLE * rdp_epsilon(mechanism):
        verdict, figure = "pass", share_in_every_direction(directions, significance=_SIGNIFICANCE)
        said = f"the two trainings draw noise of their own: differences and sums have at least {figure:.3g} of it"
    else:
        figure = least.share
        seeded = any(privacy is not None and privacy.noise == "seeded" for privacy in privacies)
        verdict = "warn" if seeded else "fail"
        said = f"the two trainings share noise: {least.where} has at most {least.share:.3g} of it, so whoever has both "
        said += "subtracts it" + ("; they draw it from one seed, and may not be released" if seeded else "")
    return Check(rule="noise_of_its_own", concerns="epsilon_audited", verdict=verdict, figure=figure, message=said)
