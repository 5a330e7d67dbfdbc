"""Adversarial training: training radius ε × number of steps."""

from typing import Any

from ray import tune

RECIPE = "pgd"
"""Recipe of the study to vary."""
ASKED = ("accuracy", "robustness", "certificates", "cost")
"""Evaluations of every point, from those of the study."""
TESTED = "test"
"""Records of the evaluations: the sweep shows a trade-off, and nothing is chosen by it."""
SAMPLES = 24
"""Points that are drawn where --search asks for draws."""
GOALS = ("accuracy", "robust")
"""Of the front; nothing is chosen by them."""


def space(reference_epsilon: float) -> dict[str, Any]:
    """Returns a grid of 24 points: six radii around the study's reference radius, and four numbers of steps.

    Args:
        reference_epsilon: radius at which the study reports robustness, in the units of the data.

    Returns:
        Tune distributions by setting.
    """
    return {
        "objective.epsilon": tune.grid_search(
            [round(reference_epsilon * k, 6) for k in (1 / 6, 1 / 3, 2 / 3, 1, 4 / 3, 2)]
        ),
        "objective.steps": tune.grid_search([1, 3, 7, 14]),
    }
