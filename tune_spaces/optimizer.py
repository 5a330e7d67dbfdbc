"""Optimiser settings: learning rate × batch size × epochs, drawn at random, evaluated on the validation split."""

from typing import Any

from ray import tune

RECIPE = "standard"
"""Recipe of the study to vary."""
ASKED = ("accuracy", "robustness", "cost")
"""Evaluations of every point, from those of the study."""
TESTED = "validation"
"""Records of the evaluations: the test records are not used while settings are chosen."""
SAMPLES = 24
"""Points that are drawn; the same seed gives the same points."""
GOALS = ("accuracy", "robust")
"""Of the front; the first one chooses."""


def space(reference_epsilon: float) -> dict[str, Any]:
    """Returns random learning rates over two decades, with three batch sizes and three numbers of epochs.

    Args:
        reference_epsilon: not used.

    Returns:
        Tune distributions by setting.
    """
    return {
        "training.learning_rate": tune.loguniform(3e-4, 3e-2),
        "training.batch_size": tune.choice([32, 64, 128]),
        "training.epochs": tune.choice([20, 40, 80]),
    }
