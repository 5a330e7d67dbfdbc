"""Small networks that are trained in a second, as subjects of evaluations."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

import assay.data
import assay.models
import assay.objectives  # noqa: F401
from assay import seeds
from assay.data.base import Dataset
from assay.data.splits import Split
from assay.evaluations.subject import Subject
from assay.recipes import Recipe, Training
from assay.registry import build
from assay.training.build import build_trainer


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Trains one network of a kind on rows of a data set; also the ``TrainAgain`` of its subject."""

    data: Dataset
    model: dict[str, Any]
    seed: int
    training: dict[str, Any] = field(default_factory=dict)

    def __call__(self, rows: np.ndarray, name: str = "", recipe: Recipe | None = None) -> nn.Module:
        seed = self.seed if not name else seeds.derive(self.seed, name) % 2**31
        network = build("model", self.model).build_for(self.data.form, seed=seed)  # type: ignore[attr-defined]
        x, y = torch.from_numpy(self.data.x[rows]), torch.from_numpy(self.data.y[rows])
        made = Recipe(training=Training(**{"batch_size": 32, "learning_rate": 0.01, **self.training}))
        build_trainer(
            network, made, x, y, bounds=self.data.bounds, classes=self.data.classes, seed=seed
        ).run()  # fmt: skip
        return network.eval()


def split_of(data: Dataset, *, seed: int, test: int, train: int) -> Split:
    """Returns training and test rows, drawn by a seed."""
    order = seeds.stream(seed, "rows").permutation(len(data))
    none = np.arange(0)
    return Split(
        train=np.sort(order[test : test + train]), validation=none, calibration=none, test=np.sort(order[:test])
    )


def subject_of(trainer: Trainer, split: Split, model: nn.Module | None = None) -> Subject:
    """Returns the network with its data, or another network in its place."""
    network = trainer(split.train) if model is None else model
    return Subject(
        model=network,
        dataset=trainer.data,
        split=split,
        recipe=None,
        log=None,
        seed=trainer.seed,
        train=trainer,
    )


def accuracy(subject: Subject) -> float:
    """Share of the test records that are answered right."""
    rows = subject.split.test
    return float((subject.logits(rows).argmax(1) == subject.dataset.y[rows]).mean())
