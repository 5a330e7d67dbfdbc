"""Training time of interval bounds against that of PGD-7, and what the certificates are worth.

Both train the same network on the same batches, epoch by epoch in turn. On digits it is the quickstart's recipe from
the first epoch to the last, its schedules included, and what comes out is certified; of ResNet-18 it is a few epochs in
which the bounds are computed from the first step on.
"""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import assay.data
import assay.models
import assay.objectives  # noqa: F401
from assay.data.splits import split
from assay.evaluations.certificates import proven_right
from assay.models.resnet import ResNet18
from assay.objectives.interval_bounds import IntervalBounds
from assay.objectives.pgd import AdversarialPGD
from assay.recipes import Recipe, Training
from assay.registry import build
from assay.study.reading import read_study
from assay.threats import Bounds, Threat
from assay.training.build import build_trainer
from assay.training.loop import Trainer

EPSILON = 0.1
ROUNDS = 4
"""Epochs of ResNet-18; the first is not counted."""
_ON = IntervalBounds(epsilon=EPSILON, warm_up=0.0, ramp=0.001)
_PEER = AdversarialPGD(epsilon=EPSILON, steps=7)


def measure() -> dict[str, Any]:
    """Seconds of training, PGD-7 ÷ interval bounds, and certified accuracy at ε = 0.1."""
    torch.set_num_threads(1)
    small = _on_digits()
    large = _on_images()
    seconds = {"cnn": small["seconds"], "resnet18": large}
    quicker = {name: found["pgd7"] / found["interval_bounds"] for name, found in seconds.items()}
    return {
        "unit": "seconds: of all training of the CNN, and of an epoch of ResNet-18 (median)",
        "seconds": {name: {k: round(v, 3) for k, v in found.items()} for name, found in seconds.items()},
        "interval_over_pgd7": {name: round(1 / value, 3) for name, value in quicker.items()},
        "ratio": {
            **{f"pgd7_over_interval_{name}": round(value, 3) for name, value in quicker.items()},
            "certified_accuracy_digits": round(small["certified_accuracy"], 4),
        },
        "bar": {"pgd7_over_interval_cnn": round(1 / 0.6, 3), "certified_accuracy_digits": 0.5},
    }


def _on_digits() -> dict[str, Any]:
    """The quickstart's CNN and recipe on the first fold: seconds of all epochs, and certified accuracy on its test."""
    quickstart = read_study("quickstart", folder=Path(__file__).parents[2] / "jobs" / "studies")
    cohort = quickstart.cohorts["digits"]
    recipe = cohort.recipes["interval_bounds"]
    digits = build("dataset", "digits").load()
    parts = split(digits, quickstart.split, fold=0, repeat=0, seed=quickstart.seed)
    x, y = torch.from_numpy(digits.x), torch.from_numpy(digits.y)
    trainers = {
        name: build_trainer(
            cohort.model.build_for(digits.form, seed=0),
            one,
            x[parts.train],
            y[parts.train],
            bounds=digits.bounds,
            seed=0,
        )
        for name, one in (("interval_bounds", recipe), ("pgd7", recipe.model_copy(update={"objective": _PEER})))
    }
    seconds = _alternate(trainers, recipe.training.epochs)
    threat = Threat(norm="linf", epsilon=EPSILON, bounds=digits.bounds)
    proven = proven_right(trainers["interval_bounds"].model, x[parts.test], y[parts.test], threat)
    return {
        "seconds": {name: sum(epochs) for name, epochs in seconds.items()},
        "certified_accuracy": float(proven.double().mean()),
    }


def _on_images() -> dict[str, float]:
    """Median seconds of an epoch of two batches in the shape of CIFAR-10, whose content does not change the cost."""
    draw = np.random.default_rng(0)
    x, y = torch.from_numpy(draw.random((64, 3, 32, 32), np.float32)), torch.from_numpy(draw.integers(10, size=64))
    bounds = Bounds(low=torch.zeros(3, 32, 32), high=torch.ones(3, 32, 32))
    training = Training(batch_size=32, learning_rate=1e-4)
    trainers = {
        name: build_trainer(
            ResNet18(stem="small").build((3, 32, 32), 10, seed=0),
            Recipe(objective=objective, training=training),
            x,
            y,
            bounds=bounds,
            seed=0,
        )
        for name, objective in (("interval_bounds", _ON), ("pgd7", _PEER))
    }
    return {name: statistics.median(epochs[1:]) for name, epochs in _alternate(trainers, ROUNDS).items()}


def _alternate(trainers: Mapping[str, Trainer], epochs: int) -> dict[str, list[float]]:
    """Seconds of each epoch, the trainers in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    for _ in range(epochs):
        for name, trainer in trainers.items():
            before = trainer.seconds
            trainer.run(1)
            seconds[name].append(trainer.seconds - before)
    return seconds
