"""What privacy costs and how to pay less for it: ε × clipping norm × batch size × learning rate."""

from typing import Any

from ray import tune

RECIPE = "dp_eps_1"
"""The recipe of the study that is varied."""
ASKED = ("accuracy", "robustness", "privacy", "cost")
"""The evaluations that are asked of every point, of those that the study asks."""
TESTED = "validation"
"""The records they are asked of: whoever takes the best point must not have looked at the test records."""
SAMPLES = 1
"""Repeats of each point of the grid."""


def space(reference_epsilon: float) -> dict[str, Any]:
    """Three budgets, two clipping norms, two expected batch sizes, two learning rates: 24 points."""
    return {
        "privacy.epsilon": tune.grid_search([0.5, 2.0, 8.0]),
        "privacy.max_grad_norm": tune.grid_search([0.3, 1.0]),
        "training.batch_size": tune.grid_search([96, 192]),
        "training.learning_rate": tune.grid_search([0.003, 0.01]),
    }
