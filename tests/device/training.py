"""Checks of the training loop: plain, adversarial and private, and of the sums of clipped gradients in bfloat16."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F

from assay.privacy.clipping import PerRecordGradients
from assay.recipes import Recipe
from assay.training.build import build_trainer
from tests.device.check import Check, Work
from tests.device.networks import ARCHITECTURES, CLASSES, SMALL, UNIT, network, records

RECIPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "adversarial": {"objective": {"name": "pgd", "epsilon": 0.05, "steps": 3}},
    "private": {"privacy": {"epsilon": 8}},
}
"""Noise is ``seeded``: the same numbers on every device."""


def checks() -> Iterator[Check]:
    """Returns the checks of training.

    Returns:
        Iterator over the checks.
    """
    for name in ARCHITECTURES:
        for recipe in RECIPES:
            yield Check(
                name=f"training · {recipe} · {name}",
                run=partial(train, name, recipe),
                dtype=torch.float64,
                within=1e-6,
                quick=name == "MLP",
                seconds=20 if name not in SMALL else 5,
            )
        for recipe in ("plain", "private"):  # not adversarial: rounding turns the signs of small slopes
            yield Check(
                name=f"training · {recipe} · {name}",
                run=partial(train, name, recipe),
                dtype=torch.float32,
                within=1e-3,
                seconds=10 if name not in SMALL else 5,
            )
    for name in ("X-ray CNN", "MLP", "LSTM"):
        yield Check(
            name=f"clipped gradients · {name}",
            run=partial(clipped_sum, name),
            dtype=torch.bfloat16,
            within=0.05,
            quick=name == "MLP",
        )


def train(name: str, recipe: str, device: torch.device, dtype: torch.dtype) -> Work:
    """Takes a few steps, and returns the weights and losses.

    Args:
        name: of the network.
        recipe: of ``RECIPES``.
        device: trains there.
        dtype: of weights and records.

    Returns:
        Weights, in the order of the state dict.
    """
    batch, n = (32, 192) if name in SMALL else (8, 32)
    asked = Recipe.model_validate(
        {**RECIPES[recipe], "training": {"epochs": 1, "batch_size": batch, "optimizer": "sgd", "learning_rate": 0.05}}
    )
    x, y = records(name, n)
    model = network(name).to(device, dtype)
    trainer = build_trainer(model, asked, x.to(device, dtype), y.to(device), bounds=UNIT, seed=5, classes=CLASSES)
    trainer.run(steps=4)
    trainer.close()
    weights = {key: value for key, value in model.state_dict().items() if value.is_floating_point()}
    loss = torch.tensor(trainer.losses, dtype=torch.float64)
    return Work(values={**weights, "loss": loss}, steps=4, passed=4 * batch)


def clipped_sum(name: str, device: torch.device, dtype: torch.dtype) -> Work:
    """Returns the sum of the clipped gradients of some records; it is at least in float32, whatever the weights are.

    Args:
        name: of the network.
        device: computes there.
        dtype: of weights and records.

    Returns:
        One tensor a parameter.
    """
    x, y = records(name, 16)
    model = network(name).to(device, dtype)
    gradients = PerRecordGradients(model)
    answers = model(x.to(device, dtype))
    found = gradients.clipped_sum(F.cross_entropy(answers, y.to(device), reduction="none"), 0.5)
    gradients.remove()
    names = [key for key, _ in model.named_parameters()]
    assert all(one.dtype in (torch.float32, torch.float64) for one in found)
    return Work(values=dict(zip(names, found, strict=True)), steps=1, passed=16)
