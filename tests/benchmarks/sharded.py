"""One model's evaluation under attack: in this process, and spread by records over two workers of Ray.

The peer is the same evaluation in one process. Start of Ray and the workers' first imports are measured apart.
"""

import statistics
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from assay.cluster.executor import RayExecutor
from assay.cluster.session import set_defaults
from assay.data.images.medmnist import PneumoniaMNIST
from assay.data.splits import Split, Splitting, split
from assay.evaluations.robustness import Robustness
from assay.evaluations.subject import Subject
from assay.executors import Executor, LocalExecutor
from assay.models.cnn import CNN
from assay.recipes import Recipe
from assay.registry import build
from assay.results import Finding, Measurement
from assay.training.build import build_trainer

ROUNDS = 2
EVALUATION = {
    "epsilons": [k / 255 for k in (2, 4, 8)],
    "attacks": [{"name": "pgd", "steps": 50, "restarts": 3}, {"name": "square", "queries": 500}],
}
"""Takes about three minutes in one process."""


def measure() -> dict[str, Any]:
    """Seconds of both, their ratio, and whether they found the same."""
    set_defaults()
    torch.set_num_threads(1)
    subject = _subject()
    evaluation = Robustness.model_validate(EVALUATION)
    began = time.perf_counter()
    with RayExecutor(workers=2) as pool:
        list(pool.map(_warm, range(4), None))
        start = time.perf_counter() - began
        executors: dict[str, Executor] = {"one_process": LocalExecutor(), "two_workers": pool}
        seconds: dict[str, list[float]] = {name: [] for name in executors}
        found: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            for name, executor in executors.items():
                began = time.perf_counter()
                found[name] = _values(evaluation.measure(replace(subject, executor=executor)))
                seconds[name].append(time.perf_counter() - began)
                print(f"{name}: {seconds[name][-1]:.1f} s", file=sys.stderr)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    same = found["one_process"] == found["two_workers"]
    return {
        "unit": "seconds of one evaluation, median of alternating rounds",
        "records": len(subject.split.test),
        "rounds": {name: [round(value, 1) for value in values] for name, values in seconds.items()},
        "start_and_import_seconds": round(start, 1),
        "the_same_figures": same,
        "ratio": {"speed_up": round(median["one_process"] / median["two_workers"], 2), "same": float(same)},
        "bar": {"speed_up": 1.7, "same": 1.0},
    }


def _subject() -> Subject:
    """The X-ray network after two epochs of adversarial training, which leaves the attacks something to do."""
    dataset = PneumoniaMNIST().load()
    parts: Split = split(dataset, Splitting(), fold=0, repeat=0, seed=0)
    recipe = Recipe.model_validate(
        {"objective": {"name": "pgd", "epsilon": 4 / 255, "steps": 5}, "training": {"epochs": 2, "batch_size": 64}}
    )
    model = CNN(channels=(16, 32, 64)).build_for(dataset.form, seed=0)
    x, y = (torch.from_numpy(np.asarray(part)[parts.train]) for part in (dataset.x, dataset.y))
    trainer = build_trainer(model, recipe, x, y, bounds=dataset.bounds, classes=2, seed=0)
    trainer.run()
    return Subject(model=trainer.model.eval(), dataset=dataset, split=parts, recipe=None, log=None, seed=0)


def _warm(item: int, shared: None) -> None:
    build("attack", "pgd")


def _values(found: list[Finding] | Any) -> list[float]:
    return [one.value for one in found if isinstance(one, Measurement)]
