"""How to train for a given budget: ε × learning rate × steps. On data that nobody's privacy hangs on: choosing costs ε.

``jobs/studies/tuning/privacy.yaml`` holds such data, and the commands.
"""

from typing import Any

from ray import tune

RECIPE = "private"
"""The recipe of the study that is varied."""
ASKED = ("accuracy", "cost")
"""The evaluations that are asked of every point, of those that the study asks."""
TESTED = "validation"
"""The records they are asked of: whoever takes the best point must not have looked at the test records."""
SAMPLES = 1
"""Repeats of each point of the grid."""


def space(reference_epsilon: float) -> dict[str, Any]:
    """Three budgets, four learning rates over a decade and a half, two lengths: 24 points."""
    return {
        "privacy.epsilon": tune.grid_search([0.1, 1.0, 8.0]),
        "training.learning_rate": tune.grid_search([0.1, 0.2, 0.5, 1.0]),
        "training.epochs": tune.grid_search([20, 60]),
    }
