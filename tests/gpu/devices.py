"""Where these tests run, and small networks on handwritten digits that they run there and on the CPU."""

import copy
import functools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.data.base import Dataset
from assay.models.base import Architecture
from assay.models.cnn import CNN
from assay.models.lstm import LSTM
from assay.models.mlp import MLP
from assay.recipes import Recipe, Training
from assay.registry import build
from assay.threats import Bounds
from assay.training.build import build_trainer
from tests.device.compare import apart

CPU = torch.device("cpu")
DEVICE = torch.device(os.environ.get("ASSAY_TEST_DEVICE", "cuda"))
"""``ASSAY_TEST_DEVICE=cpu`` tries these tests where there is no GPU: then they compare the CPU with itself.
``ASSAY_TEST_DEVICE=meta`` runs them on ``tests.device.simulated``, which refuses what a GPU refuses."""
needs_gpu = pytest.mark.skipif(DEVICE.type == "cuda" and not torch.cuda.is_available(), reason="there is no GPU here")

ARCHITECTURES: dict[str, Architecture] = {
    "mlp": MLP(hidden=(32,)),
    "cnn": CNN(channels=(8, 16), hidden=32),
    "lstm": LSTM(hidden=12, dropout=0.0, channels_first=True),
}
UNIT = Bounds(low=torch.tensor(0.0), high=torch.tensor(1.0))
CLASSES = 10


@functools.cache
def digits() -> Dataset:
    return build("dataset", "digits").load()


def shape_of(name: str) -> tuple[int, ...]:
    """Of a record as the network takes it: of the LSTM eight channels of eight samples."""
    return (8, 8) if name == "lstm" else (1, 8, 8)


def records(name: str, n: int, *, start: int = 0) -> tuple[Tensor, Tensor]:
    """Some records and labels on the CPU."""
    x, y = digits().x[start : start + n], digits().y[start : start + n]
    return torch.from_numpy(x).reshape(-1, *shape_of(name)), torch.from_numpy(y)


def network(name: str) -> nn.Module:
    """As it is before training."""
    return ARCHITECTURES[name].build(shape_of(name), CLASSES, seed=1)


@functools.cache
def _trained(name: str) -> nn.Module:
    model = network(name)
    recipe = Recipe(training=Training(epochs=6, learning_rate=0.01))
    build_trainer(model, recipe, *records(name, 600), bounds=UNIT, seed=1, classes=CLASSES).run()
    return model


def trained(name: str) -> nn.Module:
    """After a short training on the CPU, a copy in evaluation mode."""
    return copy.deepcopy(_trained(name)).eval()


@contextmanager
def without_gpu() -> Iterator[None]:
    """In here Assay finds no GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        yield


def on_the_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu() for name, tensor in tensors.items()}


def assert_alike(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], *, within: float) -> None:
    """Tensors of two devices, by name: differences on the scale of the greatest entry of each."""
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        found = ours[name].detach().cpu()
        assert found.dtype == expected.dtype, name
        difference = apart(found, expected) if expected.numel() else 0.0
        assert difference <= within, f"{name}: {difference:.3g} apart, as a share of its greatest entry"


def assert_same_bits(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not torch.equal(ours[name].cpu(), theirs[name].cpu())]
    assert not different


def numbered(tensors: Any) -> dict[str, Tensor]:
    """A list of tensors, by place."""
    return {str(place): tensor for place, tensor in enumerate(tensors)}


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)
