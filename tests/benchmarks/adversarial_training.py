"""Fast adversarial training, its watch included, against PGD-7 training: time, and robust accuracy on test records.

The X-ray network and the same epochs for all, one epoch of each in turn, so that a machine that slows down slows all of
them. For information, a plain loop over the PGD of torchattacks stands beside: the same steps on the same batches.
"""

import time
from collections.abc import Callable, Iterator
from statistics import mean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import assay.attacks
import assay.data
import assay.models
import assay.objectives  # noqa: F401
from assay.attacks.pgd import PGD
from assay.data.base import Dataset
from assay.privacy.plan import steps_per_epoch
from assay.recipes import Recipe, Training
from assay.registry import build
from assay.threats import Threat
from assay.training.build import build_trainer
from assay.training.update import PlainUpdate

EPSILON = 8 / 255
STEPS = 7
SEEDS = (0, 1)
TRAINING = Training(epochs=8, batch_size=64, learning_rate=1e-3, schedule="cosine")
OBJECTIVES = {
    "fast": {"name": "fast", "epsilon": EPSILON},
    "pgd": {"name": "pgd", "epsilon": EPSILON, "steps": STEPS},
}


def measure() -> dict[str, Any]:
    """Seconds of training and robust accuracy of each, and what the watch of fast training had to say."""
    torch.set_num_threads(1)
    dataset = build("dataset", "pneumoniamnist").load()
    runs = [_run(dataset, seed) for seed in SEEDS]
    found = {
        name: {
            "seconds": round(mean(run[name]["seconds"] for run in runs), 1),
            "accuracy": round(mean(run[name]["accuracy"] for run in runs), 4),
            "robust_accuracy": round(mean(run[name]["robust_accuracy"] for run in runs), 4),
        }
        for name in runs[0]
    }
    fast, pgd = found["fast"], found["pgd"]
    return {
        "unit": "seconds of training, and shares of test records; means over seeds",
        "epsilon": "8/255",
        "seeds": len(SEEDS),
        "epochs": TRAINING.epochs,
        "test_records": len(_part(dataset, "test")[0]),
        **found,
        "rollbacks": [len(run["fast"]["notes"]) for run in runs],
        "share_of_time": round(fast["seconds"] / pgd["seconds"], 3),
        "ratio": {
            "pgd_seconds_by_fast_seconds": round(pgd["seconds"] / fast["seconds"], 2),
            "robust_accuracy_gained": round(fast["robust_accuracy"] - pgd["robust_accuracy"], 4),
        },
        "bar": {"pgd_seconds_by_fast_seconds": 2.5, "robust_accuracy_gained": -0.03},
    }


def _run(dataset: Dataset, seed: int) -> dict[str, dict[str, Any]]:
    """Trains all side by side, and attacks each."""
    x, y = _part(dataset, "train")
    trainers = {
        name: build_trainer(
            _network(dataset, seed),
            Recipe(objective=objective, training=TRAINING),
            x,
            y,
            bounds=dataset.bounds,
            seed=seed,
        )
        for name, objective in OBJECTIVES.items()
    }
    plain = _network(dataset, seed)
    loop, seconds = _torchattacks(plain, x, y, seed), 0.0
    for _ in range(TRAINING.epochs):
        for trainer in trainers.values():
            trainer.run(1)
        began = time.perf_counter()
        next(loop)
        seconds += time.perf_counter() - began
    found = {
        name: {"seconds": trainer.seconds, "notes": trainer.notes, **_judged(trainer.model, dataset)}
        for name, trainer in trainers.items()
    }
    return {**found, "torchattacks_pgd": {"seconds": seconds, **_judged(plain, dataset)}}


def _torchattacks(model: nn.Module, x: Tensor, y: Tensor, seed: int) -> Iterator[None]:
    """An epoch of PGD training at each turn: our batches, steps, optimizer and schedule, the attack of the peer."""
    import torchattacks

    attack = torchattacks.PGD(model, eps=EPSILON, alpha=2.5 * EPSILON / STEPS, steps=STEPS, random_start=True)
    order = PlainUpdate(model, records=len(x), batch_size=TRAINING.batch_size, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=TRAINING.learning_rate)
    steps = steps_per_epoch(len(x), TRAINING.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=TRAINING.epochs * steps)
    for epoch in range(TRAINING.epochs):
        for step in range(steps):
            rows = torch.from_numpy(order.batch(epoch * steps + step))
            crafted = attack(x[rows], y[rows])
            optimizer.zero_grad()
            F.cross_entropy(model.train()(crafted), y[rows]).backward()
            optimizer.step()
            schedule.step()
        yield


def _judged(model: nn.Module, dataset: Dataset) -> dict[str, float]:
    """Accuracy on all test records, as they are and under PGD-20 on the margin with five starts."""
    x, y = _part(dataset, "test")
    threat = Threat(norm="linf", epsilon=EPSILON, bounds=dataset.bounds)
    judge: Callable[[Threat], float] = lambda allowed: (
        PGD(steps=20, loss="margin", restarts=5).run(model, x, y, allowed, seed=0).accuracy
    )
    return {"accuracy": judge(threat.at(0)), "robust_accuracy": judge(threat)}


def _network(dataset: Dataset, seed: int) -> nn.Module:
    return build("model", {"name": "cnn", "channels": (16, 32, 64)}).build_for(dataset.form, seed=seed)


def _part(dataset: Dataset, part: str) -> tuple[Tensor, Tensor]:
    rows = np.flatnonzero(dataset.official == part)
    return torch.from_numpy(dataset.x[rows]), torch.from_numpy(dataset.y[rows])
