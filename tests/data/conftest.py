"""Records, and whoever treats them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.data.treatment import Learnt, TrainingRecords, Treated, Treatment, treat
from assay.models.mlp import MLP
from assay.recipes import Recipe, Training
from assay.threats import Bounds
from assay.training.build import build_trainer
from assay.training.loop import Trainer

Clouds = Callable[..., tuple[np.ndarray, np.ndarray]]
Apply = Callable[..., Treated]


@pytest.fixture(scope="session")
def clouds() -> Clouds:
    """Well separated clouds of points: ``clouds(n, classes=...)``, 3 features."""

    def make(n: int = 200, classes: int = 2, gap: float = 20.0) -> tuple[np.ndarray, np.ndarray]:
        y = np.arange(n) % classes
        x = np.random.default_rng(0).normal(size=(n, 3)) + gap * y[:, None]
        return x.astype(np.float32), y

    return make


def _nobody(records: TrainingRecords, *, epochs: int | None = None) -> Learnt:
    raise AssertionError("this treatment needs no network")


@pytest.fixture(scope="session")
def apply() -> Apply:
    """Treatments without a network: ``apply([treatment], x, y, seed=..., bounds=..., fit=...)``."""

    def run(treatments: Sequence[Treatment], x: np.ndarray, y: np.ndarray, **settings: Any) -> Treated:
        low, high = (torch.full((1,), float(value)) for value in (x.min() - 1, x.max() + 1))
        defaults: dict[str, Any] = {"classes": 2, "seed": 0, "bounds": Bounds(low=low, high=high), "fit": _nobody}
        return treat(treatments, x, y, **{**defaults, **settings})

    return run


@pytest.fixture(scope="session")
def learn() -> Callable[..., Trainer]:
    """A trainer of a small network, its treatments done: ``learn([treatment], x, y, epochs=...)``."""

    def make(treatments: Sequence[Any], x: np.ndarray, y: np.ndarray, *, seed: int = 0, epochs: int = 10) -> Trainer:
        classes = int(y.max()) + 1
        return build_trainer(
            MLP(hidden=(16,)).build(x.shape[1:], classes, seed=3),
            Recipe(data=tuple(treatments), training=Training(epochs=epochs, batch_size=16, learning_rate=0.01)),
            torch.from_numpy(x),
            torch.from_numpy(y),
            bounds=Bounds(low=torch.tensor(float(x.min() - 1)), high=torch.tensor(float(x.max() + 1))),
            classes=classes,
            seed=seed,
        )

    return make


class Fixed:
    """A network whose features and logits are given functions of the records, which takes no training."""

    def __init__(self, features: Callable[[Tensor], Tensor], logits: Callable[[Tensor], Tensor] | None = None) -> None:
        self.features = features
        self.logits = logits or features

    def __call__(self, records: TrainingRecords, *, epochs: int | None = None) -> Learnt:
        return self


@pytest.fixture(scope="session")
def fixed() -> type[Fixed]:
    return Fixed
