"""Adversarial and private training together: ε of the attack × ε of privacy, several goals at once."""

from typing import Any

from ray import tune

RECIPE = "pgd_dp_eps_8"
"""Recipe of the study to vary."""
ASKED = ("accuracy", "robustness", "privacy", "cost")
"""Evaluations of every point, from those of the study."""
TESTED = "validation"
"""Records of the evaluations: the best point must not be chosen by test records."""
SAMPLES = 48
"""Points that are drawn: four generations of NSGA-II."""
SEARCH = "optuna"
"""How points are proposed, unless --search says otherwise."""
GOALS = ("accuracy", "robust", "epsilon")
"""Of the front; the first one chooses."""


def space(reference_epsilon: float) -> dict[str, Any]:
    """Returns both radii over more than a decade, and the learning rate, on which both depend.

    Args:
        reference_epsilon: radius at which the study reports robustness, in the units of the data.

    Returns:
        Tune distributions by setting.
    """
    return {
        "objective.epsilon": tune.loguniform(reference_epsilon / 6, reference_epsilon * 2),
        "privacy.epsilon": tune.loguniform(0.5, 16.0),
        "training.learning_rate": tune.loguniform(3e-3, 3e-2),
    }
