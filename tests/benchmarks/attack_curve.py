"""Robust accuracy of an X-ray network at eight radii: our curve, and torchattacks' PGD run once a radius.

Both climb cross-entropy, with 20 steps, one start and one thread, on the network after plain and after adversarial
training. The peer is given batches of the size that suits it best. A stronger attack at the largest radius says how
near to the truth both are.
"""

import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay.attacks.pgd import PGD
from assay.data.base import Dataset
from assay.data.images.medmnist import PneumoniaMNIST
from assay.data.splits import Split, Splitting, split
from assay.models.cnn import CNN
from assay.recipes import Recipe
from assay.threats import Threat
from assay.training.build import build_trainer

ROUNDS = 3
STEPS = 20
EPSILONS = [k / 255 for k in range(1, 9)]
PEER_BATCH = 128
OBJECTIVES: dict[str, Any] = {"plain": "standard", "adversarial": {"name": "pgd", "epsilon": 4 / 255, "steps": 5}}
STRONG = PGD(steps=100, loss="margin", restarts=3, warm_start=False)
ALLOWED = 0.5
"""Points by which our robust accuracy may lie above the peer's."""
BEHIND = 1.0
"""Points by which it may lie above that of the stronger attack, at the largest radius."""

Curve = Callable[[], list[float]]


def measure() -> dict[str, Any]:
    """Seconds, passes and robust accuracies of both on both networks; their ratios."""
    torch.set_num_threads(1)
    dataset = PneumoniaMNIST().load()
    parts = split(dataset, Splitting(), fold=0, repeat=0, seed=0)
    found = {
        name: _compare(_trained(dataset, parts, objective), dataset, parts) for name, objective in OBJECTIVES.items()
    }
    excess = {name: one["greatest_excess_points"] for name, one in found.items()}
    return {
        "unit": "seconds of one curve, median of alternating rounds",
        "records": len(parts.test),
        "epsilons": [f"{255 * epsilon:g}/255" for epsilon in EPSILONS],
        **found,
        "ratio": {
            **{f"{name}_speed_up": one["speed_up"] for name, one in found.items()},
            **{f"{name}_no_weaker": float(points <= ALLOWED) for name, points in excess.items()},
            **{
                f"{name}_near_the_strong": float(one["points_above_the_strong"] <= BEHIND)
                for name, one in found.items()
            },
        },
        "bar": {
            "plain_speed_up": 3.0,
            "adversarial_speed_up": 2.0,
            "plain_no_weaker": 1.0,
            "adversarial_no_weaker": 1.0,
            "plain_near_the_strong": 1.0,
            "adversarial_near_the_strong": 1.0,
        },
    }


def _trained(dataset: Dataset, parts: Split, objective: Any) -> nn.Module:
    recipe = Recipe.model_validate({"objective": objective, "training": {"epochs": 4, "batch_size": 64}})
    model = CNN(channels=(16, 32, 64)).build_for(dataset.form, seed=0)
    x, y = _records(dataset, parts.train)
    build_trainer(model, recipe, x, y, bounds=dataset.bounds, classes=dataset.classes, seed=0).run()
    return model.eval()


def _records(dataset: Dataset, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    x, y = (torch.from_numpy(np.asarray(part)[rows]) for part in (dataset.x, dataset.y))
    return x, y


def _compare(model: nn.Module, dataset: Dataset, parts: Split) -> dict[str, Any]:
    x, y = _records(dataset, parts.test)
    threat = Threat(norm="linf", epsilon=0.0, bounds=dataset.bounds)
    seen = _Seen(model)
    curves: dict[str, Curve] = {
        "ours": lambda: [
            judged.accuracy for judged in PGD(steps=STEPS).curve(seen, x, y, threat, EPSILONS, seed=0).values()
        ],
        "torchattacks": lambda: [_peer(seen, x, y, epsilon) for epsilon in EPSILONS],
    }
    seconds: dict[str, list[float]] = {name: [] for name in curves}
    found: dict[str, dict[str, Any]] = {}
    for _ in range(ROUNDS):
        for name, curve in curves.items():
            seen.passes = seen.forward_alone = 0
            resident = _forget_peak()
            began = time.perf_counter()
            accuracies = curve()
            seconds[name].append(time.perf_counter() - began)
            found[name] = {
                "robust_accuracy": [round(100 * accuracy, 2) for accuracy in accuracies],
                "forward_and_back_a_record": round(seen.passes / len(x), 1),
                "forward_alone_a_record": round(seen.forward_alone / len(x), 1),
                "peak_memory_above_the_start_mb": _peak() - resident,
            }
    median = {name: statistics.median(values) for name, values in seconds.items()}
    pairs = zip(found["ours"]["robust_accuracy"], found["torchattacks"]["robust_accuracy"], strict=True)
    strong = 100 * STRONG.run(model, x, y, threat.at(EPSILONS[-1]), seed=0).accuracy
    return {
        name: {
            "seconds": round(median[name], 2),
            "rounds": [round(value, 2) for value in seconds[name]],
            "milliseconds_a_pass_of_all": round(1e3 * median[name] / found[name]["forward_and_back_a_record"], 1),
            **found[name],
        }
        for name in curves
    } | {
        "speed_up": round(median["torchattacks"] / median["ours"], 2),
        "greatest_excess_points": round(max(ours - theirs for ours, theirs in pairs), 2),
        "points_above_the_strong": round(found["ours"]["robust_accuracy"][-1] - strong, 2),
        STRONG.label: {f"{255 * EPSILONS[-1]:g}/255": round(strong, 2)},
    }


class _Seen(nn.Module):
    """Counts the records that a network is given, with and without a way back."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.passes = self.forward_alone = 0

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad:
            self.passes += len(x)
        else:
            self.forward_alone += len(x)
        return self.model(x)


def _peer(model: nn.Module, x: Tensor, y: Tensor, epsilon: float) -> float:
    """The peer's own PGD from its own random start, and the accuracy that it leaves."""
    import torchattacks

    attack = torchattacks.PGD(model, eps=epsilon, alpha=2.5 * epsilon / STEPS, steps=STEPS, random_start=True)
    torch.manual_seed(0)
    withstood = 0
    for images, labels in zip(x.split(PEER_BATCH), y.split(PEER_BATCH), strict=True):
        moved = attack(images, labels)
        with torch.no_grad():
            withstood += int((model(moved).argmax(1) == labels).sum())
    return withstood / len(x)


def _forget_peak() -> int:
    """Hand freed memory back to the system, and start a new peak (Linux); what stays resident, in MB."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return _peak()


def _peak() -> int:
    """Greatest resident memory of this process since the last ``_forget_peak``, in MB."""
    (line,) = [line for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if "VmHWM" in line]
    return int(line.split()[1]) // 1024
