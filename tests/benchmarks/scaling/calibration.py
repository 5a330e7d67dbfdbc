"""Times steps of Assay's training loop on this processor, and fits the step-time model to a few of them."""

import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from assay.models.resnet import Basic, ResNet
from assay.recipes import Recipe
from assay.threats import Bounds
from assay.training.build import build_trainer
from assay.training.loop import Trainer
from tests.benchmarks.scale_model import Hardware, Workload, step

Key = tuple[int, int]
"""Batch and number of attack steps."""
SEEN: tuple[Key, ...] = ((32, 0), (64, 0), (32, 2), (64, 2))
UNSEEN: tuple[Key, ...] = ((48, 0), (96, 0), (32, 3), (48, 5), (64, 4))
ROUNDS = 12


def timings(keys: Sequence[Key]) -> dict[Key, float]:
    """Returns the least processor seconds of a step for each batch and number of attack steps, of rounds in turns.

    The least, because other work on the machine can only add to it.

    Args:
        keys: batches and numbers of attack steps.

    Returns:
        Seconds by key.
    """
    torch.set_num_threads(1)
    trainers = {key: _trainer(*key) for key in keys}
    found: dict[Key, list[float]] = {key: [] for key in keys}
    for number in range(ROUNDS + 1):
        for key, trainer in trainers.items():
            began = time.process_time()
            trainer.run(steps=1)
            if number:  # the first step claims memory
                found[key].append(time.process_time() - began)
    return {key: min(seconds) for key, seconds in found.items()}


def _trainer(batch: int, attack_steps: int) -> Trainer:
    draw = torch.Generator().manual_seed(0)
    n = batch * (ROUNDS + 1)
    x, y = torch.rand(n, 3, 32, 32, generator=draw), torch.randint(10, (n,), generator=draw)
    torch.manual_seed(0)
    model = ResNet(Basic, (1, 1, 1, 1), 3, 10, norm="batch", stem="small", width=16)
    objective = {"name": "pgd", "epsilon": 0.03, "steps": attack_steps} if attack_steps else {"name": "standard"}
    recipe = Recipe.model_validate(
        {"objective": objective, "training": {"epochs": 1, "batch_size": batch, "optimizer": "sgd"}}
    )
    bounds = Bounds(low=torch.tensor(0.0), high=torch.tensor(1.0))
    return build_trainer(model, recipe, x, y, bounds=bounds, seed=0, classes=10)


def fitted(measured: Mapping[Key, float]) -> dict[str, float]:
    """Fits overhead of a pass, seconds an image and the share of an attack step, each to the smallest relative error.

    Args:
        measured: seconds of a step by batch and number of attack steps; some with attacks and some without.

    Returns:
        The three figures.
    """
    rows = np.array([[steps + 1, batch, batch * steps] for batch, steps in measured], float)
    seconds = np.array(list(measured.values()))
    overhead, image, attacked = np.linalg.lstsq(rows / seconds[:, None], np.ones(len(seconds)), rcond=None)[0]
    return {"overhead": float(overhead), "seconds_an_image": float(image), "attack_share": float(attacked / image)}


def predicted(fit: Mapping[str, float], key: Key) -> float:
    """Returns the seconds of a step by the model.

    Args:
        fit: result of ``fitted``.
        key: batch and number of attack steps.

    Returns:
        The seconds.
    """
    hardware = Hardware(gpus=1, images_a_second=1 / fit["seconds_an_image"], overhead=fit["overhead"])
    workload = Workload(batch=key[0], attack_steps=key[1], attack_share=fit["attack_share"])
    return step(hardware, workload).seconds
