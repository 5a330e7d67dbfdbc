"""What training radius and how many steps buy: adversarial training over ε × steps."""

from typing import Any

from ray import tune

RECIPE = "pgd"
"""The recipe of the study that is varied."""
ASKED = ("accuracy", "robustness", "certificates", "cost")
"""The evaluations that are asked of every point, of those that the study asks."""
TESTED = "test"
"""The records they are asked of: this maps a trade-off and chooses nothing."""
SAMPLES = 1
"""Repeats of each point of the grid."""


def space(reference_epsilon: float) -> dict[str, Any]:
    """Six radii around the study's reference radius, four numbers of steps: 24 points."""
    return {
        "objective.epsilon": tune.grid_search(
            [round(reference_epsilon * k, 6) for k in (1 / 6, 1 / 3, 2 / 3, 1, 4 / 3, 2)]
        ),
        "objective.steps": tune.grid_search([1, 3, 7, 14]),
    }
