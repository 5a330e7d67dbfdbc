"""Clients with a few handwritten digits."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from assay.data.base import Dataset, Normalisation
from assay.models.cnn import CNN
from assay.models.mlp import MLP
from assay.recipes import Recipe, Training
from assay.registry import build
from assay.training.build import build_trainer
from assay.training.loop import Trainer

SGD = Training(optimizer="sgd", learning_rate=0.05, batch_size=8)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return build("dataset", "digits").load()  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def client(digits: Dataset) -> Callable[..., Trainer]:
    """``client(kind, recipe, records=n)``: the trainer of a client with the first n digits, at fresh weights."""

    def make(
        kind: str = "mlp", recipe: Recipe | None = None, *, records: int = 40, normalised: bool = False
    ) -> Trainer:
        network = _network(kind, digits, normalised=normalised)
        x, y = torch.from_numpy(digits.x[:records]), torch.from_numpy(digits.y[:records])
        recipe = recipe or Recipe(training=SGD)
        return build_trainer(network, recipe, x, y, bounds=digits.bounds, seed=0, classes=10)

    return make


def _network(kind: str, digits: Dataset, *, normalised: bool) -> nn.Module:

    form = digits.form
    if normalised:
        form = replace(form, normalisation=Normalisation(mean=(0.3,), deviation=(0.4,)))
    return {"mlp": MLP(hidden=(16,)), "cnn": CNN(channels=(8, 16), hidden=32)}[kind].build_for(form, seed=0)
