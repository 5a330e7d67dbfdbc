"""Size of the network × learning rate: settings of the model, whose artefacts each have an identity of their own."""

from typing import Any

from ray import tune

RECIPE = "standard"
"""Recipe of the study to vary."""
ASKED = ("accuracy", "robustness", "cost")
"""Evaluations of every point, from those of the study."""
TESTED = "validation"
"""Records of the evaluations: the best point must not be chosen by test records."""
SAMPLES = 24
"""Points that are drawn where --search asks for draws."""
GOALS = ("accuracy", "robust", "cost")
"""Of the front; the first one chooses."""
SIZES: dict[str, dict[str, list[Any]]] = {
    "mlp": {"model.hidden": [[], [16], [64], [64, 32], [128, 64], [256, 128, 64]]},
    "cnn": {"model.channels": [[8, 8], [16, 16], [32, 32]], "model.hidden": [32, 128]},
    "lstm": {"model.hidden": [8, 16, 32, 64, 128, 256]},
}
"""Sizes of each kind of network, by setting: six of each."""


def space(reference_epsilon: float, *, model: str = "mlp") -> dict[str, Any]:
    """Returns a grid of 24 points: six sizes of the cohort's kind of network, four learning rates.

    Args:
        reference_epsilon: not used.
        model: name of the cohort's kind of network.

    Returns:
        Tune distributions by setting.
    """
    sizes = {key: tune.grid_search(values) for key, values in SIZES.get(model, {}).items()}
    return {**sizes, "training.learning_rate": tune.grid_search([0.001, 0.003, 0.01, 0.03])}
