"""Federated training: clients × Dirichlet α × strategy × local epochs."""

from typing import Any

from ray import tune

RECIPE = "fedavg_10_dir_0_5"
"""Recipe of the study to vary: of ``federated_pneumonia``. Local training is by SGD there, as SCAFFOLD needs."""
ASKED = ("accuracy", "cost")
"""Evaluations of every point, from those of the study."""
TESTED = "validation"
"""Records of the evaluations: the best point must not be chosen by test records."""
SAMPLES = 24
"""Points that are drawn where --search asks for draws."""
GOALS = ("accuracy",)
"""Of the front; the first one chooses."""


def space(reference_epsilon: float) -> dict[str, Any]:
    """Returns a grid of 24 points: two numbers of clients, two α, three strategies, two numbers of local epochs.

    The number of rounds, and so of messages, is that of the recipe; four local epochs take four times the work of one.

    Args:
        reference_epsilon: not used.

    Returns:
        Tune distributions by setting.
    """
    return {
        "federation.clients": tune.grid_search([5, 20]),
        "federation.alpha": tune.grid_search([0.1, 0.5]),
        "federation.strategy": tune.grid_search(["fedavg", "fedprox", "scaffold"]),
        "federation.local_epochs": tune.grid_search([1, 4]),
    }
