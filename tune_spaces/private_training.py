"""Settings of private training: ε × learning rate × epochs, on data that need no privacy, because choosing costs ε.

``jobs/studies/tuning/privacy.yaml`` contains such data, and the commands.
"""

from typing import Any

from ray import tune

RECIPE = "private"
"""Recipe of the study to vary."""
ASKED = ("accuracy", "cost")
"""Evaluations of every point, from those of the study."""
TESTED = "validation"
"""Records of the evaluations: the best point must not be chosen by test records."""
SAMPLES = 24
"""Points that are drawn where --search asks for draws."""
GOALS = ("accuracy",)
"""Of the front; the first one chooses."""


def space(reference_epsilon: float) -> dict[str, Any]:
    """Returns a grid of 24 points: three ε, four learning rates, two numbers of epochs.

    Args:
        reference_epsilon: not used.

    Returns:
        Tune distributions by setting.
    """
    return {
        "privacy.epsilon": tune.grid_search([0.1, 1.0, 8.0]),
        "training.learning_rate": tune.grid_search([0.1, 0.2, 0.5, 1.0]),
        "training.epochs": tune.grid_search([20, 60]),
    }
