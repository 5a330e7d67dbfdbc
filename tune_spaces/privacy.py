"""Private training: ε × clipping norm × batch size × learning rate."""

from typing import Any

from ray import tune

RECIPE = "dp_eps_1"
"""Recipe of the study to vary."""
ASKED = ("accuracy", "robustness", "privacy", "cost")
"""Evaluations of every point, from those of the study."""
TESTED = "validation"
"""Records of the evaluations: the best point must not be chosen by test records."""
SAMPLES = 24
"""Points that are drawn where --search asks for draws."""
GOALS = ("accuracy", "robust", "epsilon")
"""Of the front; the first one chooses."""


def space(reference_epsilon: float) -> dict[str, Any]:
    """Returns a grid of 24 points: three ε, two clipping norms, two expected batch sizes, two learning rates.

    Args:
        reference_epsilon: not used.

    Returns:
        Tune distributions by setting.
    """
    return {
        "privacy.epsilon": tune.grid_search([0.5, 2.0, 8.0]),
        "privacy.max_grad_norm": tune.grid_search([0.3, 1.0]),
        "training.batch_size": tune.grid_search([96, 192]),
        "training.learning_rate": tune.grid_search([0.003, 0.01]),
    }
