"""How to train at all: learning rate × batch size × epochs, drawn at random, judged on the validation split."""

from typing import Any

from ray import tune

RECIPE = "standard"
"""The recipe of the study that is varied."""
ASKED = ("accuracy", "robustness", "cost")
"""The evaluations that are asked of every point, of those that the study asks."""
TESTED = "validation"
"""The records they are asked of: the test records stay unseen while settings are chosen."""
SAMPLES = 24
"""Points drawn, the same for the same seed."""


def space(reference_epsilon: float) -> dict[str, Any]:
    """Learning rates over two decades, three batch sizes, three lengths."""
    return {
        "training.learning_rate": tune.loguniform(3e-4, 3e-2),
        "training.batch_size": tune.choice([32, 64, 128]),
        "training.epochs": tune.choice([20, 40, 80]),
    }
