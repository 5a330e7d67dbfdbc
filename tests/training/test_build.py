"""A trainer has the hooks that its recipe asks for, in the order in which they must run."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError
from torch import Tensor, nn

from assay.recipes import Privacy, Recipe, Training
from assay.threats import Bounds
from assay.training.build import build_trainer
from assay.training.hooks.base import Hook

Blobs = Callable[..., tuple[Tensor, Tensor]]
Network = Callable[..., nn.Module]

STOPPING = {"epsilon": 0.1}
WATCHED = {"name": "fast", "epsilon": 0.1}


class Mine(Hook):
    name = "mine"


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ({}, []),
        ({"objective": {**WATCHED, "watch": None}}, []),
        ({"objective": WATCHED}, ["overfitting_guard"]),
        ({"training": {"averaging": 0.9}}, ["averaging"]),
        ({"training": {"early_stopping": STOPPING}}, ["early_stopping"]),
        ({"training": {"averaging": 0.9}, "privacy": Privacy(epsilon=8.0)}, ["averaging"]),
        (
            {"objective": WATCHED, "training": {"averaging": 0.9, "early_stopping": STOPPING}},
            ["averaging", "overfitting_guard", "early_stopping"],
        ),
    ],
)
@pytest.mark.usefixtures("given_noise")
def test_a_trainer_has_the_hooks_of_its_recipe_and_then_those_it_is_given(
    choices: dict[str, Any], expected: list[str], blobs: Blobs, network: Network, blob_bounds: Bounds
) -> None:
    trainer = build_trainer(
        network(),
        Recipe(**choices),
        *blobs(20),
        bounds=blob_bounds,
        seed=1,
        validation=blobs(10),
        hooks=[Mine()],
    )
    assert [hook.name for hook in trainer.hooks] == [*expected, "mine"]


@pytest.mark.parametrize(
    "choices",
    [{"objective": WATCHED}, {"training": Training(early_stopping=STOPPING)}],
    ids=["watch", "early stopping"],
)
def test_hooks_that_look_at_records_are_refused_with_privacy(choices: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="no ε pays for"):
        Recipe(privacy=Privacy(epsilon=8.0), **choices)
